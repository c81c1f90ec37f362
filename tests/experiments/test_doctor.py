"""What the doctor says of an environment, well or not."""

import functools

import numpy as np
import pytest

from experiments import doctor
from tests import programs
from tff_attacks.runtime import workers


def run(*arguments):
  return programs.run_here("doctor", *arguments)


def findings(check, **options):
  return list(check(doctor.DoctorConfig(**options)))


def test_a_sound_environment_is_well_and_stays_as_it_is(tmp_path):
  result = programs.run("doctor", f"output_dir={tmp_path / 'new'}")
  problems = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
  # Other programs may have taken the memory or the disk.
  assert not [line for line in problems if "GB" not in line], result.stdout + result.stderr
  assert result.returncode == (1 if problems else 0)
  assert ("All is well." in result.stdout) == (not problems)
  assert not list(tmp_path.iterdir())
  for text in ("tensorflow 2.14.1", "ran on CPU:0", "dataset=digits: embedded"):
    assert text in result.stdout


def test_the_stock_worker_is_tried(tmp_path):
  result = run("runtime=worker", f"output_dir={tmp_path}")
  assert "runtime=worker: a federated sum of two clients ran on CPU" in result.stdout


@pytest.mark.parametrize(
  ("option", "message"),
  [
    ("device=GPU:7", "GPU:7"),
    ("workers=[localhost:1]\nruntime=workers", "workers: "),
  ],
)
def test_a_runtime_that_cannot_run_is_a_problem(tmp_path, option, message, monkeypatch):
  monkeypatch.setattr(workers, "workers", functools.partial(workers.workers, wait_seconds=0.5))
  result = run(*option.split("\n"), f"output_dir={tmp_path}")
  assert result.returncode == 1
  problems = [line for line in result.stdout.splitlines() if line.startswith("PROBLEM")]
  assert any(message in line for line in problems)
  assert f"{len(problems)} problem" in result.stdout


def test_each_worker_is_tried_by_itself(monkeypatch):
  monkeypatch.setattr(workers, "workers", functools.partial(workers.workers, wait_seconds=0.5))
  addresses = ["localhost:1", "localhost:2"]
  found = findings(doctor._runtime, runtime="workers", workers=addresses)
  assert [address in one.text for one, address in zip(found, addresses, strict=True)] == [True] * 2
  assert all(one.advice for one in found)


def test_bad_input_is_refused():
  result = run("runtime=workers")
  assert result.returncode == 2
  assert "workers: give" in result.stderr


def test_a_folder_of_data_that_is_not_there_is_a_problem(tmp_path):
  (found,) = findings(doctor._data, data_dir=str(tmp_path / "nowhere"))
  assert "nowhere is no folder" in found.text
  assert found.advice


def test_damaged_data_is_a_problem_and_missing_data_is_not(tmp_path):
  (tmp_path / "mnist.npz").write_bytes(b"nothing")
  size = {"x": [3, 28, 28], "y": [3]}
  arrays = {f"{n}_{s}": np.zeros(size[n], np.uint8) for n in "xy" for s in ("train", "test")}
  np.savez(tmp_path / "fashion_mnist.npz", **arrays)
  found = {f.text.split(":")[0]: f for f in findings(doctor._data, data_dir=str(tmp_path))}
  assert found["dataset=mnist"].advice
  assert "is not a readable .npz file" in found["dataset=mnist"].text
  assert "3 and 3 images" in found["dataset=fashion_mnist"].text
  assert not found["dataset=cifar10"].advice


def test_another_version_than_the_pinned_one_is_a_problem(tmp_path, monkeypatch):
  (tmp_path / "requirements.txt").write_text("# a comment\nnumpy==1.0.0\nno-such-package==2.0\n")
  monkeypatch.setattr(doctor, "_REQUIREMENTS", tmp_path / "requirements.txt")
  _, numpy, missing = findings(doctor._versions)
  assert numpy.text == f"numpy: {np.__version__} is installed, 1.0.0 is pinned"
  assert missing.text == "no-such-package: nothing is installed, 2.0 is pinned"
  assert numpy.advice


def test_little_disk_and_memory_are_problems(monkeypatch, tmp_path):
  for name in ("_DISK_GB", "_MEMORY_GB"):
    monkeypatch.setattr(doctor, name, 10**9)
  (disk,) = findings(doctor._disk, output_dir=str(tmp_path / "not" / "there"))
  assert str(tmp_path) in disk.text
  assert disk.advice
  (memory,) = findings(doctor._memory)
  assert memory.advice


def test_a_folder_that_cannot_be_written_is_a_problem():
  (disk,) = findings(doctor._disk, output_dir="/proc/results")
  assert "/proc cannot be written" in disk.advice
