"""E3: the two ends of E2; the baseline of differential privacy, which is still to come."""

import dataclasses

from experiments import distributions, program, sweep
from experiments.options import option

SUMMARY = """\
Runs CRPA on three pairs of classes with one class per client (alpha = 0) and with nearly equal \
shares (alpha = 10), and without attack: what differential privacy, which is not there yet, is to \
be compared with. Writes summary.csv (a row a run) and draws the bars.
It can be stopped at any time and goes on with resume=<folder>."""


@dataclasses.dataclass
class DifferentialPrivacyConfig(distributions.DistributionsConfig):
  """Options of `python -m experiments.differential_privacy`."""

  alphas: list[float] = option([0.0, 10.0], "Concentrations.")


def run(config: DifferentialPrivacyConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep.run(
    config, "differential_privacy", distributions.plan, distributions.report, distributions.VARIES
  )


if __name__ == "__main__":
  program.main("experiments.differential_privacy", DifferentialPrivacyConfig, SUMMARY, run)
