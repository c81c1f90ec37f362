"""Tables in Markdown."""

from collections.abc import Iterable


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
  """The lines of a table."""
  head = list(head)
  lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
  return [lines[0], "|" + "---|" * len(head), *lines[1:]]
