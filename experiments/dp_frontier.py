"""What privacy costs: accuracy and attack over epsilon, for each kind of noise."""

import dataclasses
import pathlib
from typing import Any

from experiments import class_pairs, program, sweep_plan
from experiments.options import option

SUMMARY = """\
Runs CRPA on some pairs of classes under noise of several sizes, added to batches (microbatches, \
as published), to records, or at the server (clients); beside it, each with its clipping alone, \
the published optimizer alone, and nothing at all. Each also without attack. Writes summary.csv (a \
row a run) and draws accuracy and AAA over epsilon, with the reconstructions.
It can be stopped at any time and goes on with resume=<folder>."""

NOISY = ("microbatches", "records", "clients")


@dataclasses.dataclass
class FrontierConfig(class_pairs.PairsConfig):
  """Options of `python -m experiments.dp_frontier`."""

  varies = (*class_pairs.PairsConfig.varies, *sweep_plan.SETTING_OPTIONS)
  noise_multipliers: list[float] = option([0.1, 0.3, 1.0, 4.0, 8.0], "Sizes of the noise.", above=0)
  settings: list[str] = option(list(NOISY), "Where the noise is added.", choices=NOISY)


def plan(config: FrontierConfig) -> list[sweep_plan.Run]:
  """A run for each pair, setting, size of the noise (and none) and seed."""
  levels: list[dict[str, Any]] = [{"setting": "none"}, {"setting": "sgd"}]
  levels += [
    {"setting": setting, "noise_multiplier": noise}
    for setting in config.settings
    for noise in (0.0, *config.noise_multipliers)
  ]
  cells = [
    ("crpa", {"reconstruct": g, "poison": t} | level)
    for g, t in class_pairs.choose(config)
    for level in levels
  ]
  return sweep_plan.with_controls(config, cells)


def report(config: FrontierConfig, folder: pathlib.Path) -> None:
  """Draws the figure and says what came out."""
  del config
  from tff_attacks.plots import privacy, study

  summary = study.read(folder)
  privacy.frontier(summary, folder)
  columns = ["reconstruct", "poison", "setting", "noise_multiplier", "epsilon"]
  print(study.table(summary.fillna({"noise_multiplier": 0}), columns).to_string())


def run(config: FrontierConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep_plan.run(config, "dp_frontier", plan, report)


if __name__ == "__main__":
  program.main("experiments.dp_frontier", FrontierConfig, SUMMARY, run)
