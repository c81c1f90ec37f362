"""Adversarial images out of a leaked gradient: what a model calls the pictures inverted from it."""

from experiments import program
from experiments.adversarial_leakage_config import SUMMARY, AdversarialLeakageConfig, check


def run(config: AdversarialLeakageConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  resuming = config.resume is not None
  if resuming:
    config = program.read_config(AdversarialLeakageConfig, config.resume, changeable=())
  check(config)

  # TensorFlow takes seconds, and help and most bad input need not wait for it.
  from experiments import adversarial_leakage_run, adversarial_leakage_setup
  from tff_attacks.simulation import results as results_lib

  setup = adversarial_leakage_setup.prepare(config)
  folder = config.output_dir
  results = (
    results_lib.Results(folder)
    if resuming
    else program.create_results(config, "adversarial_leakage")
  )
  return adversarial_leakage_run.run(config, setup, results)


if __name__ == "__main__":
  program.main("experiments.adversarial_leakage", AdversarialLeakageConfig, SUMMARY, run)
