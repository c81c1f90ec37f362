"""One run of GAN information stealing."""

from experiments import program
from experiments.information_stealing_config import SUMMARY, InformationStealingConfig, check


def run(config: InformationStealingConfig) -> int:
  """Runs, or resumes, one run and returns its exit status."""
  resuming = config.resume is not None
  if resuming:
    config = program.read_config(InformationStealingConfig, config.resume)
  check(config)

  # TensorFlow takes seconds to import; help and most bad input need not wait for it.
  from experiments import information_stealing_run, runtime_options
  from tff_attacks.runtime import worker
  from tff_attacks.simulation import results as results_lib

  worker.remove_stock_context()
  with runtime_options.start(config) as runtime:
    setup = information_stealing_run.prepare(config)
    if resuming:
      results = results_lib.Results(config.output_dir)
    else:
      results = program.create_results(config, "information_stealing")
    return information_stealing_run.run(config, setup, runtime, results)


if __name__ == "__main__":
  program.main("experiments.information_stealing", InformationStealingConfig, SUMMARY, run)
