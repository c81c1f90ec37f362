"""The README's examples do what it says, as they stand there."""

import os
import pathlib
import re
import runpy
import shlex
import subprocess
import sys

import pytest

from tests import programs

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ATTACK, SERVER_ATTACK, MODEL = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def printed(example, folder):
  """What an example prints."""
  (folder / "example.py").write_text(example)
  result = subprocess.run(
    [sys.executable, folder / "example.py"], capture_output=True, text=True, timeout=300
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_the_attack(tmp_path):
  lines = printed(ATTACK, tmp_path).splitlines()
  accuracy = {line.split()[0]: float(line.split()[1]) for line in lines}
  assert accuracy["mean"] < 0.5
  assert accuracy["coordinate_median"] > 0.85


def test_the_attack_of_the_server(tmp_path):
  assert float(printed(SERVER_ATTACK, tmp_path)) < 1e-3


def test_the_model(tmp_path):
  (tmp_path / "my_models.py").write_text(MODEL)
  command = next(
    line.split("experiments.crpa ")[1] for line in README.splitlines() if "my_models:small" in line
  )
  result = programs.run(
    "crpa", *command.split(), "rounds=2", "generator_steps=1", f"output_dir={tmp_path / 'run'}",
    env=os.environ | {"PYTHONPATH": str(tmp_path)},
  )  # fmt: skip
  assert result.returncode == 0, result.stderr


def test_examples_are_short():
  for example in (ATTACK, SERVER_ATTACK, MODEL):
    assert len(example.splitlines()) < 40


def commands(path):
  """Every `python -m experiments...` of a text, its placeholders filled in."""
  text = path.read_text().replace("\\\n", " ").replace("<option>", "")
  found = re.findall(r"^ {4}(?:\.venv/bin/)?python -m (experiments\..*)$", text, re.MULTILINE)
  if path == COVERAGE:
    found = [f"experiments.{one}" for one in re.findall(r"`(\w+ \w+=[^`]*)`", text)]
    found = [one for one in found if "..." not in one]
  return [shlex.split(re.sub(r"<.*?>", "1", one), comments=True) for one in found]


COVERAGE = ROOT / "experiments" / "coverage.md"
TEXTS = [
  ROOT / "README.md",
  ROOT / "experiments" / "README.md",
  COVERAGE,
  ROOT / "experiments" / "benchmarks" / "README.md",
  *sorted((ROOT / "experiments" / "results").glob("*/README.md")),
]


def anchors(path):
  """What a heading can be linked by, as GitHub makes it."""
  headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
  return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
  "path", sorted({*TEXTS, *ROOT.glob("*/README.md")}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_lead_somewhere(path):
  for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
    name, _, anchor = link.partition("#")
    target = path.parent / name if name else path
    assert target.exists(), link
    assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_understood(path, monkeypatch, capsys):
  """By Hydra: every option is there and can take the value."""
  assert commands(path)
  for command in commands(path):
    if "--help" in command:
      continue
    monkeypatch.setattr(sys, "argv", [*command, "--cfg", "job"])
    status = 0
    try:
      runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
      status = ended.code
    assert status == 0, (command, capsys.readouterr().err)
