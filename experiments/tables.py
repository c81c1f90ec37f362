"""Tables in Markdown."""

from collections.abc import Iterable

import pandas as pd


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
  """The lines of a table."""
  head = list(head)
  lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
  return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def number(value: float, form: str) -> str:
  """A value in a format; empty if it is not there."""
  return "" if pd.isna(value) else f"{value:{form}}"
