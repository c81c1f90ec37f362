"""Tables I and II: attacks, targets, frequencies and defences from one converged model a seed."""

import collections
import dataclasses
import itertools
import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from experiments import defence_options, program, sweep
from experiments.launching import LaunchOptions
from experiments.options import ConfigError, bad_input, option, shared, with_default
from experiments.semi_targeted_config import (
  ATTACKS,
  CHOOSING,
  NO_TARGET,
  SemiTargetedConfig,
  needs_target,
)
from experiments.sweep import Run
from tff_attacks import files
from tff_attacks.data import datasets
from tff_attacks.learning import aggregator_names
from tff_attacks.metrics import classification, semi_targeted

SUMMARY = """\
Runs semi-targeted attacks from the converged model of each seed: every attack, with every target \
if it does not choose its own, at every frequency, against every aggregator, and no attack at all. \
Writes summary.csv (a row a run) and tables.md: the highest ATA and its MTA beside the published \
ones, how often ADA's target is the best one, and attack against defence; and draws them.
It can be stopped at any time and goes on with resume=<folder>."""

_COUNTS = ("rejected_honest", "rejected_malicious", "not_finite")


@dataclasses.dataclass
class SemiTargetedSweepConfig(LaunchOptions, SemiTargetedConfig):
  """Options of `python -m experiments.semi_targeted_sweep`."""

  varies = ("attack", "target", "attacking_frequency", "aggregator", "start_from")
  preset: str = with_default(SemiTargetedConfig, "preset", "paper")
  attacks: list[str] = option(
    ["label_flipping", "train_and_scale", *CHOOSING],
    "What compromised clients do, beside nothing at all.",
    choices=[attack for attack in ATTACKS if attack != "none"],
  )
  targets: list[int] = option(
    [], "Targets of attacks that do not choose their own; none means every other class."
  )
  frequencies: list[float] = option(
    [0.01, 0.05, 0.1], "Shares of compromised clients.", above=0, at_most=1
  )
  aggregators: list[str] = option(["mean"], "Defences.", choices=aggregator_names.NAMES)


def plan(config: SemiTargetedSweepConfig) -> list[Run]:
  """For each seed a run without attack, and all others from where it converged.

  Raises:
    ConfigError: If a target is a source, an option is of no use, or an aggregator's guarantee would
      not hold.
  """
  classes = range(datasets.NUM_CLASSES[config.dataset])
  targets = config.targets or [label for label in classes if label not in config.sources]
  if set(targets) & set(config.sources):
    raise ConfigError("targets: a source class is among them")
  _check_aggregators(config)
  runs = []
  for seed in range(config.seed, config.seed + config.repetitions):
    base = f"none-mean-seed{seed}"
    common = shared(config, SemiTargetedConfig) | {
      "seed": seed, "start_from": None, "target": targets[0],
    }  # fmt: skip
    nothing = _config(common, attack="none", aggregator="mean")
    runs.append(Run(base, "none", nothing, control=base))
    for aggregator in config.aggregators:
      control = f"none-{aggregator}-seed{seed}"
      if control != base:
        defended = _config(common, attack="none", aggregator=aggregator)
        runs.append(Run(control, "none", defended, control=control, after=base))
      for attack in config.attacks:
        for target in targets if needs_target(attack) else targets[:1]:
          for frequency in config.frequencies:
            named = f"-target{target}" if needs_target(attack) else ""
            name = f"{attack}{named}-frequency{frequency:g}-{aggregator}-seed{seed}"
            one = _config(
              common, attack=attack, target=target, attacking_frequency=frequency,
              aggregator=aggregator,
            )  # fmt: skip
            runs.append(Run(name, attack, one, control=control, after=base))
  for name in ("boost", "norm_bound", "noise_multiplier"):
    given = getattr(config, name)
    if given and all(getattr(one.config, name) != given for one in runs):
      raise ConfigError(f"{name}: no run of this sweep takes it")
  return runs


def _config(common: dict[str, Any], **options: Any) -> SemiTargetedConfig:
  """A run's configuration; what belongs to one attack or defence is given to that alone."""
  options = common | options
  if options["attack"] != "model_replacement":
    options["boost"] = None
  if options["aggregator"] not in aggregator_names.BOUNDED:
    options["norm_bound"] = None
  if options["aggregator"] not in aggregator_names.NOISY:
    options["noise_multiplier"] = 0.0
  return SemiTargetedConfig(**options)


def _check_aggregators(config: SemiTargetedSweepConfig) -> None:
  if config.aggregators == ["mean"]:
    return
  # TensorFlow takes seconds to import.
  from tff_attacks.learning import aggregation

  server = defence_options.assumptions(config, config.clients_per_round)
  for aggregator in config.aggregators:
    with bad_input():
      aggregation.build_aggregator(aggregator, server)


def row(one: Run, folder: pathlib.Path, control: pathlib.Path | None) -> dict[str, Any]:
  """A finished run in `summary.csv`, see `sweep.run`."""
  config = one.config
  summary = json.loads((folder / "summary.json").read_text())
  metrics = pd.read_csv(folder / "metrics.csv")
  clients = pd.read_csv(folder / "clients.csv")
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
    "no_attack": _unattacked(summary["its_targets"], control),
    "its_mta": summary["its_mta"],
    "best_mta": summary["best_mta"],
    "its_targets": json.dumps(list(summary["its_targets"].values())),
    "choices": json.dumps([choices(clients, source) for source in config.sources]),
    "best_max_ata": summary["best_max_ata"],
    "ata_before": summary["before_attack"]["ata"],
    "mta_before": summary["before_attack"]["mta"],
    "last_ata": summary["ata"],
    "test_accuracy": summary["test_accuracy"],
    "malicious_clients": summary["malicious_clients_in_all"],
    "honest_norm": metrics["honest_norm"].mean(),
    "malicious_norm": metrics["malicious_norm"].mean(),
    **{name: metrics[name].sum() for name in metrics if name in _COUNTS},
    "converged": summary["converged"],
    "rounds_before_attack": summary["rounds_before_attack"],
  }


def _unattacked(its_targets: dict[str, int], control: pathlib.Path | None) -> float:
  """The highest ATA with the same targets in the run without attack."""
  if control is None or NO_TARGET in its_targets.values():
    return np.nan
  matrices = classification.read_confusion_matrices(control / "confusion.csv")
  targets = {int(source): target for source, target in its_targets.items()}
  return float(semi_targeted.adversary_task_accuracies(matrices, targets).max())


def choices(clients: pd.DataFrame, source: int) -> dict[int, int]:
  """How often a compromised client took which target for a source class.

  Args:
    clients: A run's `clients.csv`.
    source: The class.
  """
  taken = itertools.chain.from_iterable(map(json.loads, clients[f"target_{source}"]))
  return dict(collections.Counter(target for target in taken if target != NO_TARGET))


def report(config: SemiTargetedSweepConfig, folder: pathlib.Path) -> None:
  """Writes and says the tables."""
  from experiments import semi_targeted_tables
  from tff_attacks.plots import semi_targeted_sweep as sweep_plots
  from tff_attacks.plots import study

  summary = study.read(folder)
  sweep_plots.draw_all(summary, folder)
  text = "\n".join(semi_targeted_tables.describe(summary, config.sources))
  files.write_text(folder / "tables.md", text)
  print(text)


def run(config: SemiTargetedSweepConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep.run(config, "semi_targeted_sweep", "semi_targeted", plan, row, report)


if __name__ == "__main__":
  program.main("experiments.semi_targeted_sweep", SemiTargetedSweepConfig, SUMMARY, run)
