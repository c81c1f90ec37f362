"""Adversarial images out of a leaked gradient: what a model calls the pictures inverted from it."""

from experiments import program, results_folder, saved_config
from experiments.adversarial_leakage_config import (
  GROWING,
  SUMMARY,
  AdversarialLeakageConfig,
  check,
)


def run(config: AdversarialLeakageConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  resume = config.resume
  if resume is not None:
    config = saved_config.read(
      "adversarial_leakage", AdversarialLeakageConfig, resume, ("data_dir",), GROWING
    )
  check(config)
  results_folder.check(config, resume is not None)

  # TensorFlow takes seconds, and help and most bad input need not wait for it.
  from experiments import adversarial_leakage_run, adversarial_leakage_setup
  from tff_attacks.runtime import gpus

  gpus.prepare()
  setup = adversarial_leakage_setup.prepare(config)
  with results_folder.opened(config, "adversarial_leakage", resume is not None) as results:
    return adversarial_leakage_run.run(config, setup, results)


if __name__ == "__main__":
  program.main("experiments.adversarial_leakage", AdversarialLeakageConfig, SUMMARY, run)
