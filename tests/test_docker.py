"""The entry point of the images, outside of one; and that both are the same but for the GPU."""

import os
import pathlib
import subprocess
import sys

import pytest

DOCKER = pathlib.Path(__file__).parents[1] / "docker"


def enter(*arguments):
  # As in the image, where the virtual environment stands first.
  path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
  return subprocess.run(
    [DOCKER / "entrypoint", *arguments],
    env=os.environ | {"PATH": path},
    capture_output=True,
    text=True,
    timeout=120,
  )


@pytest.mark.parametrize("name", ["crpa", "combinations", "adversarial_leakage", "doctor"])
def test_the_first_word_names_an_experiment(name):
  result = enter(name, "--help")
  assert result.returncode == 0, result.stderr
  assert f"experiments.{name}" in result.stdout


def test_the_exit_status_is_the_experiments():
  result = enter("crpa", "rounds=0")
  assert result.returncode == 2
  assert "rounds: 0 is not allowed" in result.stderr


def test_other_commands_run_as_they_stand():
  assert enter("echo", "a  b", "crpa").stdout == "a  b crpa\n"


def test_modules_that_are_no_scripts_are_not_run():
  assert enter("sweep").returncode == 127


def test_options_keep_their_spaces():
  result = enter("crpa", "dataset=no such")
  assert result.returncode == 2
  assert "'no such' is not allowed" in result.stderr


def test_both_images_run_the_same_steps():
  steps = []
  for kind in ("gpu", "cpu"):
    text = (DOCKER / f"Dockerfile.{kind}").read_text()
    text = text.replace(" TF_FORCE_GPU_ALLOW_GROWTH=true", "")
    steps.append(
      [
        line
        for line in text.splitlines()
        if line and not line.startswith(("#", "FROM", "ENV CUDA"))
      ]
    )
  assert steps[0] == steps[1]


def test_the_gpu_image_has_the_locked_tensorflow():
  locked = (DOCKER.parent / "requirements.txt").read_text()
  base = (DOCKER / "Dockerfile.gpu").read_text().split("tensorflow/tensorflow:")[1].split("-")[0]
  assert f"\ntensorflow=={base.rpartition('.')[0]}." in locked
