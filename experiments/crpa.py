"""One run of the combined reconstruction and poisoning attack (CRPA)."""

import datetime

from omegaconf import OmegaConf

from experiments import program
from experiments.crpa_config import SUMMARY, CRPAConfig, check
from experiments.options import ConfigError


def run(config: CRPAConfig) -> int:
  """Runs, or resumes, one CRPA run and returns its exit status."""
  resuming = config.resume is not None
  if resuming:
    config = program.read_config(CRPAConfig, config.resume)
  check(config)

  # TensorFlow takes seconds to import; help and most bad input need not wait for it.

  from experiments import crpa_run, crpa_setup
  from tff_attacks.simulation import results as results_lib

  setup = crpa_setup.prepare(config)
  if resuming:
    results = results_lib.Results(config.output_dir)
  else:
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    config.output_dir = config.output_dir or f"results/crpa/{stamp}"
    try:
      results = results_lib.create(config.output_dir, OmegaConf.to_yaml(config))
    except OSError as error:
      raise ConfigError(
        f"output_dir: {error}; give a new folder, or resume=<folder> to go on with a run"
      ) from error
  return crpa_run.run(config, setup, results)


if __name__ == "__main__":
  program.main("experiments.crpa", CRPAConfig, SUMMARY, run)
