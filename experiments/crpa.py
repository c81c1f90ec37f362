"""One run of the combined reconstruction and poisoning attack (CRPA)."""

from experiments import program
from experiments.crpa_config import SUMMARY, CRPAConfig


def run(config: CRPAConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  return program.federated(config, "crpa")


if __name__ == "__main__":
  program.main("experiments.crpa", CRPAConfig, SUMMARY, run)
