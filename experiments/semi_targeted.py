"""One run of the semi-targeted attacks and their defences."""

from experiments import program
from experiments.semi_targeted_config import SUMMARY, SemiTargetedConfig


def run(config: SemiTargetedConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  return program.federated(config, "semi_targeted")


if __name__ == "__main__":
  program.main("experiments.semi_targeted", SemiTargetedConfig, SUMMARY, run)
