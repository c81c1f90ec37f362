"""One run of the combined reconstruction and poisoning attack (CRPA)."""

from experiments import program
from experiments.crpa_config import SUMMARY, CRPAConfig, check


def run(config: CRPAConfig) -> int:
  """Runs, or resumes, one CRPA run and returns its exit status."""
  resuming = config.resume is not None
  if resuming:
    config = program.read_config(CRPAConfig, config.resume)
  check(config)

  # TensorFlow takes seconds to import; help and most bad input need not wait for it.
  from experiments import crpa_run, crpa_setup, runtime_options
  from tff_attacks.runtime import worker
  from tff_attacks.simulation import results as results_lib

  worker.remove_stock_context()
  with runtime_options.start(config) as runtime:
    setup = crpa_setup.prepare(config)
    if resuming:
      results = results_lib.Results(config.output_dir)
    else:
      results = program.create_results(config, "crpa")
    return crpa_run.run(config, setup, runtime, results)


if __name__ == "__main__":
  program.main("experiments.crpa", CRPAConfig, SUMMARY, run)
