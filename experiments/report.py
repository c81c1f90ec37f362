"""One HTML file that shows a results folder: pictures embedded, nothing fetched from elsewhere."""

import base64
import contextlib
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jinja2
import markdown
import markupsafe
import pandas as pd
import yaml

from experiments import program, results_folder
from experiments.options import ConfigError, option
from tff_attacks import files

SUMMARY = """\
Writes report.html of a run, a sweep or a comparison: what happened in words, pictures, tables, \
every option, versions and device. Runs and sweeps write it themselves when they end; this is for \
older ones, and for those that are still running."""

FILE = "report.html"
_TEMPLATES = pathlib.Path(__file__).parent / "templates"
_ENVIRONMENT = ("commit", "versions", "runtime", "device", "intra_op_threads", "peak_memory_mb")
_IN_WORDS = "in_words"
_FOREIGN = (
  *("html", "autolink", "automail", "link", "reference", "short_reference"),
  *("image_link", "image_reference", "short_image_ref"),
)
"""Of Markdown: what fetches something or leads elsewhere."""
_ROUND = re.compile(r"round_(\d+)")


@dataclasses.dataclass
class ReportConfig:
  """Options of `python -m experiments.report`."""

  folder: str | None = option(None, "Results folder.")


class Picture(NamedTuple):
  """A picture of the results folder.

  Attributes:
    name: What it shows, after its file.
    data: The file, as Base64.
  """

  name: str
  data: str


def run(config: ReportConfig) -> int:
  """Writes the report and returns the exit status."""
  if config.folder is None:
    raise ConfigError("folder: give the results folder")
  folder = pathlib.Path(config.folder)
  if not (folder / "config.yaml").is_file():
    raise ConfigError(f"folder: {config.folder} is no results folder")
  try:
    print(f"Report: {write(folder)}")
  except (files.UnreadableError, PermissionError) as error:
    raise ConfigError(f"folder: {error}") from error
  return 0


def write(folder: pathlib.Path) -> pathlib.Path:
  """Writes `report.html` from the other files of a results folder, and returns its path.

  Raises:
    UnreadableError: If one of them is damaged.
  """
  folder = pathlib.Path(folder)
  summary = _parsed(folder / "summary.json", json.loads)
  pictures = [_picture(path) for path in sorted((folder / "images").glob("[!.]*.png"))]
  loader = jinja2.FileSystemLoader(_TEMPLATES)
  # Whatever stands in a results folder is shown as text, never as HTML.
  environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
  html = environment.get_template("report.html").render(
    title=_text(folder / results_folder.EXPERIMENT).replace("_", " ") or "results",
    folder=folder.name,
    in_words=summary.get(_IN_WORDS),
    # What was written about a folder is not what came out of it.
    texts=[_html(_text(p)) for p in sorted(folder.glob("*.md")) if p.name != "README.md"],
    statements=[_text(path) for path in sorted(folder.glob("privacy.txt"))],
    pictures=[one for one in pictures if not _ROUND.fullmatch(one.name)],
    rounds=[one for one in pictures if _ROUND.fullmatch(one.name)],
    summary=_rows({k: v for k, v in summary.items() if k not in (*_ENVIRONMENT, _IN_WORDS)}),
    environment=_rows({k: summary[k] for k in _ENVIRONMENT if k in summary}),
    config=_rows(_parsed(folder / "config.yaml", yaml.safe_load)),
    tables=[
      (path.name, _table(path))
      for path in sorted(folder.glob("[!.]*.csv"))
      if len(_text(path).splitlines()) > 1
    ],
    runs=sorted(path.parent.name for path in folder.glob(f"runs/*/{FILE}")),
  )
  files.write_text(folder / FILE, html)
  return folder / FILE


def _text(path: pathlib.Path) -> str:
  with _readable(path):
    return path.read_text() if path.is_file() else ""


def _parsed(path: pathlib.Path, parse: Callable[[str], Any]) -> dict[str, Any]:
  text = _text(path)
  with _readable(path):
    values = parse(text or "{}")
    if not isinstance(values, dict):
      raise ValueError("it has no names with values")
  return values


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except (ValueError, yaml.YAMLError) as error:
    raise files.UnreadableError(f"{path} cannot be read: {error}") from error


def _picture(path: pathlib.Path) -> Picture:
  return Picture(path.stem, base64.b64encode(path.read_bytes()).decode())


def _html(text: str) -> markupsafe.Markup:
  """A file in Markdown; its HTML, pictures and links, if it has any, are text."""
  converter = markdown.Markdown(extensions=["tables"])
  converter.preprocessors.deregister("html_block")
  for name in _FOREIGN:
    converter.inlinePatterns.deregister(name)
  return markupsafe.Markup(converter.convert(text))


def _table(path: pathlib.Path) -> markupsafe.Markup:
  # As they stand in the file: no number is rounded, nor taken for another.
  with _readable(path):
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
  return markupsafe.Markup(frame.to_html(index=False, border=0))


def _rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
  """Names and values; those within a value get its name before theirs."""
  rows = []
  for name, value in values.items():
    if isinstance(value, dict):
      rows += _rows(value, f"{prefix}{name}.")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
      for i, one in enumerate(value):
        rows += _rows(one, f"{prefix}{name}.{i}.")
    else:
      rows.append((prefix + name, "null" if value is None else str(value)))
  return rows


if __name__ == "__main__":
  program.main("experiments.report", ReportConfig, SUMMARY, run)
