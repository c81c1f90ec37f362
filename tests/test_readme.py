"""The README's examples do what it says, as they stand there."""

import os
import pathlib
import re
import subprocess
import sys

from tests import programs

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
ATTACK, MODEL = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_attack(tmp_path):
  (tmp_path / "example.py").write_text(ATTACK)
  result = subprocess.run(
    [sys.executable, tmp_path / "example.py"], capture_output=True, text=True, timeout=300
  )
  assert result.returncode == 0, result.stderr
  accuracy = {line.split()[0]: float(line.split()[1]) for line in result.stdout.splitlines()}
  assert accuracy["mean"] < 0.5
  assert accuracy["coordinate_median"] > 0.85


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
  for example in (ATTACK, MODEL):
    assert len(example.splitlines()) < 45
