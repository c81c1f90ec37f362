"""The attack on every pair of classes."""

import dataclasses
import itertools
import pathlib

from experiments import class_pairs, program, sweep_plan
from experiments.options import option
from tff_attacks.data import datasets

SUMMARY = """\
Runs CRPA on all pairs of a reconstructed class G and a poisoned label T, each with several seeds, \
and without attack. Writes summary.csv (a row a run) and draws the matrix of average attack \
accuracies and their histogram (the CRPA study's Figures 4 and 5).
It can be stopped at any time and goes on with resume=<folder>."""


@dataclasses.dataclass
class CombinationsConfig(sweep_plan.SweepConfig):
  """Options of `python -m experiments.combinations`."""

  pairs: list[str] = option([], "Pairs of classes G-T, as [4-9,8-4]; none means all of them.")


def plan(config: CombinationsConfig) -> list[sweep_plan.Run]:
  """A run for each pair and seed."""
  classes = range(datasets.NUM_CLASSES[config.dataset])
  pairs = class_pairs.parse(config.pairs) or list(itertools.permutations(classes, 2))
  return sweep_plan.with_controls(
    config, [("crpa", {"reconstruct": g, "poison": t}) for g, t in pairs]
  )


def report(config: CombinationsConfig, folder: pathlib.Path) -> None:
  """Draws the figures and says what came out."""
  from tff_attacks.plots import study

  summary = study.read(folder)
  study.combinations(summary, folder)
  study.histogram(summary, folder)
  study.rounds(summary, folder)
  means = study.by_pair(summary).dropna(subset=study.AAA)
  if means.empty:
    print("All attacked runs diverged.")
    return
  aaa = means[study.AAA]
  print(
    f"AAA over {len(aaa)} pairs: mean {aaa.mean():.2f}, standard deviation {aaa.std():.2f}, from "
    f"{aaa.min():.2f} ({study.pair_name(aaa.idxmin())}) to {aaa.max():.2f} "
    f"({study.pair_name(aaa.idxmax())}); without attack "
    f"{means['no_attack'].mean():.2f}. Above 0.2: {(aaa > 0.2).mean():.0%}."
  )


def run(config: CombinationsConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep_plan.run(config, "combinations", plan, report)


if __name__ == "__main__":
  program.main("experiments.combinations", CombinationsConfig, SUMMARY, run)
