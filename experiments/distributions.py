"""The attack under other distributions of the classes over the clients."""

import dataclasses
import pathlib
from typing import Any

from experiments import program, results_folder, sweep_plan
from experiments.options import ConfigError, option

SUMMARY = """\
Runs CRPA on three pairs of classes at several concentrations alpha of the Dirichlet distribution, \
from one class per client (0) to nearly equal shares (10), each with several seeds, and without \
attack. Writes summary.csv (a row a run) and draws the bars and the images over alpha (the CRPA \
study's Figures 6 and 7).
It can be stopped at any time and goes on with resume=<folder>."""


@dataclasses.dataclass
class PairsConfig(sweep_plan.SweepConfig):
  """Options of every sweep over a few pairs."""

  pairs: list[str] = option([], "Pairs of classes G-T, as [4-9,8-4], in place of combinations=.")
  combinations: str | None = option(
    None,
    "Folder of a finished experiments.combinations; the pairs are its lowest, the one closest to "
    "its mean, and its highest, unless `pairs` names them.",
  )


@dataclasses.dataclass
class DistributionsConfig(PairsConfig):
  """Options of `python -m experiments.distributions`."""

  varies = (*PairsConfig.varies, "alpha")
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
    for g, t in choose_pairs(config)
    for alpha in config.alphas
  ]


def choose_pairs(config: PairsConfig) -> list[tuple[int, int]]:
  """The pairs that are given, or three of a sweep over all of them, which are kept.

  Raises:
    ConfigError: If there is neither, or the sweep cannot be read.
  """
  if config.pairs:
    return sweep_plan.parse_pairs(config)
  if config.combinations is None:
    raise ConfigError("pairs: give them as [4-9,8-4,0-1], or combinations=<folder>")

  from tff_attacks.plots import study

  folder = pathlib.Path(config.combinations)
  summary = results_folder.read_sweep("combinations", "combinations", config.combinations)
  try:
    if len((folder / "failures.csv").read_text().splitlines()) > 1:
      raise ConfigError(f"combinations: not all runs of {folder} are complete")
  except OSError as error:
    raise ConfigError(f"combinations: {folder} is no finished sweep: {error}") from error
  if set(summary["dataset"]) != {config.dataset}:
    raise ConfigError(f"combinations: that sweep is not of dataset={config.dataset}")
  chosen = study.three_pairs(study.by_pair(summary)[study.AAA])
  # The other sweep may change or go; these pairs stay.
  config.pairs = [f"{g}-{t}" for g, t in chosen]
  return sweep_plan.parse_pairs(config)


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
