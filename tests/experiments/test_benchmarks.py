"""The benchmarks as a user runs them, at the smallest scale: their tables, not their times."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from experiments.benchmarks import endurance, flops, measure
from models import crpa
from tests import programs


def run(name, *arguments):
  result = programs.run(f"benchmarks.{name}", *arguments)
  assert result.returncode == 0, result.stderr
  return result.stdout


def assert_summarises(table, seconds, reference="in_process"):
  """Every row is there, positive, and its ratio is that of the measured seconds."""
  assert sorted(table.index) == sorted(seconds.columns)
  assert np.all(table > 0)
  for name, row in table.iterrows():
    quotients = seconds[reference] / seconds[name]
    assert row["ratio"] == pytest.approx(np.median(quotients))
    assert row["ratio_q1"] <= row["ratio"] <= row["ratio_q3"]
    assert row["min_s"] <= row["median_s"] <= row["max_s"]


@pytest.mark.slow
def test_round(tmp_path):
  checkout, folder = programs.original_checkout(tmp_path / "checkout"), tmp_path / "results"
  output = run(
    "round", "dataset=digits", "images_per_class=4", "batch_size=4", "poison_images=2",
    "worker=true", f"original={checkout}", "warm_up=1", "repetitions=1", f"output_dir={folder}",
  )  # fmt: skip
  table = pd.read_csv(folder / "table.csv", index_col="name")
  seconds = pd.read_csv(folder / "seconds.csv", index_col="repetition")
  assert set(table.index) == {
    "in_process", "worker", "bare", "keras_fit", "original",
    "local_training", "gan", "evaluation", "parts_sum", "matmul",
  }  # fmt: skip
  assert len(seconds) == 1
  assert_summarises(table, seconds)
  parts = seconds[["local_training", "gan", "evaluation"]].sum(axis=1)
  assert parts.tolist() == pytest.approx(seconds["parts_sum"].tolist())
  rates = table.loc["bare", "gflop"] / seconds["bare"]
  assert table.loc["bare", "gflop_per_s"] == pytest.approx(rates.median())
  assert table.loc["matmul", "share_of_matmul"] == pytest.approx(1)
  assert "share_of_matmul" in output


@pytest.mark.slow
def test_runtime(tmp_path):
  folder = tmp_path / "results"
  output = run(
    "runtime", "clients=2", "state_mb=0.1", "tiny_clients=3", "images=[10,60]", "warm_up=1",
    "repetitions=2", f"output_dir={folder}",
  )  # fmt: skip
  table = pd.read_csv(folder / "table.csv", index_col=["case", "name"])
  seconds = pd.read_csv(folder / "seconds.csv", index_col=["case", "repetition"])
  cases = ["state", "clients", "arrays_10", "dataset_10", "arrays_60", "dataset_60"]
  runtimes = ["in_process", "in_process_numpy", "worker"]
  assert table.index.tolist() == list(itertools.product(cases, runtimes))
  for case in cases:
    assert_summarises(table.loc[case], seconds.loc[case])
  assert "in_process_numpy" in output


@pytest.mark.slow
def test_privacy(tmp_path):
  folder = tmp_path / "results"
  names = ["plain", "records", "tf_privacy_ghost", "vectorized_map", "optimizer"]
  run(
    "privacy", "batch_size=4", "num_microbatches=2", "warm_up=1", "repetitions=1",
    f"implementations=[{','.join(names)}]", f"output_dir={folder}",
  )  # fmt: skip
  table = pd.read_csv(folder / "table.csv", index_col="name")
  seconds = pd.read_csv(folder / "seconds.csv", index_col="repetition")
  assert list(table.index) == [
    "plain",
    "records",
    "tf_privacy_ghost",
    "vectorized_map",
    "optimizer",
  ]
  assert_summarises(table, seconds, "records")


def test_bad_input_ends_with_2(tmp_path):
  folder = tmp_path / "results"
  result = programs.run("benchmarks.runtime", "images=[0]", f"output_dir={folder}")
  assert result.returncode == 2
  assert "error: images: [0] is not allowed" in result.stderr
  assert not folder.exists()


def test_order_changes_and_everything_is_measured():
  calls = []

  def returning(name, value):
    return lambda: calls.append(name) or value

  measures = {"a": returning("a", 1.0), "b": returning("b", 2.0), "c": returning("c", 4.0)}
  seconds = measure.interleaved(measures, repetitions=6, seed=0)
  assert seconds.to_numpy().tolist() == [[1.0, 2.0, 4.0]] * 6
  orders = {tuple(calls[start : start + 3]) for start in range(0, 18, 3)}
  assert len(orders) > 1
  assert all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_ratios_are_paired():
  seconds = pd.DataFrame({"a": [1.0, 2.0, 30.0], "b": [2.0, 8.0, 60.0]})
  table = measure.summarise(seconds, "a")
  assert table.loc["b"].tolist() == [8.0, 2.0, 60.0, 0.5, 0.375, 0.5]


def test_flops_of_the_study_networks():
  """Against 2 x multiply-adds by hand; the profiler also counts biases and activations."""
  model = 2 * (25 * 64 * 14**2 + 25 * 64 * 128 * 7**2 + 7**2 * 128 * 11)
  generator = 2 * 7**2 * (100 * 256 + 16 * 256 * 128 + 16 * 128 * 64 + 16 * 64 * 4)
  assert flops.forward(crpa.discriminator()) == pytest.approx(model, rel=0.01)
  assert flops.forward(crpa.generator()) == pytest.approx(generator, rel=0.01)
  assert flops.local_training(10, sizes=[3, 4], poison_images=2) == 3 * 10 * 9
  # 2 steps of 5 fake and 5 real images, then 3 images.
  assert flops.gan(10, 100, images=10, batch_size=5, poison_images=3) == (
    2 * 5 * (3 * 100 + 4 * 10 + 3 * 10) + 3 * 100
  )


@pytest.mark.slow
def test_endurance(tmp_path):
  folder = tmp_path / "results"
  result = programs.run(
    "benchmarks.endurance", "rounds=30", "warm_up=7", "images_per_class=4", f"output_dir={folder}"
  )
  assert result.returncode in (0, 1), result.stderr  # So short a run may still grow.
  summary = json.loads((folder / "summary.json").read_text())
  assert None not in summary.values()
  counts = [summary[f"{name}_growth"] for name in ("files", "processes", "threads")]
  assert result.returncode == (summary["memory_growth"] > 0.05 or max(counts) > 0)
  resources = pd.read_csv(folder / "resources.csv")
  assert resources["round"].is_monotonic_increasing
  assert (resources["processes"] == 1).all()
  assert (resources["memory_mb"] > 100).all()


@pytest.mark.slow
def test_cohort(tmp_path):
  folder = tmp_path / "results"
  result = programs.run(
    "benchmarks.cohort", "dataset=digits", "num_clients=[10,20]", "clients_per_round=4",
    "samples_per_client=40", "rounds=2", "attacking_frequency=0.1", "test_images=100",
    f"output_dir={folder}",
  )  # fmt: skip
  assert result.returncode in (0, 1), result.stderr
  table = pd.read_csv(folder / "table.csv")
  assert table["clients"].tolist() == [10, 20]
  assert (table["peak_memory_mb"] > 100).all()
  growth = table["peak_memory_mb"].iloc[1] / table["peak_memory_mb"].iloc[0]
  assert table["memory_ratio"].tolist() == [1, pytest.approx(growth)]
  assert result.returncode == (growth > 1.05)


@pytest.mark.slow
def test_onednn(tmp_path):
  folder = tmp_path / "results"
  result = programs.run(
    "benchmarks.onednn", "dataset=digits", "rounds=3", "repetitions=1", f"output_dir={folder}"
  )
  assert result.returncode == 0, result.stderr
  assert "Exception" not in result.stderr
  table = pd.read_csv(folder / "table.csv", index_col="name")
  seconds = pd.read_csv(folder / "seconds.csv", index_col="repetition")
  assert list(table.index) == ["onednn", "without"]
  assert_summarises(table, seconds, "onednn")


def test_a_run_of_a_cohort_that_fails_is_said_so(tmp_path):
  result = programs.run(
    "benchmarks.cohort", "dataset=digits", "num_clients=[10]", "clients_per_round=4",
    "attacking_frequency=0.1", "samples_per_client=1000", "test_images=99",
    f"output_dir={tmp_path / 'results'}",
  )  # fmt: skip
  assert result.returncode == 1
  assert "error: samples_per_client: 10 clients need 10000 images" in result.stderr
  assert result.stderr.rstrip().endswith("ended with 2")
  assert "Traceback" not in result.stderr


def test_a_cohort_that_is_larger_than_its_federation_is_refused(tmp_path):
  folder = tmp_path / "results"
  result = programs.run(
    "benchmarks.cohort", "dataset=digits", "num_clients=[50]", "clients_per_round=100",
    "attacking_frequency=0.1", f"output_dir={folder}",
  )  # fmt: skip
  assert result.returncode == 2
  assert "error: clients_per_round: there are 50 clients" in result.stderr
  assert not folder.exists()


def test_growth_is_told_from_what_is_flat():
  resources = pd.DataFrame({"round": range(1, 101), "memory_mb": 500.0, "files": 30})
  flat = endurance.summarise(resources, warm_up=20)
  assert flat["memory_growth"] == flat["files_growth"] == 0
  resources["memory_mb"] += resources["round"]
  resources["files"] += resources["round"] // 10
  grown = endurance.summarise(resources, warm_up=20)
  assert grown["memory_growth"] == pytest.approx((590.5 - 530.5) / 530.5)
  assert grown["files_growth"] == 6
  assert grown["memory_mb_per_100_rounds"] == pytest.approx(100)
  with pytest.raises(ValueError, match="too few rounds"):
    endurance.summarise(resources, warm_up=40)
