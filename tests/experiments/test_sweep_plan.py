"""What each sweep consists of."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from experiments import (
  class_pairs,
  combinations,
  controls,
  differential_privacy,
  distributions,
  dp_frontier,
  leakage_table,
  semi_targeted_sweep,
  sweep,
  sweep_plan,
)
from experiments.options import ConfigError


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
  (tmp_path / "experiment.txt").write_text("controls")
  with pytest.raises(ConfigError, match=r"is of experiments\.controls"):
    class_pairs.choose(config)
  (tmp_path / "experiment.txt").write_text("combinations")
  with pytest.raises(ConfigError, match="is no finished sweep"):
    class_pairs.choose(config)
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
    class_pairs.choose(config)


@pytest.mark.parametrize(
  "config_class",
  [
    combinations.CombinationsConfig,
    controls.ControlsConfig,
    differential_privacy.DifferentialPrivacyConfig,
    distributions.DistributionsConfig,
    dp_frontier.FrontierConfig,
    leakage_table.LeakageTableConfig,
    semi_targeted_sweep.SemiTargetedSweepConfig,
  ],
)
def test_what_a_sweep_varies_are_options_of_its_runs(config_class):
  assert set(config_class.varies) < {field.name for field in dataclasses.fields(config_class)}


def test_a_setting_has_no_other_options_than_a_user_must_not_give():
  for options in sweep_plan.SETTINGS.values():
    assert set(options) <= set(sweep_plan.SETTING_OPTIONS)


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
  # Ten settings; both pairs share the run without attack at alpha = 0 only. Where the adversary
  # disobeys, it is the one in which everybody obeys.
  assert len(by_name) == len(plan) == 10 * (2 + 2) + 8 * (1 + 2)
  for one in plan:
    assert by_name[one.control].attack == "none"
    assert by_name[one.control].setting == one.setting.removesuffix("_disobeyed")
    assert by_name[one.control].config.adversary_noise
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


def test_a_run_that_diverged_has_no_accuracy(tmp_path):
  config = combinations.CombinationsConfig(rounds=3)
  accuracies = [0.3, 0.6, np.nan]
  pd.DataFrame({"test_accuracy": accuracies}).to_csv(tmp_path / "metrics.csv", index=False)
  summary = {
    "average_attack_accuracy": np.nan, "test_accuracy": np.nan, "best_test_accuracy": 0.6,
    "diverged_round": 3,
  }  # fmt: skip
  (tmp_path / "summary.json").write_text(json.dumps(summary))
  partition = {"adversaries": [0], "table": [[1, 2]]}
  (tmp_path / "partition.json").write_text(json.dumps(partition))
  row = sweep_plan.row(sweep.Run("one", "crpa", config), tmp_path, None)
  assert np.isnan([row["mean_test_accuracy"], row["late_test_accuracy"]]).all()
  assert row["best_test_accuracy"] == 0.6


def test_late_accuracy_is_of_the_last_rounds(tmp_path):
  config = combinations.CombinationsConfig(rounds=25)
  accuracies = np.linspace(0, 1, 25)
  pd.DataFrame({"test_accuracy": accuracies}).to_csv(tmp_path / "metrics.csv", index=False)
  summary = {"average_attack_accuracy": 0.1, "test_accuracy": 1.0, "best_test_accuracy": 1.0}
  (tmp_path / "summary.json").write_text(json.dumps(summary))
  (tmp_path / "partition.json").write_text(json.dumps({"adversaries": [0], "table": [[1, 2]]}))
  row = sweep_plan.row(sweep.Run("one", "crpa", config), tmp_path, None)
  assert row["late_test_accuracy"] == pytest.approx(accuracies[5:].mean())


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
  plan = {one.name: one.config for one in dp_frontier.plan(config)}
  for one in dp_frontier.plan(config):
    assert plan[one.control].noise_multiplier == one.config.noise_multiplier
