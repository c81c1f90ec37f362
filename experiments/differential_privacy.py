"""Does differential privacy stop the attack?"""

import dataclasses
import pathlib

from experiments import distributions, program, sweep_plan
from experiments.options import option

SUMMARY = """\
Runs CRPA on some pairs of classes, with one class per client (alpha = 0) and with almost equal \
shares (alpha = 10), under several settings of differential privacy: none; as published \
(microbatches: the whole batch is clipped as one); of each record; of each client at the server. \
Controls, because these change more than the noise: the published optimizer alone (sgd), each \
clipping without noise, and an adversary that only clips. Each also without attack. Writes \
summary.csv (a row a run) and draws the bars (the CRPA study's Figure 8).
It can be stopped at any time and goes on with resume=<folder>."""


@dataclasses.dataclass
class DifferentialPrivacyConfig(distributions.DistributionsConfig):
  """Options of `python -m experiments.differential_privacy`."""

  varies = (*distributions.DistributionsConfig.varies, *sweep_plan.SETTING_OPTIONS)
  alphas: list[float] = option([0.0, 10.0], "Concentrations.", at_least=0)
  settings: list[str] = option(
    list(sweep_plan.SETTINGS), "What protects the clients.", choices=list(sweep_plan.SETTINGS)
  )


def plan(config: DifferentialPrivacyConfig) -> list[sweep_plan.Run]:
  """A run for each pair, alpha, setting and seed."""
  cells = [
    (attack, changes | {"setting": setting})
    for setting in config.settings
    for attack, changes in distributions.cells(config)
  ]
  return sweep_plan.with_controls(config, cells)


def report(config: DifferentialPrivacyConfig, folder: pathlib.Path) -> None:
  """Draws the figures and says what came out."""
  del config
  from tff_attacks.plots import privacy, study

  summary = study.read(folder)
  privacy.settings(summary, folder)
  privacy.images(summary, folder)
  print(study.table(summary, ["reconstruct", "poison", "alpha", "setting"]).to_string())


def run(config: DifferentialPrivacyConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep_plan.run(config, "differential_privacy", plan, report)


if __name__ == "__main__":
  program.main("experiments.differential_privacy", DifferentialPrivacyConfig, SUMMARY, run)
