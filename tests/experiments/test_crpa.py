"""The script as a user runs it."""

import json
import pathlib
import shutil
import signal
import subprocess

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from PIL import Image

from tests import programs
from tff_attacks.metrics import classification

SHORT = ["rounds=6", "images_per_class=40", "generator_steps=3", "checkpoint_every=1"]


def crpa(*arguments, **options):
  return programs.run_here("crpa", *arguments, **options)


def wait_for_checkpoint(folder, rounds, program):
  path = pathlib.Path(folder) / "checkpoints" / f"round_{rounds}"
  programs.wait_until(path.exists, program)


def tables(folder):
  """Every number of a run but its times."""
  metrics, confusion, quality = (
    pd.read_csv(folder / f"{name}.csv", float_precision="round_trip")
    for name in ("metrics", "confusion", "reconstruction")
  )
  return metrics.drop(columns="seconds"), confusion, quality


def assert_same_numbers(first, second):
  for one, other in zip(tables(first), tables(second), strict=True):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def go_on(folder, done, rounds, *arguments):
  """Resumes a finished run as if it had been asked for more rounds."""
  programs.ask_for_more(folder, done, rounds)
  resumed = crpa(f"resume={folder}", *arguments)
  assert resumed.returncode == 0, resumed.stderr
  assert f"{done}/{rounds}" in resumed.stderr
  assert f"0/{rounds}" not in resumed.stderr


@pytest.fixture(scope="module")
def two_workers():
  """Addresses of two workers on this host."""
  with programs.two_workers() as (workers, addresses):
    yield addresses
    for worker in workers:
      worker.terminate()
      assert worker.wait(timeout=60) == 0


@pytest.fixture(
  scope="module",
  params=[
    "in_process",
    pytest.param("worker", marks=pytest.mark.slow),
    pytest.param("workers", marks=pytest.mark.slow),
  ],
)
def short(request):
  """Options of a short run in each runtime."""
  options = [*SHORT, f"runtime={request.param}"]
  if request.param == "workers":
    options.append(f"workers=[{','.join(request.getfixturevalue('two_workers'))}]")
  return options


@pytest.fixture(scope="module")
def finished(short, tmp_path_factory):
  """An uninterrupted run, its output piped as in `| tail`."""
  folder = tmp_path_factory.mktemp("run")
  command = " ".join(programs.command("crpa", *short, f"output_dir={folder}", "2>&1 | tail -n 3"))
  result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=400)
  assert (folder / "summary.json").exists(), result.stdout
  return folder, result.stdout


