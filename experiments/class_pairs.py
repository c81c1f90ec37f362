"""The pairs of classes that a sweep is over."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from experiments import results_folder, sweep, sweep_plan
from experiments.options import ConfigError, option


@dataclasses.dataclass
class PairsConfig(sweep_plan.SweepConfig):
  """Options of every sweep over a few pairs."""

  pairs: list[str] = option([], "Pairs of classes G-T, as [4-9,8-4], in place of combinations=.")
  combinations: str | None = option(
    None,
    "Folder of a finished experiments.combinations; the pairs are its lowest, the one closest to "
    "its mean, and its highest, unless `pairs` names them.",
  )


def choose(config: PairsConfig) -> list[tuple[int, int]]:
  """The pairs that are given, or three of a sweep over all of them, which are kept.

  Raises:
    ConfigError: If there is neither, or the sweep cannot be read.
  """
  if config.pairs:
    return parse(config.pairs)
  if config.combinations is None:
    raise ConfigError("pairs: give them as [4-9,8-4,0-1], or combinations=<folder>")

  from tff_attacks.plots import study

  folder = pathlib.Path(config.combinations)
  summary = results_folder.read_sweep("combinations", "combinations", config.combinations)
  try:
    if len((folder / sweep.FAILURES).read_text().splitlines()) > 1:
      raise ConfigError(f"combinations: not all runs of {folder} are complete")
  except OSError as error:
    raise ConfigError(f"combinations: {folder} is no finished sweep: {error}") from error
  if set(summary["dataset"]) != {config.dataset}:
    raise ConfigError(f"combinations: that sweep is not of dataset={config.dataset}")
  chosen = study.three_pairs(study.by_pair(summary)[study.AAA])
  # The other sweep may change or go; these pairs stay.
  config.pairs = [f"{g}-{t}" for g, t in chosen]
  return parse(config.pairs)


def parse(pairs: Sequence[str]) -> list[tuple[int, int]]:
  """Reads pairs such as `4-9`.

  Raises:
    ConfigError: If one is not of that form.
  """
  for pair in pairs:
    if not re.fullmatch(r"\d+-\d+", pair):
      raise ConfigError(f"pairs: {pair!r} is not allowed; allowed: <class G>-<class T>")
  return [(int(g), int(t)) for g, t in (pair.split("-") for pair in pairs)]
