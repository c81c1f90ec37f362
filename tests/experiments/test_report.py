"""The report of a results folder: what stands in the files, and nothing from elsewhere."""

import base64
import html.parser
import json

import numpy as np
import pytest
from PIL import Image

from experiments import report
from experiments.options import ConfigError
from tests import programs

HOSTILE = "<script>alert(1)</script>"
FOREIGN = """\
![a](http://a/b.png) ![b][x] ![x] [c](javascript:alert(1)) [d][x] [x] <http://a.b> <a@b.c>

[x]: javascript:alert(1)
"""


class Page(html.parser.HTMLParser):
  """The tags and the text of a page."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.words = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.words.append(data)

  def attributes(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "a run"
  (path / "images").mkdir(parents=True)
  for name, grey in (("curve", 10), ("round_0005", 20), ("round_0010", 30)):
    Image.fromarray(np.full([4, 4], grey, np.uint8)).save(path / "images" / f"{name}.png")
  (path / "config.yaml").write_text(f"dataset: digits\nmodel: '{HOSTILE}'\npairs: [4-9]\n")
  (path / "experiment.txt").write_text("information_stealing")
  summary = {
    "in_words": f"It was {HOSTILE}.",
    "accuracy": 0.123456789012345,
    "settings": [{"a": 1}, {"a": None}],
    "versions": {"numpy": "1.2.3"},
    "device": "GPU:0",
  }
  (path / "summary.json").write_text(json.dumps(summary))
  (path / "metrics.csv").write_text(
    f"round,loss,note\n0,0.10000000149011612,NA\n1,1e-07,{HOSTILE}\n"
  )
  (path / "failures.csv").write_text("run,reason\n")
  table = f"| a | b |\n|---|---|\n| 1 > 0 | {HOSTILE} |\n"
  (path / "README.md").write_text("What was read out of it.")
  (path / "report.md").write_text(f"# Found `x < y`\n\n{HOSTILE}\n\n{FOREIGN}\n\n{table}")
  return path


def test_everything_in_the_files_is_shown(folder):
  page = Page(report.write(folder).read_text())
  for text in (
    "information stealing", "a run", f"It was {HOSTILE}.", "0.123456789012345", "settings.1.a",
    "numpy", "1.2.3", "GPU:0", "0.10000000149011612", "1e-07", "NA", "1 > 0", "x < y", "['4-9']",
  ):  # fmt: skip
    assert any(text in words for words in page.words), text
  assert "failures.csv" not in page.words
  assert "What was read out of it." not in page.words


def test_pictures_are_embedded_and_those_of_rounds_come_last(folder):
  page = Page(report.write(folder).read_text())
  pictures = page.attributes("img")
  assert [picture["alt"] for picture in pictures] == ["curve", "round 0005", "round 0010"]
  for picture, name in zip(pictures, ("curve", "round_0005", "round_0010"), strict=True):
    data = picture["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == (folder / "images" / f"{name}.png").read_bytes()


def test_nothing_is_fetched_and_nothing_runs(folder):
  page = Page(report.write(folder).read_text())
  assert not page.attributes("script")
  assert not page.attributes("link")
  assert not page.attributes("a")
  for _, attributes in page.tags:
    for value in attributes.values():
      assert "//" not in (value or "").partition(",")[0]


def test_a_sweep_leads_to_the_reports_of_its_runs(folder):
  run = folder / "runs" / "crpa-4 9"
  run.mkdir(parents=True)
  (run / "config.yaml").write_text("seed: 1\n")
  report.write(run)
  (folder / "runs" / "unfinished").mkdir()
  links = Page(report.write(folder).read_text()).attributes("a")
  assert [link["href"] for link in links] == ["runs/crpa-4%209/report.html"]


def test_a_folder_with_nothing_but_a_config_has_a_report(tmp_path):
  (tmp_path / "config.yaml").write_text("seed: 1\n")
  assert "seed" in Page(report.write(tmp_path).read_text()).words


def test_the_script(folder):
  result = programs.run("report", f"folder='{folder}'")
  assert result.returncode == 0, result.stderr
  assert f"Report: {folder / 'report.html'}" in result.stdout


@pytest.mark.parametrize(
  ("file", "text"),
  [
    ("config.yaml", "pairs: [4-9"),
    ("config.yaml", "- 1"),
    ("summary.json", '{"accuracy": 0.'),
    ("summary.json", "[]"),
    ("metrics.csv", "round,loss\n0,1\n0,1,2,3\n"),
    ("report.md", b"\xff\xfe"),
  ],
)
def test_a_damaged_file_is_refused(file, text, folder):
  (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ConfigError, match=rf"folder: .*/{file} cannot be read: "):
    report.run(report.ReportConfig(folder=str(folder)))


@pytest.mark.parametrize("options", [["folder=/nowhere"], []])
def test_bad_input(options):
  result = programs.run("report", *options)
  assert result.returncode == 2
  assert "folder" in result.stderr
