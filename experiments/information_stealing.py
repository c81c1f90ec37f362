"""One run of GAN information stealing."""

from experiments import program
from experiments.information_stealing_config import SUMMARY, InformationStealingConfig


def run(config: InformationStealingConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  return program.federated(config, "information_stealing")


if __name__ == "__main__":
  program.main("experiments.information_stealing", InformationStealingConfig, SUMMARY, run)
