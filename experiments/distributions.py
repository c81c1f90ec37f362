"""The attack under other distributions of the classes over the clients."""

import dataclasses
import pathlib
from typing import Any

from experiments import class_pairs, program, sweep_plan
from experiments.options import ConfigError, option

SUMMARY = """\
Runs CRPA on three pairs of classes at several concentrations alpha of the Dirichlet distribution, \
from one class per client (0) to nearly equal shares (10), each with several seeds, and without \
attack. Writes summary.csv (a row a run) and draws the bars and the images over alpha (the CRPA \
study's Figures 6 and 7).
It can be stopped at any time and goes on with resume=<folder>."""


@dataclasses.dataclass
class DistributionsConfig(class_pairs.PairsConfig):
  """Options of `python -m experiments.distributions`."""

  varies = (*class_pairs.PairsConfig.varies, "alpha")
  alphas: list[float] = option([0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0], "Concentrations.", at_least=0)


def plan(config: DistributionsConfig) -> list[sweep_plan.Run]:
  """A run for each pair, alpha and seed."""
  return sweep_plan.with_controls(config, cells(config))


def cells(config: DistributionsConfig) -> list[tuple[str, dict[str, Any]]]:
  """The attack on each pair at each alpha, see `sweep_plan.with_controls`.

  Raises:
    ConfigError: If these cannot be run.
  """
  if config.partition != "dirichlet":
    raise ConfigError("partition: must be dirichlet")
  return [
    ("crpa", {"reconstruct": g, "poison": t, "alpha": alpha})
    for g, t in class_pairs.choose(config)
    for alpha in config.alphas
  ]


def report(config: DistributionsConfig, folder: pathlib.Path) -> None:
  """Draws the figures and says what came out."""
  del config
  from tff_attacks.plots import study

  summary = study.read(folder)
  study.distributions(summary, folder)
  study.images(summary, folder)
  print(study.table(summary, ["reconstruct", "poison", "alpha"]).to_string())


def run(config: DistributionsConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep_plan.run(config, "distributions", plan, report)


if __name__ == "__main__":
  program.main("experiments.distributions", DistributionsConfig, SUMMARY, run)
