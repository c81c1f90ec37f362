"""The sweep of semi-targeted attacks: its plan, its tables, and a small one as a user runs it."""

import pandas as pd
import pytest

from experiments import semi_targeted_sweep, semi_targeted_tables
from experiments.options import ConfigError
from experiments.semi_targeted_config import check
from experiments.semi_targeted_sweep import SemiTargetedSweepConfig
from tests import programs


def plan(**options):
  return semi_targeted_sweep.plan(SemiTargetedSweepConfig(**{"repetitions": 2} | options))


def test_every_attack_starts_from_the_converged_model_of_its_seed():
  runs = plan()
  by_name = {one.name: one for one in runs}
  # Two attacks with nine targets, two that choose, three frequencies; one without attack.
  assert len(by_name) == len(runs) == 2 * (3 * (2 * 9 + 2) + 1)
  for one in runs:
    check(one.config)
    assert one.after == ("" if one.attack == "none" else f"none-mean-seed{one.config.seed}")
  one = by_name["train_and_scale-target7-frequency0.05-mean-seed1"].config
  assert (one.attack, one.target, one.attacking_frequency, one.seed) == (
    "train_and_scale", 7, 0.05, 1
  )  # fmt: skip
  assert by_name["ada_full-frequency0.01-mean-seed0"].config.attack == "ada_full"


def test_every_defence_has_its_run_without_attack():
  runs = plan(aggregators=["mean", "krum"], attacks=["ada_full"], frequencies=[0.1], repetitions=1)
  assert {one.name: one.control for one in runs} == {
    "none-mean-seed0": "none-mean-seed0",
    "ada_full-frequency0.1-mean-seed0": "none-mean-seed0",
    "none-krum-seed0": "none-krum-seed0",
    "ada_full-frequency0.1-krum-seed0": "none-krum-seed0",
  }
  by_name = {one.name: one for one in runs}
  assert by_name["none-krum-seed0"].after == "none-mean-seed0"
  assert by_name["ada_full-frequency0.1-krum-seed0"].config.aggregator == "krum"


def test_a_source_is_no_target():
  with pytest.raises(ConfigError, match="targets: a source class is among them"):
    plan(targets=[2, 3])


def test_targets_taken_are_distinct_and_of_the_rounds_with_an_adversary():
  metrics = pd.DataFrame(
    {"malicious_clients": [0, 1, 2, 1, 0, 1], "target_2": [-1, -1, 7, 7, 5, 3]}
  )
  assert semi_targeted_sweep.targets_taken(metrics, 2) == [3, 7]
  assert semi_targeted_sweep.targets_taken(metrics[:2], 2) == []


def rows():
  """Train-and-scale does best with 7; ADA takes 7 with seed 0, and 3 with seed 1."""
  common = {"dataset": "mnist", "frequency": 0.05, "its_mta": 0.98, "best_max_ata": 0.1,
            "test_accuracy": 0.97}  # fmt: skip
  for aggregator, factor in (("mean", 1.0), ("krum", 0.1)):
    for seed in (0, 1):
      yield common | {"attack": "none", "aggregator": aggregator, "seed": seed}
      for target, ata in ((3, 0.2), (7, 0.6)):
        yield common | {
          "attack": "train_and_scale", "aggregator": aggregator, "seed": seed, "target": target,
          "best_ata": factor * ata, "targets_chosen": f"[[{target}]]",
        }  # fmt: skip
      yield common | {
        "attack": "ada_full", "aggregator": aggregator, "seed": seed, "best_ata": factor * 0.5,
        "targets_chosen": "[[7]]" if seed == 0 else "[[3]]",
      }  # fmt: skip


def test_tables_stand_beside_the_published_values():
  text = "\n".join(semi_targeted_tables.describe(pd.DataFrame(rows()), [2]))
  row = "| train and scale | 0.05 | 2 | 2 | 0.400 +/- 0.000 | 0.600 +/- 0.000 | 0.980 +/- 0.000 |"
  assert f"{row} 0.191 | 0.990 |" in text
  assert "| ada full | 0.05 | 1 | 2 | 0.500 +/- 0.000 |" in text
  assert "| 0.832 | 0.989 |" in text
  assert "| ada full | 0.05 | 0 | 7 | 7 | yes |" in text
  assert "| ada full | 0.05 | 1 | 3 | 7 | no |" in text
  assert "The same in 1 of 2 runs." in text
  assert "| train and scale | 0.60 / 0.98 | 0.06 / 0.98 |" in text
  # The published tables are of source class 2.
  assert "0.191" not in "\n".join(semi_targeted_tables.describe(pd.DataFrame(rows()), [1]))


@pytest.mark.slow
def test_a_sweep(tmp_path):
  result = programs.run(
    "semi_targeted_sweep", "preset=quick", "num_clients=6", "samples_per_client=60",
    "clients_per_round=5", "converge_rounds=3", "rounds=3",
    "attacks=[train_and_scale,ada_full]", "targets=[3]", "frequencies=[0.5]",
    "aggregators=[mean,coordinate_median]", "repetitions=1",
    f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr + (tmp_path / "log.txt").read_text()
  assert "6 of 6 runs are complete" in result.stdout
  summary = pd.read_csv(tmp_path / "summary.csv")
  assert sorted(summary["attack"]) == ["ada_full"] * 2 + ["none"] * 2 + ["train_and_scale"] * 2
  assert (summary["rounds_before_attack"] == 3).all()
  # Only the run without attack has converged by itself.
  folders = {path.parent.name for path in tmp_path.glob("runs/*/convergence")}
  assert folders == {"none-mean-seed0"}
  assert "## Attack against defence" in (tmp_path / "tables.md").read_text()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["attack=none"], "error: attack: is what the sweep varies; leave it out"),
    (["targets=[2]"], "error: targets: a source class is among them"),
    (["frequencies=[0.01]"], "error: attacking_frequency: 0.01 of 20 clients is no whole number"),
    (["aggregators=[best]"], "error: aggregators: ['best'] is not allowed; allowed: one or more"),
  ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(arguments, message, tmp_path):
  folder = tmp_path / "results"
  frequencies = [] if "frequencies" in arguments[0] else ["frequencies=[0.5]"]
  result = programs.run(
    "semi_targeted_sweep", "preset=quick", *frequencies, *arguments, f"output_dir={folder}"
  )
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert not folder.exists()