def test_a_config_alone_is_run_anew(finished, tmp_path):
  """The same config and seed give the same numbers."""
  shutil.copy(finished[0] / "config.yaml", tmp_path)
  result = crpa(f"resume={tmp_path}")
  assert result.returncode == 0, result.stderr
  assert_same_numbers(finished[0], tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == {path.name for path in finished[0].iterdir()}


def test_says_what_happened_in_a_sentence(finished):
  _, output = finished
  assert "Client 1, which never held any image of class 0," in output
  assert "(AAA 0." in output


def test_leaves_a_complete_results_folder(finished):
  folder, _ = finished
  assert {path.name for path in folder.iterdir()} == {
    ".lock", "checkpoints", "config.yaml", "confusion.csv", "events", "experiment.txt", "images",
    "metrics.csv", "partition.json", "reconstruction.csv", "reconstructions.npz", "report.html",
    "summary.json",
  }  # fmt: skip
  metrics = pd.read_csv(folder / "metrics.csv")
  assert metrics["round"].tolist() == list(range(6))
  matrices = classification.read_confusion_matrices(folder / "confusion.csv")
  shares = np.array([matrix[0, 6] / matrix[0].sum() for matrix in matrices])
  assert metrics["attack_accuracy"].to_numpy() == pytest.approx(shares)
  average = np.average(shares, weights=0.99 ** np.arange(6)[::-1])
  assert metrics["attack_accuracy_ema"].iloc[-1] == pytest.approx(average)
  summary = json.loads((folder / "summary.json").read_text())
  for name in ("test_loss", "test_accuracy", "attack_accuracy", "average_attack_accuracy"):
    assert summary[name] == pytest.approx(metrics[name].iloc[-1])
  assert summary["average_attack_accuracy"] == pytest.approx(metrics["attack_accuracy"].mean())
  assert summary["versions"]["tensorflow"] == "2.14.1"
  assert summary["intra_op_threads"] >= 1
  partition = json.loads((folder / "partition.json").read_text())
  assert partition["adversaries"] == [1]
  assert partition["adversary_holds"][0] == partition["adversary_holds"][6] == 0
  assert yaml.safe_load((folder / "config.yaml").read_text())["rounds"] == 6
  for picture in ("attack_accuracy", "confusion_matrix", "reconstructions", "round_0005"):
    Image.open(folder / "images" / f"{picture}.png").verify()


def test_the_attack_starts_and_its_images_are_judged(finished):
  folder, _ = finished
  assert json.loads((folder / "summary.json").read_text())["attack_started"]
  quality = pd.read_csv(folder / "reconstruction.csv")
  assert quality["round"].tolist() == [4, 5]
  assert quality["correlation"].nunique() == quality["distance_ratio"].nunique() == 2


@pytest.mark.slow
def test_killed_with_its_newest_checkpoint_damaged_and_resumed(short, finished, tmp_path):
  with programs.started("crpa", *short, f"output_dir={tmp_path}") as program:
    wait_for_checkpoint(tmp_path, 2, program)
    workers = psutil.Process(program.pid).children()
    assert len(workers) == ("runtime=worker" in short)
    program.send_signal(signal.SIGKILL)
    program.wait()
  psutil.wait_procs(workers, timeout=10)
  assert not any(worker.is_running() for worker in workers)
  newest = max((tmp_path / "checkpoints").glob("round_?"))
  for path in newest.rglob("variables.data*"):
    path.write_bytes(path.read_bytes()[:100_000])
  resumed = crpa(f"resume={tmp_path}")
  assert resumed.returncode == 0, resumed.stderr
  assert f"Checkpoint of round {newest.name[-1]} is unreadable" in resumed.stderr
  assert_same_numbers(finished[0], tmp_path)


@pytest.mark.slow
def test_interrupted_and_resumed(short, finished, tmp_path):
  with programs.started("crpa", *short, f"output_dir={tmp_path}") as program:
    wait_for_checkpoint(tmp_path, 2, program)
    program.send_signal(signal.SIGINT)
    output, _ = program.communicate(timeout=100)
  assert program.returncode == 130
  assert f"resume={tmp_path}" in output
  assert not (tmp_path / "summary.json").exists()
  resumed = crpa(f"resume={tmp_path}")
  assert resumed.returncode == 0, resumed.stderr
  assert_same_numbers(finished[0], tmp_path)


def test_a_finished_run_resumes_to_itself(finished):
  folder, _ = finished
  before = tables(folder)
  assert crpa(f"resume={folder}").returncode == 0
  for one, other in zip(before, tables(folder), strict=True):
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
def test_a_model_that_diverges_is_said_so(tmp_path):
  result = crpa(*SHORT, "optimizer=sgd", "learning_rate=1e6", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  assert "The global model diverged in round " in result.stdout
  metrics = pd.read_csv(tmp_path / "metrics.csv")
  summary = json.loads((tmp_path / "summary.json").read_text())
  first = summary["diverged_round"] - 1
  assert metrics["attack_accuracy"][:first].notna().all()
  assert metrics[["attack_accuracy", "test_accuracy"]][first:].isna().all(axis=None)
  assert summary["average_attack_accuracy"] is None
  assert summary["reconstruction"]["recognised"] is None


@pytest.mark.slow
def test_a_private_run_resumes_to_the_same_noise(tmp_path):
  """The noise of the server comes from its state."""
  private = ["privacy=clients", "clipping=adaptive", "noise_multiplier=0.5", "image_every=1"]
  whole, resumed = tmp_path / "whole", tmp_path / "resumed"
  for rounds, folder in ((4, whole), (2, resumed)):
    result = crpa(*SHORT[1:], *private, f"rounds={rounds}", f"output_dir={folder}")
    assert result.returncode == 0, result.stderr
  go_on(resumed, 2, 4)
  assert_same_numbers(whole, resumed)


@pytest.mark.slow
def test_resumed_in_another_runtime(tmp_path, two_workers):
  arguments = ["rounds=1", *SHORT[1:], "runtime=workers", f"workers=[{','.join(two_workers)}]"]
  assert crpa(*arguments, f"output_dir={tmp_path}").returncode == 0
  go_on(tmp_path, 1, 2, "runtime=in_process")
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert (summary["round"], summary["runtime"]) == (1, "in_process")


def batch_norm_model(image_shape, num_classes):
  """A user's own model: probabilities, BatchNorm, no additional class."""
  import tensorflow as tf

  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(8, 3, strides=2),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Flatten(),
      layers.Dense(num_classes, activation="softmax"),
    ]
  )


