"""Sweeps as a user runs them, and their plans."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from omegaconf import OmegaConf
from PIL import Image

from experiments import (
  combinations,
  controls,
  differential_privacy,
  distributions,
  dp_frontier,
  published,
  sweep,
  sweep_plan,
)
from experiments.options import ConfigError
from tff_attacks.privacy import accounting

SHORT = ["preset=quick", "rounds=4", "images_per_class=40", "generator_steps=3"]
SIX = [*SHORT, "pairs=[0-6,3-8]", "repetitions=2", "chunk=2", "jobs=2", "checkpoint_every=1"]


def command(experiment, *arguments):
  return [sys.executable, "-m", f"experiments.{experiment}", *map(str, arguments)]


def run(experiment, *arguments, **options):
  return subprocess.run(
    command(experiment, *arguments), capture_output=True, text=True, timeout=500, **options
  )


def test_all_pairs_share_the_run_without_attack():
  runs = combinations.plan(combinations.CombinationsConfig(preset="small", repetitions=2))
  names = [one.name for one in runs]
  assert len(set(names)) == len(names) == 2 * 90 + 2
  assert {one.control for one in runs} == {"none-seed0", "none-seed1"}
  by_name = {one.name: one for one in runs}
  config = by_name["crpa-reconstruct8-poison4-seed1"].config
  assert (config.reconstruct, config.poison, config.seed, config.attack) == (8, 4, 1, "crpa")


@pytest.mark.parametrize(
  "changes", [{"alpha": 0.5}, {"adversary": "original"}, {"free_rider": True}]
)
def test_where_the_partition_depends_on_the_pair_so_does_the_control(changes):
  config = combinations.CombinationsConfig(pairs=["4-9", "8-4"], repetitions=1, **changes)
  assert len({one.control for one in combinations.plan(config)}) == 2


def test_distributions_vary_alpha():
  config = distributions.DistributionsConfig(pairs=["4-9"], repetitions=1, alphas=[0.0, 0.5])
  plan = {one.name: one.config for one in distributions.plan(config)}
  assert plan["crpa-reconstruct4-poison9-alpha0.5-seed0"].alpha == 0.5
  assert plan["none-reconstruct4-poison9-alpha0.5-seed0"].attack == "none"
  assert plan["none-alpha0.0-seed0"].alpha == 0.0
  assert len(plan) == 4


def test_pairs_come_from_a_finished_sweep(tmp_path):
  values = {(0, 1): 0.1, (1, 0): 0.9, (2, 3): 0.35, (3, 2): 0.3}
  rows = [
    {"dataset": "mnist", "attack": "crpa", "reconstruct": g, "poison": t,
     "average_attack_accuracy": value, "no_attack": 0.0, "mean_test_accuracy": 0.9}
    for (g, t), value in values.items()
  ]  # fmt: skip
  pd.DataFrame(rows).to_csv(tmp_path / "summary.csv", index=False)
  config = distributions.DistributionsConfig(dataset="mnist", combinations=str(tmp_path))
  with pytest.raises(ConfigError, match="is no finished sweep"):
    distributions.choose_pairs(config)
  (tmp_path / "failures.csv").write_text("run,reason\n")
  plan = distributions.plan(config)
  attacked = {(one.config.reconstruct, one.config.poison) for one in plan if one.attack == "crpa"}
  assert attacked == {(0, 1), (2, 3), (1, 0)}
  for one in plan:
    OmegaConf.to_yaml(one.config)
  # They are kept, whatever becomes of the other sweep.
  assert config.pairs == ["0-1", "2-3", "1-0"]
  config.pairs, config.dataset = [], "fashion_mnist"
  with pytest.raises(ConfigError, match="not of dataset=fashion_mnist"):
    distributions.choose_pairs(config)


def test_controls_are_the_attacks_of_crpa():
  config = controls.ControlsConfig(pairs=["4-9"], repetitions=1, generator_learning_rate=0.5)
  plan = {one.attack: one.config for one in controls.plan(config)}
  assert set(plan) == set(sweep_plan.ATTACKS)
  assert plan["untrained"].attack == "crpa"
  assert plan["untrained"].generator_learning_rate == 0
  assert plan["crpa"].generator_learning_rate == 0.5


def test_every_setting_of_privacy_has_its_runs_without_attack():
  config = differential_privacy.DifferentialPrivacyConfig(pairs=["4-9", "8-4"], repetitions=1)
  plan = differential_privacy.plan(config)
  by_name = {one.name: one for one in plan}
  # Eight settings; both pairs share the run without attack at alpha = 0 only.
  assert len(by_name) == len(plan) == 8 * (2 + 1 + 2 + 2)
  for one in plan:
    assert by_name[one.control].attack == "none"
    assert by_name[one.control].setting == one.setting
    assert by_name[one.control].config.privacy == one.config.privacy
  published = by_name["crpa-reconstruct4-poison9-alpha10.0-settingmicrobatches-seed0"].config
  assert (published.privacy, published.microbatches, published.noise_multiplier) == (
    "microbatches", 1, 0.3
  )  # fmt: skip
  assert (published.optimizer, published.learning_rate, published.l2_norm_clip) == (
    "sgd",
    0.25,
    1.5,
  )


def test_the_frontier_has_every_noise_and_none():
  config = dp_frontier.FrontierConfig(
    pairs=["4-9"], repetitions=1, noise_multipliers=[0.5, 2.0], settings=["records", "clients"]
  )
  found = {
    (one.setting, one.config.noise_multiplier)
    for one in dp_frontier.plan(config)
    if one.attack == "crpa"
  }
  assert found == {
    ("none", None), ("sgd", None), ("records", 0.0), ("records", 0.5), ("records", 2.0),
    ("clients", 0.0), ("clients", 0.5), ("clients", 2.0)
  }  # fmt: skip


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
    ("combinations", ["attack=none"], "error: attack: is what the sweep varies; leave it out"),
    ("distributions", ["pairs=[4-9]", "alpha=1"], "error: alpha: is what the sweep varies"),
    ("controls", ["pairs=[4-9]", "attacks=[none]"], "error: attacks: name at least one"),
    ("combinations", ["dataset=letters"], "error: dataset: 'letters' is not allowed"),
    ("combinations", ["pairs=[4-4]"], "error: poison: must differ from reconstruct"),
    ("combinations", ["dataset=mnist", "data_dir=/nowhere"], "error: data_dir: /nowhere/mnist.npz"),
    ("distributions", [], "error: pairs: give them as [4-9,8-4,0-1], or combinations=<folder>"),
    ("distributions", ["combinations=/nowhere"], "error: combinations:"),
    ("distributions", ["pairs=[4-9]", "alphas=[-1]"], "error: alphas: [-1.0] is not allowed"),
    ("controls", ["pairs=[4-9]", "attacks=[all]"], "error: attacks: 'all'; allowed: crpa, untr"),
    ("differential_privacy", ["pairs=[4-9]", "settings=[all]"], "error: settings: 'all'; allowed"),
    ("dp_frontier", ["pairs=[4-9]", "settings=[]"], "error: settings: name at least one"),
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
  result = run(experiment, *arguments, f"output_dir={folder}")
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
  assert "round" in result.stderr  # The progress line.
  summary = pd.read_csv(folder / "summary.csv", float_precision="round_trip")
  assert sorted(summary["attack"]) == ["crpa"] * 4 + ["none"] * 2
  for row in summary.itertuples():
    own = json.loads((folder / "runs" / row.run / "summary.json").read_text())
    assert row.average_attack_accuracy == own["average_attack_accuracy"]
    if row.attack == "none":
      assert row.no_attack == row.average_attack_accuracy
  Image.open(folder / "images" / "combinations.png").verify()


def test_aaa_without_attack_is_that_of_a_run_without_attack(finished, tmp_path):
  """For a pair that the shared control was not made for."""
  folder, _ = finished
  result = run("crpa", *SHORT, "attack=none", "reconstruct=3", "poison=8", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  summary = pd.read_csv(folder / "summary.csv").set_index("run")
  alone = json.loads((tmp_path / "summary.json").read_text())["average_attack_accuracy"]
  assert summary.loc["crpa-reconstruct3-poison8-seed0", "no_attack"] == pytest.approx(alone)


def test_runs_that_share_a_trace_equal_runs_of_their_own(finished, tmp_path):
  folder, _ = finished
  result = run("crpa", *SHORT, "reconstruct=3", "poison=8", "seed=1", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  alone = pd.read_csv(tmp_path / "metrics.csv").drop(columns="seconds")
  shared = pd.read_csv(folder / "runs" / "crpa-reconstruct3-poison8-seed1" / "metrics.csv")
  pd.testing.assert_frame_equal(alone, shared.drop(columns="seconds"), rtol=1e-4)


def test_a_sweep_of_another_experiment_is_not_resumed(finished):
  folder, _ = finished
  result = run("controls", f"resume={folder}")
  assert result.returncode == 2
  assert f"error: resume: {folder} is no folder of experiments.controls" in result.stderr


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


def test_chunks_in_one_process_share_their_traces(finished, tmp_path):
  folder, _ = finished
  names = [f"crpa-reconstruct{g}-poison{t}-seed{s}" for g, t, s in ((0, 6, 0), (3, 8, 1))]
  for name in names:
    (tmp_path / "runs" / name / "images").mkdir(parents=True)
    shutil.copy(folder / "runs" / name / "config.yaml", tmp_path / "runs" / name)
  (tmp_path / "chunks_1.json").write_text(json.dumps([[name] for name in names]))
  result = subprocess.run(
    [sys.executable, "-c", COUNT_TRACES, tmp_path], capture_output=True, text=True, timeout=300
  )
  counts = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("TRACES")]
  assert all((tmp_path / "runs" / name / "summary.json").exists() for name in names), result.stderr
  assert int(counts[0]) > 0
  assert counts[0] == counts[1]


def test_compare_puts_a_sweep_beside_the_published_values(tmp_path):
  rng = np.random.default_rng(0)
  rows = []
  for (g, t), value in published.matrix("mnist").items():
    for seed in (0, 1):
      rows.append(
        {"dataset": "mnist", "attack": "crpa", "reconstruct": g, "poison": t, "seed": seed,
         "average_attack_accuracy": value + rng.normal(scale=0.01), "no_attack": rng.uniform(),
         "mean_test_accuracy": 0.9, "recognised": 0.5, "correlation": 0.5}
      )  # fmt: skip
  sweep_folder, folder = tmp_path / "sweep", tmp_path / "compare"
  sweep_folder.mkdir()
  pd.DataFrame(rows).to_csv(sweep_folder / "summary.csv", index=False)
  (sweep_folder / "experiment.txt").write_text("combinations")
  controls_folder = tmp_path / "controls"
  controls_folder.mkdir()
  three = pd.DataFrame(rows).query("reconstruct == 4 and poison in (1, 7, 9)")
  three.to_csv(controls_folder / "summary.csv", index=False)
  (controls_folder / "experiment.txt").write_text("controls")
  result = run(
    "compare", f"combinations={sweep_folder}", f"controls={controls_folder}",
    f"output_dir={folder}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  text = (folder / "compare.md").read_text()
  assert (
    "| all pairs | 90 | 0.99 | 0.99 | 0.0" in text or "| all pairs | 90 | 1.00 | 1.00 |" in text
  )
  assert "| without T = 0, (3, 0) and (0, 1) | 80 |" in text
  assert "| the choice of classes matters | held | 3 pairs, 2 seeds" in text
  assert "| 0.9 | 0.5 | 0.5 | 0.51 |" in text  # 4 -> 9, and what was published.
  assert "| differential privacy stops the attack | not tested |" in text


def test_the_study_that_was_published_is_read_as_printed():
  matrix = published.matrix("fashion_mnist")
  assert (matrix.loc[(7, 5)], matrix.loc[(6, 7)], len(matrix)) == (0.55, 0.07, 90)


def wait_for_rows(folder, count):
  """Waits until the runs have so many rounds behind them, together."""
  deadline = time.monotonic() + 300
  while time.monotonic() < deadline:
    if sum(path.read_text().count("\n") - 1 for path in folder.glob("runs/*/metrics.csv")) >= count:
      return
    time.sleep(0.1)
  raise TimeoutError


@pytest.mark.slow
def test_killed_twice_and_restarted(finished, tmp_path):
  start, rows = [*SIX, f"output_dir={tmp_path}"], 3
  for _ in range(2):
    program = subprocess.Popen(command("combinations", *start), stderr=subprocess.DEVNULL)
    wait_for_rows(tmp_path, rows)
    program.send_signal(signal.SIGKILL)
    program.wait()
    start, rows = [f"resume={tmp_path}"], 12
  result = run("combinations", *start)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "summary.csv").read_text() == (finished[0] / "summary.csv").read_text()


@pytest.mark.slow
def test_a_process_that_dies_does_not_stop_the_others(finished, tmp_path):
  start = [*SIX, f"output_dir={tmp_path}"]
  program = subprocess.Popen(command("combinations", *start), stderr=subprocess.DEVNULL)
  wait_for_rows(tmp_path, 3)
  largest = max(
    psutil.Process(program.pid).children(recursive=True), key=lambda p: p.memory_info().rss
  )
  largest.kill()
  assert program.wait(timeout=400) == 0
  assert (tmp_path / "summary.csv").read_text() == (finished[0] / "summary.csv").read_text()


def test_a_sweep_in_use_is_refused(finished):
  folder, _ = finished
  with sweep.locked(folder):
    result = run("combinations", f"resume={folder}")
  assert result.returncode == 2
  assert f"error: resume: another process works in {folder}" in result.stderr


def test_a_run_that_fails_is_reported_and_the_others_are_complete(tmp_path):
  arguments = [*SHORT, "pairs=[0-6]", "alphas=[0,0.1,100]", "repetitions=1", "max_draws=300"]
  result = run("distributions", *arguments, f"output_dir={tmp_path}")
  assert result.returncode == 1, result.stderr
  assert "4 of 6 runs are complete" in result.stdout
  failures = pd.read_csv(tmp_path / "failures.csv")
  assert set(failures["run"]) == {
    f"{attack}-reconstruct0-poison6-alpha100.0-seed0" for attack in ("crpa", "none")
  }
  assert failures["reason"].str.startswith("ConfigError: partition: no client lacks both").all()
  summary = pd.read_csv(tmp_path / "summary.csv")
  assert sorted(summary["alpha"]) == [0.0, 0.0, 0.1, 0.1]


@pytest.mark.slow
def test_the_script_for_slurm(tmp_path, monkeypatch):
  """A stand-in for `sbatch` keeps the script; the job then counts as failed."""
  tools = tmp_path / "bin"
  tools.mkdir()
  (tools / "sbatch").write_text(
    f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho Submitted batch job 7\n'
  )
  (tools / "sacct").write_text("#!/bin/sh\necho 'JobID|State|NodeList'\necho '7_0|FAILED|'\n")
  (tools / "srun").write_text("#!/bin/sh\n")
  for tool in tools.iterdir():
    tool.chmod(0o755)
  path = f"{tools}:{os.environ['PATH']}"
  folder = tmp_path / "sweep"
  result = run(
    "combinations", *SHORT, "pairs=[0-6]", "repetitions=1", "launcher=submitit_slurm", "jobs=3",
    "launcher_options=[partition:gpu,timeout_min:90]", f"output_dir={folder}",
    env={**os.environ, "PATH": path},
  )  # fmt: skip
  script = (tmp_path / "script").read_text()
  assert "#SBATCH --partition=gpu" in script
  assert "#SBATCH --time=90" in script
  assert "submitit.core._submit" in script
  assert result.returncode == 1
  assert "0 of 2 runs are complete" in result.stdout
