"""Whatever ends a run, at whatever moment: nothing is lost."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from PIL import Image

from tests import programs
from tests.experiments.test_crpa import assert_same_numbers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROUNDS = 40
OPTIONS = [
  f"rounds={ROUNDS}", "images_per_class=40", "generator_steps=3", "checkpoint_every=2",
  "image_every=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  result = programs.run("crpa", *OPTIONS, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  return folder


def rows(folder):
  path = folder / "metrics.csv"
  return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def assert_readable(folder):
  """Every file that is not hidden, and the tables have each round once."""
  for path in folder.glob("[!.]*.csv"):
    assert pd.read_csv(path)["round"].is_unique, path
  if (folder / "metrics.csv").exists():
    rounds = pd.read_csv(folder / "metrics.csv")["round"]
    assert rounds.tolist() == list(range(len(rounds)))
  for path in folder.glob("[!.]*.json"):
    json.loads(path.read_text())
  for path in folder.glob("[!.]*.npz"):
    with np.load(path) as arrays:
      assert arrays.files
  for path in folder.glob("images/[!.]*"):
    Image.open(path).load()
  assert yaml.safe_load((folder / "config.yaml").read_text())["rounds"] == ROUNDS


def wait(program, folder, rng):
  """Until a random moment of one of the next rounds."""
  goal = rows(folder) + rng.randint(1, 3)
  programs.wait_until(lambda: rows(folder) >= goal, program)
  time.sleep(rng.uniform(0, 0.5))


def left_behind(folder):
  return [path for path in folder.rglob("*") if re.search(r"temp\d|^\..+\.\d", path.name)]


def test_a_program_killed_eight_times(undisturbed, tmp_path):
  rng = random.Random(0)
  folder = tmp_path / "run"
  arguments, kills = [*OPTIONS, f"output_dir={folder}"], 0
  while kills < 8:
    with programs.started("crpa", *arguments) as program:
      if kills == 4:  # Once before it goes on: its imports alone take longer.
        time.sleep(rng.uniform(0, 3))
      else:
        wait(program, folder, rng)
      assert program.poll() is None, program.communicate()[0]
    kills += 1
    assert_readable(folder)
    arguments = [f"resume={folder}"]
  result = programs.run("crpa", *arguments)
  assert result.returncode == 0, result.stderr
  assert_readable(folder)
  assert_same_numbers(undisturbed, folder)
  assert not left_behind(folder)


def test_a_stock_worker_killed_four_times(tmp_path):
  rng = random.Random(1)
  whole, folder = tmp_path / "whole", tmp_path / "run"
  assert programs.run("crpa", *OPTIONS, "runtime=worker", f"output_dir={whole}").returncode == 0
  arguments = [*OPTIONS, "runtime=worker", f"output_dir={folder}"]
  for _ in range(4):
    with programs.started("crpa", *arguments) as program:
      wait(program, folder, rng)
      (worker,) = psutil.Process(program.pid).children()
      worker.kill()
      output, _ = program.communicate(timeout=100)
    assert program.returncode == 1, output
    assert "error: the TFF worker ended (exit status -9); what was saved can be resumed." in output
    assert "Traceback" not in output
    assert_readable(folder)
    arguments = [f"resume={folder}"]
  result = programs.run("crpa", *arguments)
  assert result.returncode == 0, result.stderr
  assert_same_numbers(whole, folder)


def with_workers(addresses):
  return [*OPTIONS, "runtime=workers", f"workers=[{','.join(addresses)}]"]


@pytest.fixture(scope="module")
def undisturbed_by_workers(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed_by_workers")
  with programs.two_workers() as (_, addresses):
    arguments = [*with_workers(addresses), f"output_dir={folder}"]
    result = programs.run("crpa", *arguments)
  assert result.returncode == 0, result.stderr
  return folder


@pytest.mark.parametrize("seed", [0, 1])
def test_one_worker_of_two_killed_and_then_the_other(seed, tmp_path, undisturbed_by_workers):
  rng = random.Random(seed)
  folder = tmp_path / "run"
  with programs.two_workers() as (workers, addresses):
    arguments = [*with_workers(addresses), f"output_dir={folder}"]
    with programs.started("crpa", *arguments) as program:
      wait(program, folder, rng)
      workers.pop(rng.randrange(2)).kill()
      before = rows(folder)
      programs.wait_until(lambda: rows(folder) >= before + 2, program)
      wait(program, folder, rng)
      workers.pop().kill()
      output, _ = program.communicate(timeout=100)
  assert program.returncode == 1
  assert "error: all TFF workers are lost; what was saved can be resumed." in output
  assert_readable(folder)
  with programs.two_workers() as (_, addresses):
    result = programs.run("crpa", f"resume={folder}", f"workers=[{','.join(addresses)}]")
  assert result.returncode == 0, result.stderr
  assert_same_numbers(undisturbed_by_workers, folder)


IN_A_SMALL_WORLD = """
set -e
mount -t tmpfs -o size=300m none "$1"
"$3" -m experiments.crpa $4 output_dir="$1/run" > "$2/first.txt" 2>&1 & program=$!
rows() { cat "$1/run/metrics.csv" 2> "$2/none" | wc -l; }
while [ "$(rows "$1" "$2")" -le "$5" ]; do sleep 0.05; done
sleep "$6"
head -c 1G /dev/zero > "$1/filler" 2> "$2/filled.txt" || true
wait $program && status=0 || status=$?
echo $status > "$2/status.txt"
cp -r "$1/run" "$2/after"
rm "$1/filler"
"$3" -m experiments.crpa resume="$1/run" > "$2/second.txt" 2>&1
cp -r "$1/run" "$2/run"
"""
"""Folder for the disk, folder for what it leaves, Python, options, rows to wait for, seconds."""


@pytest.mark.parametrize("seed", range(4))
def test_a_disk_that_is_full(seed, tmp_path, undisturbed):
  own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
  if not shutil.which("unshare") or subprocess.run([*own_mounts, "true"]).returncode:
    pytest.skip("this system does not let a user mount a file system of their own")
  rng = random.Random(seed)
  disk = tmp_path / "disk"
  disk.mkdir()
  moment = [rng.randint(1, ROUNDS - 4), rng.uniform(0, 0.7)]
  values = [disk, tmp_path, sys.executable, " ".join(OPTIONS), *moment]
  command = [*own_mounts, "bash", "-c", IN_A_SMALL_WORLD, "bash", *map(str, values)]
  world = subprocess.Popen(command, start_new_session=True)
  try:
    assert world.wait(timeout=600) == 0
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(world.pid, signal.SIGKILL)
  assert (tmp_path / "status.txt").read_text().strip() == "1"
  output = (tmp_path / "first.txt").read_text()
  assert re.search("error: .*No space left on device.*; what was saved can be resumed.", output)
  assert "Traceback" not in output
  assert_readable(tmp_path / "after")
  assert_same_numbers(undisturbed, tmp_path / "run")
  assert not left_behind(tmp_path / "run")