@pytest.mark.parametrize(
  "arguments",
  [
    pytest.param(
      ["model=tests.experiments.test_crpa:batch_norm_model", "discriminator_learning_rate=0",
       "alpha=0.3", "aggregator=examples_weighted_mean", "free_rider=true"],
      marks=pytest.mark.slow,
    ),
    ["attack=none", "partition=shards", "warm_up_epochs=2", "optimizer=sgd"],
    pytest.param(["attack=other_class"], marks=pytest.mark.slow),
    pytest.param(
      ["aggregator=multi_krum", "num_adversaries=2", "byzantine=2"], marks=pytest.mark.slow
    ),
    pytest.param(
      ["adversary=original", "poison=0", "reconstruct=3", "generated_label=random",
       "generator_optimizer=sgd", "generator_steps=0"],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      ["privacy=records", "target_epsilon=20", "optimizer=sgd", "learning_rate=0.25"],
      marks=pytest.mark.slow,
    ),
    pytest.param(
      ["privacy=microbatches", "microbatches=2", "noise_multiplier=0.3"], marks=pytest.mark.slow
    ),
    pytest.param(
      ["privacy=clients", "clipping=adaptive", "noise_multiplier=1.5", "delta=0.01"],
      marks=pytest.mark.slow,
    ),
  ],
  ids=["own model", "control", "injection", "krum", "original", "records", "microbatches",
       "clients"],
)  # fmt: skip
def test_other_federations(arguments, tmp_path):
  short = [option for option in SHORT if option.split("=")[0] not in " ".join(arguments)]
  result = crpa(*short, "rounds=2", *arguments, f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  metrics = pd.read_csv(tmp_path / "metrics.csv")
  assert metrics.notna().all(axis=None)
  if "byzantine=2" in arguments:  # Of ten it keeps eight.
    rejected = metrics["rejected_honest"] + metrics["rejected_malicious"]
    assert rejected.tolist() == [2, 2]
  if any(argument.startswith("privacy") for argument in arguments):
    assert metrics["epsilon"].is_monotonic_increasing
    assert metrics["epsilon"].is_unique
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["epsilon"] == pytest.approx(metrics["epsilon"].iloc[-1])
    assert summary["noise_multiplier"] > 0
    statement = (tmp_path / "privacy.txt").read_text()
    assert statement.startswith("Protected:")
    before, _, after = result.stdout.partition(statement)
    assert "Of all 2 rounds: Epsilon" in before
    assert "Report: " in after


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["reconstruct=6"], "error: poison: must differ from reconstruct"),
    (["images_per_class=1000"], "error: images_per_class: 1000 images of class"),
    (["preset=other"], "error: preset: 'other' is not allowed; allowed: quick, small, paper"),
    (["resume=/no/such/folder"], "error: resume: /no/such/folder/config.yaml cannot be read"),
    (["resume=somewhere", "rounds=3"], "error: resume: the run keeps its own options"),
    (["output_dir=/proc/results", "attack=none"], "error: output_dir:"),
    (["data_dir=."], "error: data_dir: digits are embedded, give another dataset=, too"),
    (["runtime=gpu"], "error: runtime: 'gpu' is not allowed; allowed: in_process, worker, workers"),
    (["device=GPU:7"], "error: device: there is no GPU:7; there are CPU:0"),
    (["runtime=workers"], "error: workers: give [host:port,...] with runtime=workers"),
    (
      ["runtime=workers", "workers=[here]"],
      "error: workers: 'here' is not allowed; allowed: <host>",
    ),
    (["runtime=worker", "device=CPU:0"], "error: device: only for runtime=in_process and workers"),
    (["client_threads=0"], "error: client_threads: 0 is not allowed; allowed: 1 or more"),
  ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(arguments, message, tmp_path):
  result = crpa(*arguments, cwd=tmp_path)
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert "Traceback" not in result.stderr
  assert not list(tmp_path.iterdir())


def test_a_folder_of_another_run_is_refused_and_kept(tmp_path):
  (tmp_path / "config.yaml").write_text("seed: 5\n")
  result = crpa(*SHORT, f"output_dir={tmp_path}")
  assert result.returncode == 2
  assert "already holds files" in result.stderr
  assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_help_reads_like_a_manual_page():
  result = crpa("--help")
  assert result.returncode == 0
  for heading in ("NAME", "DESCRIPTION", "USAGE", "OPTIONS", "EXIT STATUS"):
    assert heading in result.stdout
  assert "reconstruct=0  (int: 0 or more)" in result.stdout
  assert "rounds=" in result.stdout
