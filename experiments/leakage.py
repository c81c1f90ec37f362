"""One reconstruction by a curious server."""

from experiments import program
from experiments.leakage_config import SUMMARY, LeakageConfig


def run(config: LeakageConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  return program.federated(config, "leakage")


if __name__ == "__main__":
  program.main("experiments.leakage", LeakageConfig, SUMMARY, run)
