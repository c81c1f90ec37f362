"""What a process of a sweep does with its runs."""

import contextlib
import json
import sys
import types

import pytest
from submitit.core.utils import UncompletedJobError

from experiments import chunk, program, results_folder, saved_config
from experiments.options import ConfigError
from experiments.runtime_options import RuntimeOptions
from experiments.sweep import FAILURE
from tff_attacks import files
from tff_attacks.runtime.lost import WorkerLostError


@pytest.fixture
def three(tmp_path, monkeypatch):
  """A sweep of the runs a, b and c, and what its next run of b raises; it counts its runtimes."""
  errors, runtimes = [], []

  def run(config, setup, runtime, results):
    if results.folder.name == "b" and errors:
      raise errors.pop()
    files.write_text(results.folder / "summary.json", "{}")

  @contextlib.contextmanager
  def start(config):
    runtimes.append("started")
    yield
    runtimes.append("ended")

  parts = {
    "config": {"CONFIG": RuntimeOptions, "check": lambda config: None},
    "setup": {"prepare": lambda config: None},
    "run": {"run": run},
  }
  for kind, names in parts.items():
    monkeypatch.setitem(sys.modules, f"experiments.fake_{kind}", types.SimpleNamespace(**names))
  monkeypatch.setattr(saved_config, "load", lambda config_class, folder: config_class())
  monkeypatch.setattr(chunk.runtime_options, "start", start)
  monkeypatch.setattr(chunk.worker, "remove_stock_context", lambda: None)
  chunks = {"script": "fake", "chunks": [["a", "b", "c"]]}
  (tmp_path / "chunks_1.json").write_text(json.dumps(chunks))
  for name in "abc":
    (tmp_path / "runs" / name).mkdir(parents=True)
  yield tmp_path, errors, runtimes
  chunk._runtime.cache_clear()
  chunk._FOREVER.close()


def finished(folder):
  return [path.parent.name for path in sorted(folder.glob("runs/*/summary.json"))]


def test_a_run_that_fails_does_not_stop_the_others(three):
  folder, errors, runtimes = three
  errors.append(ValueError("no"))
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a", "c"]
  assert (folder / "runs" / "b" / FAILURE).read_text().startswith("ValueError: no")
  assert runtimes == ["started"]


def test_a_run_that_another_process_has_is_left_to_it(three):
  folder, _, _ = three
  with results_folder.locked(folder / "runs" / "b"):
    chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a", "c"]
  assert not list(folder.glob(f"runs/*/{FAILURE}"))
  assert "another process" in (folder / "runs" / "b" / "log.txt").read_text()
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a", "b", "c"]


def test_workers_that_do_not_answer_are_nobodys_failure(three, monkeypatch):
  folder, _, _ = three

  def start(config):
    raise ConfigError("workers: no TFF worker answers") from ConnectionError()

  monkeypatch.setattr(chunk.runtime_options, "start", start)
  chunk.run(str(folder), "chunks_1.json", 0)
  assert not list(folder.glob(f"runs/*/{FAILURE}"))
  assert "no TFF worker answers" in (folder / "runs" / "a" / "log.txt").read_text()


def test_after_an_interrupt_no_other_run_begins(three, monkeypatch):
  folder, _, _ = three
  script = sys.modules["experiments.fake_run"]
  run = script.run

  def interrupted(config, setup, runtime, results):
    run(config, setup, runtime, results)
    return program.INTERRUPTED

  monkeypatch.setattr(script, "run", interrupted)
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a"]


def test_a_lost_worker_is_nobodys_failure(three):
  """What is left is begun anew, with a new worker."""
  folder, errors, runtimes = three
  errors.append(WorkerLostError("the worker ended"))
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a"]
  assert not list(folder.glob(f"runs/*/{FAILURE}"))
  assert "the worker ended" in (folder / "runs" / "b" / "log.txt").read_text()
  assert runtimes == ["started", "ended"]
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a", "b", "c"]
  assert runtimes == ["started", "ended", "started"]


def test_the_end_of_a_cluster_jobs_time_is_nobodys_failure(three):
  folder, errors, _ = three
  errors.append(UncompletedJobError("Job not requeued because: timed-out too many times."))
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a"]
  assert not list(folder.glob(f"runs/*/{FAILURE}"))
  assert "timed-out" in (folder / "runs" / "b" / "log.txt").read_text()
  chunk.run(str(folder), "chunks_1.json", 0)
  assert finished(folder) == ["a", "b", "c"]
