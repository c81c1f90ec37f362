"""Tables I and II: attacks, targets, frequencies and defences from one converged model a seed."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from experiments import program, sweep
from experiments.options import ConfigError, option, shared
from experiments.semi_targeted_config import (
  AGGREGATORS,
  ATTACKS,
  NO_TARGET,
  SemiTargetedConfig,
  needs_target,
)
from experiments.sweep import LaunchOptions, Run
from tff_attacks import files
from tff_attacks.data import datasets

SUMMARY = """\
Runs semi-targeted attacks from the converged model of each seed: every attack, with every target \
if it does not choose its own, at every frequency, against every aggregator, and no attack at all. \
Writes summary.csv (a row a run) and tables.md: the highest ATA and its MTA beside the published \
ones, how often ADA's target is the best one, and attack against defence.
It can be stopped at any time and goes on with resume=<folder>."""

VARIES = ("attack", "target", "attacking_frequency", "aggregator", "start_from")


@dataclasses.dataclass
class SemiTargetedSweepConfig(LaunchOptions, SemiTargetedConfig):
  """Options of `python -m experiments.semi_targeted_sweep`."""

  attacks: list[str] = option(
    ["label_flipping", "train_and_scale", "ada_full", "ada_partial"],
    "What compromised clients do, beside nothing at all.",
    choices=[attack for attack in ATTACKS if attack != "none"],
  )
  targets: list[int] = option(
    [], "Targets of attacks that do not choose their own; none means every other class."
  )
  frequencies: list[float] = option([0.01, 0.05, 0.1], "Shares of compromised clients.", above=0)
  aggregators: list[str] = option(["mean"], "Defences.", choices=AGGREGATORS)


def plan(config: SemiTargetedSweepConfig) -> list[Run]:
  """For each seed a run without attack, and all others from where it converged.

  Raises:
    ConfigError: If a target is a source.
  """
  classes = range(datasets.NUM_CLASSES[config.dataset])
  targets = config.targets or [label for label in classes if label not in config.sources]
  if set(targets) & set(config.sources):
    raise ConfigError("targets: a source class is among them")
  runs = []
  for seed in range(config.seed, config.seed + config.repetitions):
    base = f"none-mean-seed{seed}"
    options = shared(config, SemiTargetedConfig) | {
      "seed": seed, "start_from": None, "target": targets[0],
    }  # fmt: skip
    nothing = SemiTargetedConfig(**options | {"attack": "none", "aggregator": "mean"})
    runs.append(Run(base, "none", nothing, control=base))
    for aggregator in config.aggregators:
      control = f"none-{aggregator}-seed{seed}"
      if control != base:
        defended = dataclasses.replace(nothing, aggregator=aggregator)
        runs.append(Run(control, "none", defended, control=control, after=base))
      for attack in config.attacks:
        for target in targets if needs_target(attack) else targets[:1]:
          for frequency in config.frequencies:
            named = f"-target{target}" if needs_target(attack) else ""
            name = f"{attack}{named}-frequency{frequency:g}-{aggregator}-seed{seed}"
            one = SemiTargetedConfig(
              **options
              | {
                "attack": attack,
                "target": target,
                "attacking_frequency": frequency,
                "aggregator": aggregator,
              }
            )
            runs.append(Run(name, attack, one, control=control, after=base))
  return runs


def row(one: Run, folder: pathlib.Path, control: pathlib.Path | None) -> dict[str, Any]:
  """A finished run in `summary.csv`, see `sweep.run`."""
  config = one.config
  summary = json.loads((folder / "summary.json").read_text())
  metrics = pd.read_csv(folder / "metrics.csv")
  return {
    "run": one.name,
    "control": one.control,
    "dataset": config.dataset,
    "attack": one.attack,
    "sources": json.dumps(config.sources),
    "target": config.target if needs_target(one.attack) else np.nan,
    "frequency": np.nan if one.attack == "none" else config.attacking_frequency,
    "aggregator": config.aggregator,
    "seed": config.seed,
    "best_ata": summary["best_ata"],
    "its_mta": summary["its_mta"],
    "best_mta": summary["best_mta"],
    "its_targets": json.dumps(list(summary["its_targets"].values())),
    "targets_chosen": json.dumps([targets_taken(metrics, source) for source in config.sources]),
    "best_max_ata": summary["best_max_ata"],
    "last_ata": summary["ata"],
    "test_accuracy": summary["test_accuracy"],
    "malicious_clients": summary["malicious_clients_in_all"],
    **{name: metrics[name].sum() for name in metrics if name.startswith("rejected")},
    "converged": summary["converged"],
    "rounds_before_attack": summary["rounds_before_attack"],
  }


def targets_taken(metrics: pd.DataFrame, source: int) -> list[int]:
  """The distinct targets for a source class, over the rounds in which an adversary took part."""
  taken = metrics.loc[metrics["malicious_clients"] > 0, f"target_{source}"]
  return sorted(set(taken.astype(int)) - {NO_TARGET})


def report(config: SemiTargetedSweepConfig, folder: pathlib.Path) -> None:
  """Writes and says the tables."""
  from experiments import semi_targeted_tables

  summary = pd.read_csv(folder / "summary.csv", float_precision="round_trip")
  text = "\n".join(semi_targeted_tables.describe(summary, config.sources))
  files.write_text(folder / "tables.md", text)
  print(text)


def run(config: SemiTargetedSweepConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep.run(config, "semi_targeted_sweep", "semi_targeted", plan, row, report, VARIES)


if __name__ == "__main__":
  program.main("experiments.semi_targeted_sweep", SemiTargetedSweepConfig, SUMMARY, run)
