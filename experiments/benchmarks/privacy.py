"""Measures a training step under differential privacy, in several implementations."""

import dataclasses

from experiments import program, results_folder
from experiments.options import ConfigError, option, validate

SUMMARY = """\
Measures a training step of the CRPA study's global model: without privacy; with every record's \
gradient clipped, by this project, by TF Privacy's fast gradient clipping, by tf.vectorized_map \
and by TF Privacy's vectorized optimizer; and with TF Privacy's optimizer and a few microbatches.
All are measured in turn, in a new random order in each repetition. Writes seconds.csv (every \
measurement) and table.csv (their summary, and the memory that each adds to a process of its \
own)."""


@dataclasses.dataclass
class PrivacyConfig:
  """Options of `python -m experiments.benchmarks.privacy`."""

  implementations: list[str] = option(
    ["plain", "records", "tf_privacy_ghost", "vectorized_map", "optimizer"],
    "What to measure; besides these, vectorized_optimizer.",
  )
  batch_size: int = option(250, "Images in a step.", at_least=1)
  num_microbatches: int = option(25, "Of `optimizer`.", at_least=1)
  warm_up: int = option(2, "Steps of each before anything is measured.", at_least=1)
  repetitions: int = option(15, "Measurements of each.", at_least=1)
  seed: int = option(0, "Of the batch, the model and the order of the measurements.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/privacy/<date and time>."
  )


def run(config: PrivacyConfig) -> int:
  """Measures and returns the exit status."""
  validate(config)
  if config.batch_size % config.num_microbatches:
    raise ConfigError(f"num_microbatches: does not divide batch_size, {config.batch_size}")

  # TensorFlow takes seconds to import; help and bad input need not wait for it.
  from experiments.benchmarks import measure, steps
  from tff_attacks.runtime import worker

  worker.remove_stock_context()
  if "records" not in config.implementations:
    raise ConfigError("implementations: records must be among them, to compare with")
  for name in config.implementations:
    if name not in steps.GRADIENTS:
      raise ConfigError(f"implementations: {name!r}; allowed: {', '.join(steps.GRADIENTS)}")
  results = results_folder.create(config, "benchmarks/privacy")
  arguments = (config.batch_size, config.num_microbatches, config.seed)
  works = {name: steps.build(name, *arguments) for name in config.implementations}
  for work in works.values():
    for _ in range(config.warm_up):
      work()
  measures = {name: measure.timed(work) for name, work in works.items()}
  seconds = measure.interleaved(measures, config.repetitions, config.seed)
  table = measure.summarise(seconds, "records")
  table["memory_mb"] = {name: steps.peak_memory(name, *arguments) for name in works}
  measure.release(results, seconds, table)
  return 0


if __name__ == "__main__":
  program.main("experiments.benchmarks.privacy", PrivacyConfig, SUMMARY, run)
