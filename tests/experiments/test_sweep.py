"""Sweeps as a user runs them."""

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import types

import pandas as pd
import psutil
import pytest
from PIL import Image

from experiments import results_folder, sweep
from experiments.options import ConfigError
from tests.programs import run, run_here, started, wait_until
from tff_attacks import files
from tff_attacks.privacy import accounting

SHORT = ["preset=quick", "rounds=4", "images_per_class=40", "generator_steps=3"]


SIX = [*SHORT, "pairs=[0-6,3-8]", "repetitions=2", "chunk=2", "jobs=2", "checkpoint_every=1"]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["differential_privacy", "dp_frontier"])
def test_sweeps_over_privacy(experiment, tmp_path):
  which = {
    "differential_privacy": ["alphas=[0]", "settings=[none,microbatches,records]"],
    "dp_frontier": ["noise_multipliers=[0.5]", "settings=[records,clients]"],
  }[experiment]
  options = [*SHORT, "pairs=[0-6]", "repetitions=1", "rounds=2", "delta=0.001", *which]
  result = run(experiment, *options, f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr + (tmp_path / "log.txt").read_text()
  summary = pd.read_csv(tmp_path / "summary.csv").set_index(["attack", "setting"])
  noise = {"differential_privacy": 0.3, "dp_frontier": 0.5}[experiment]
  mechanism = accounting.Mechanism(noise, 1, 40, 16)
  private = summary.loc[[("crpa", "records")]].iloc[-1]
  for column, sampling in (("epsilon", "shuffled"), ("epsilon_poisson", "poisson")):
    expected = accounting.epsilon(mechanism, 2, 0.001, sampling)
    assert private[column] == pytest.approx(expected)
  name = {"differential_privacy": "settings", "dp_frontier": "frontier"}[experiment]
  Image.open(tmp_path / "images" / f"{name}.png").verify()


@pytest.mark.parametrize(
  ("experiment", "arguments", "message"),
  [
    ("combinations", ["pairs=[4to9]"], "error: pairs: '4to9' is not allowed; allowed: <class G>-"),
    ("combinations", ["jobs=0"], "error: jobs: 0 is not allowed; allowed: 1 or more"),
    (
      "combinations",
      ["launcher=cloud"],
      "error: launcher: 'cloud' is not allowed; allowed: joblib",
    ),
    ("combinations", ["launcher_options=[a]"], "error: launcher_options: 'a' is not allowed"),
    ("combinations", ["launcher_options=[n_jobs:4]"], "launcher_options: 'n_jobs:4' is what jobs="),
    (
      "combinations",
      ["launcher_options=[partition:gpu]"],
      "launcher_options: 'partition:gpu' is not allowed with launcher=joblib: Key 'partition'",
    ),
    (
      "combinations",
      ["launcher=submitit_local", "launcher_options=[timeout_min:ten]"],
      "launcher_options: 'timeout_min:ten' is not allowed with launcher=submitit_local: Value",
    ),
    (
      "combinations",
      ["preset=quick", "aggregator=bulyan", "byzantine=2"],
      "error: aggregator: bulyan needs 11 clients in a round if 2 may be malicious, there are 10",
    ),
    ("combinations", ["attack=none"], "error: attack: is what the sweep varies; leave it out"),
    ("distributions", ["pairs=[4-9]", "alpha=1"], "error: alpha: is what the sweep varies"),
    (
      "controls",
      ["pairs=[4-9]", "attacks=[none]"],
      "error: attacks: ['none'] is not allowed",
    ),
    ("combinations", ["dataset=letters"], "error: dataset: 'letters' is not allowed"),
    ("combinations", ["pairs=[4-4]"], "error: poison: must differ from reconstruct"),
    (
      "combinations",
      ["pairs=[4-9,4-9]"],
      "error: a value is named twice: crpa-reconstruct4-poison9",
    ),
    ("combinations", ["model=typo"], "error: model: unknown 'typo'; allowed: attacking_distance"),
    ("combinations", ["generator=my:no"], "error: generator: 'my:no' cannot be imported"),
    ("combinations", ["test_images=999"], "error: test_images: there are 360, not 999"),
    ("combinations", ["dataset=mnist", "data_dir=/nowhere"], "error: data_dir: /nowhere/mnist.npz"),
    ("distributions", [], "error: pairs: give them as [4-9,8-4,0-1], or combinations=<folder>"),
    ("distributions", ["combinations=/nowhere"], "error: combinations:"),
    ("distributions", ["pairs=[4-9]", "alphas=[-1]"], "error: alphas: [-1.0] is not allowed"),
    ("differential_privacy", ["pairs=[4-9]", "settings=[all]"], "error: settings: ['all'] is not"),
    ("dp_frontier", ["pairs=[4-9]", "settings=[]"], "error: settings: [] is not allowed"),
    ("dp_frontier", ["pairs=[4-9]", "noise_multipliers=[0]"], "error: noise_multipliers: [0.0]"),
    ("compare", [], "error: give at least one of combinations="),
    ("compare", ["combinations=/nowhere"], "error: combinations: /nowhere holds no sweep"),
    ("compare", ["original=/nowhere"], "error: original: /nowhere/experiments/federated_gan.py"),
  ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(experiment, arguments, message, tmp_path):
  if not any(argument.startswith("dataset=") for argument in arguments) and experiment != "compare":
    arguments = [*arguments, "dataset=digits"]
  folder = tmp_path / "results"
  result = run_here(experiment, *arguments, f"output_dir={folder}")
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not folder.exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """Six runs, four with the attack and two without, in two processes."""
  folder = tmp_path_factory.mktemp("sweep")
  result = run("combinations", *SIX, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr + (folder / "log.txt").read_text()
  return folder, result


def test_a_sweep_leaves_its_summary_and_figures(finished):
  folder, result = finished
  assert "6 of 6 runs are complete" in result.stdout
  said = json.loads((folder / "summary.json").read_text())
  assert said["in_words"].startswith("6 of 6 runs are complete. AAA is ")
  assert said["versions"]["tensorflow"] == "2.14.1"
  assert said["in_words"] in (folder / "report.html").read_text()
  assert "round" in result.stderr  # The progress line.
  summary = pd.read_csv(folder / "summary.csv", float_precision="round_trip")
  assert sorted(summary["attack"]) == ["crpa"] * 4 + ["none"] * 2
  for row in summary.itertuples():
    own = json.loads((folder / "runs" / row.run / "summary.json").read_text())
    assert row.average_attack_accuracy == own["average_attack_accuracy"]
    if row.attack == "none":
      assert row.no_attack == row.average_attack_accuracy
  Image.open(folder / "images" / "combinations.png").verify()


def test_every_job_gets_as_many_chunks_and_one_seed_comes_after_the_other(finished):
  folder, _ = finished
  chunks = json.loads((folder / "chunks_1.json").read_text())["chunks"]
  assert [len(chunk) for chunk in chunks] == [2, 2, 1, 1]
  names = list(itertools.chain.from_iterable(chunks))
  assert sorted(names) == sorted(path.name for path in (folder / "runs").iterdir())
  assert [name[-5:] for name in names] == ["seed0"] * 3 + ["seed1"] * 3


@pytest.mark.slow
def test_repetitions_are_added_to_a_sweep_and_not_taken_away(tmp_path):
  def resume(repetitions):
    return run("combinations", f"resume={tmp_path}", f"repetitions={repetitions}")

  small = [*SHORT, "pairs=[4-9]", "rounds=1", "repetitions=1"]
  assert run("combinations", *small, f"output_dir={tmp_path}").returncode == 0
  first = (tmp_path / "runs" / "crpa-reconstruct4-poison9-seed0" / "metrics.csv").read_text()
  added = resume(2)
  assert added.returncode == 0, added.stderr
  assert "4 of 4 runs are complete" in added.stdout
  assert sorted(pd.read_csv(tmp_path / "summary.csv")["seed"]) == [0, 0, 1, 1]
  assert (
    first == (tmp_path / "runs" / "crpa-reconstruct4-poison9-seed0" / "metrics.csv").read_text()
  )
  # They are kept: the next resume knows of them.
  refused = resume(1)
  assert refused.returncode == 2
  assert "error: repetitions: 2 are begun; give more, or leave it out" in refused.stderr


def test_aaa_without_attack_is_that_of_a_run_without_attack(finished, tmp_path):
  """For a pair that the shared control was not made for."""
  folder, _ = finished
  result = run("crpa", *SHORT, "attack=none", "reconstruct=3", "poison=8", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  summary = pd.read_csv(folder / "summary.csv").set_index("run")
  alone = json.loads((tmp_path / "summary.json").read_text())["average_attack_accuracy"]
  assert summary.loc["crpa-reconstruct3-poison8-seed0", "no_attack"] == pytest.approx(alone)


@pytest.mark.slow
def test_runs_that_share_a_trace_equal_runs_of_their_own(finished, tmp_path):
  folder, _ = finished
  result = run("crpa", *SHORT, "reconstruct=3", "poison=8", "seed=1", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  alone = pd.read_csv(tmp_path / "metrics.csv").drop(columns="seconds")
  shared = pd.read_csv(folder / "runs" / "crpa-reconstruct3-poison8-seed1" / "metrics.csv")
  pd.testing.assert_frame_equal(alone, shared.drop(columns="seconds"), rtol=1e-4)


def test_a_sweep_of_another_experiment_is_not_resumed(finished):
  folder, _ = finished
  result = run_here("controls", f"resume={folder}")
  assert result.returncode == 2
  assert f"error: resume: {folder} is of experiments.combinations, not controls" in result.stderr


COUNT_TRACES = """
import shutil, sys
from experiments import chunk
from tff_attacks.runtime import leaf

traces = []
compile_leaf = leaf._compile
leaf._compile = lambda *a, **k: traces.append(1) or compile_leaf(*a, **k)
for index in (0, 1):
  chunk.run(sys.argv[1], "chunks_1.json", index)
  print("TRACES", len(traces))
"""


@pytest.mark.slow
def test_chunks_in_one_process_share_their_traces(finished, tmp_path):
  folder, _ = finished
  names = [f"crpa-reconstruct{g}-poison{t}-seed{s}" for g, t, s in ((0, 6, 0), (3, 8, 1))]
  for name in names:
    (tmp_path / "runs" / name / "images").mkdir(parents=True)
    shutil.copy(folder / "runs" / name / "config.yaml", tmp_path / "runs" / name)
  (tmp_path / "chunks_1.json").write_text(
    json.dumps({"script": "crpa", "chunks": [[name] for name in names]})
  )
  result = subprocess.run(
    [sys.executable, "-c", COUNT_TRACES, tmp_path], capture_output=True, text=True, timeout=300
  )
  counts = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("TRACES")]
  assert all((tmp_path / "runs" / name / "summary.json").exists() for name in names), result.stderr
  assert int(counts[0]) > 0
  assert counts[0] == counts[1]


def zombie(process):
  with contextlib.suppress(psutil.NoSuchProcess):
    return process.status() == psutil.STATUS_ZOMBIE
  return True


def wait_for_rows(folder, count, program):
  """Waits until the runs have so many rounds behind them, together."""

  def rows():
    return sum(path.read_text().count("\n") - 1 for path in folder.glob("runs/*/metrics.csv"))

  wait_until(lambda: rows() >= count, program)


@pytest.mark.slow
def test_killed_twice_and_restarted(finished, tmp_path):
  start, rows = [*SIX, f"output_dir={tmp_path}"], 3
  for _ in range(2):
    with started("combinations", *start) as program:
      wait_for_rows(tmp_path, rows, program)
      program.send_signal(signal.SIGKILL)
      program.wait()
    start, rows = [f"resume={tmp_path}"], 12
  result = run("combinations", *start)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "summary.csv").read_text() == (finished[0] / "summary.csv").read_text()


@pytest.mark.slow
def test_interrupted(tmp_path):
  with started("combinations", *SIX, f"output_dir={tmp_path}") as program:
    wait_for_rows(tmp_path, 3, program)
    children = psutil.Process(program.pid).children(recursive=True)
    program.send_signal(signal.SIGINT)
    output, _ = program.communicate(timeout=100)
  assert program.returncode == 130, output
  assert f"resume={tmp_path}" in output
  psutil.wait_procs(children, timeout=60)
  # Nobody may be there to take note of their end.
  assert not [child for child in children if child.is_running() and not zombie(child)]


@pytest.mark.slow
def test_a_process_that_dies_does_not_stop_the_others(finished, tmp_path):
  with started("combinations", *SIX, f"output_dir={tmp_path}") as program:
    wait_for_rows(tmp_path, 3, program)
    largest = max(
      psutil.Process(program.pid).children(recursive=True), key=lambda p: p.memory_info().rss
    )
    largest.kill()
    program.communicate(timeout=400)
  assert program.returncode == 0
  assert (tmp_path / "summary.csv").read_text() == (finished[0] / "summary.csv").read_text()


def test_how_it_runs_may_be_given_anew(finished):
  folder, _ = finished
  before = (folder / "summary.csv").read_text()
  result = run("combinations", f"resume={folder}", "jobs=1", "chunk=5")
  assert result.returncode == 0, result.stderr
  assert "6 of 6 runs are complete" in result.stdout
  assert (folder / "summary.csv").read_text() == before


def test_launches_go_on_as_long_as_they_add_rounds(tmp_path, monkeypatch):
  rows = [1, 2, 2, 3, 3, 3]  # Of the only run, after each launch: two in a row add nothing.
  launches = iter(rows)

  def launch(config, folder, runs, row, chunks):
    path = folder / "runs" / "one"
    path.mkdir(parents=True, exist_ok=True)
    (path / "metrics.csv").write_text("round\n" + "0\n" * next(launches))

  monkeypatch.setattr(sweep, "_launch", launch)
  monkeypatch.setattr(sweep, "_prepare", lambda *arguments: None)
  one = sweep.Run("one", "none", types.SimpleNamespace(rounds=9, seed=0))
  sweep._run_all(None, "crpa", tmp_path, [one], None)
  assert not list(launches)
  assert sweep._reason(tmp_path, one).startswith("its process ended")
  with results_folder.locked(tmp_path / "runs" / "one"):
    assert "another process works in" in sweep._reason(tmp_path, one)
  (tmp_path / "runs" / "one" / "log.txt").write_text(f"begun\n{sweep.LOST}no worker answers\n")
  assert sweep._reason(tmp_path, one) == "Nothing to run on: no worker answers"


def test_a_sweep_that_goes_on_is_not_finished(tmp_path, monkeypatch):
  """What says that it is, is gone for as long as runs are added."""
  (tmp_path / "failures.csv").write_text("run,reason\n")
  seen = []
  monkeypatch.setattr(sweep, "_prepare", lambda *arguments: None)
  monkeypatch.setattr(
    sweep, "_launch", lambda *arguments: seen.append((tmp_path / "failures.csv").exists())
  )
  one = sweep.Run("one", "none", types.SimpleNamespace(rounds=9, seed=0))
  sweep._run_all(None, "crpa", tmp_path, [one], None)
  assert seen == [False, False]


def test_a_damaged_run_is_named(tmp_path):
  def row(one, folder, control):
    return {"rounds": len(pd.read_csv(folder / "metrics.csv"))}

  runs = [sweep.Run(name, "none", types.SimpleNamespace(rounds=1, seed=0)) for name in "ab"]
  for one in runs:
    (tmp_path / "runs" / one.name).mkdir(parents=True)
    (tmp_path / "runs" / one.name / "summary.json").write_text("{}")
    (tmp_path / "runs" / one.name / "metrics.csv").write_text("round\n0\n" * (one.name == "a"))
  with pytest.raises(files.UnreadableError, match=r"runs/b is damaged .*; remove it, and resume="):
    sweep.summarise(tmp_path, runs, row)


def test_what_comes_before_the_attack_is_progress(tmp_path):
  one = sweep.Run("one", "none", types.SimpleNamespace(rounds=9, seed=0))
  folder = tmp_path / "runs" / "one"
  (folder / "convergence").mkdir(parents=True)
  assert sweep._progress(tmp_path, [one]) == 0
  (folder / "convergence" / "metrics.csv").write_text("round\n0\n1\n")
  assert sweep._progress(tmp_path, [one]) == 2
  (folder / "scores.csv").write_text("round\n0\n")
  assert sweep._progress(tmp_path, [one]) == 3


def test_a_sweep_in_use_is_refused(finished):
  folder, _ = finished
  with results_folder.locked(folder):
    result = run_here("combinations", f"resume={folder}")
  assert result.returncode == 2
  assert f"error: resume: another process works in {folder}" in result.stderr


def test_a_run_in_use_is_refused(finished):
  folder = finished[0] / "runs" / "crpa-reconstruct0-poison6-seed0"
  with results_folder.locked(folder):
    result = run_here("crpa", f"resume={folder}")
  assert result.returncode == 2
  assert f"error: resume: another process works in {folder}" in result.stderr


@pytest.mark.slow
def test_a_run_that_fails_is_reported_and_the_others_are_complete(tmp_path):
  arguments = [*SHORT, "rounds=1", "pairs=[0-6]", "alphas=[0,100]", "repetitions=1", "max_draws=9"]
  result = run("distributions", *arguments, f"output_dir={tmp_path}")
  assert result.returncode == 1, result.stderr
  assert "2 of 4 runs are complete" in result.stdout
  failures = pd.read_csv(tmp_path / "failures.csv")
  assert set(failures["run"]) == {
    f"{attack}-reconstruct0-poison6-alpha100.0-seed0" for attack in ("crpa", "none")
  }
  assert failures["reason"].str.startswith("ConfigError: partition: no client lacks both").all()
  summary = pd.read_csv(tmp_path / "summary.csv")
  assert summary["alpha"].tolist() == [0.0, 0.0]


def test_a_summary_that_no_sweep_wrote_is_refused(tmp_path):
  (tmp_path / "summary.csv").write_text("run\n")
  with pytest.raises(ConfigError, match=r"sweeps: .* holds no sweep with runs"):
    results_folder.read_sweep("sweeps", "semi_targeted_sweep", str(tmp_path))
  (tmp_path / "experiment.txt").write_text("combinations")
  with pytest.raises(ConfigError, match=r"sweeps: .* is of experiments\.combinations"):
    results_folder.read_sweep("sweeps", "semi_targeted_sweep", str(tmp_path))
