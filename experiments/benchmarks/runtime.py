"""Measures the in-process runtime against TFF's stock worker."""

import dataclasses

from experiments import program, results_folder
from experiments.options import ConfigError, option, validate

SUMMARY = """\
Measures small TFF computations in this process and in the stock TFF worker: large client states, \
many clients, and training on datasets of several sizes.
The runtimes are measured in turn, in a new random order in each repetition. Writes seconds.csv \
(every measurement) and table.csv (their summary)."""


@dataclasses.dataclass
class RuntimeConfig:
  """Options of `python -m experiments.benchmarks.runtime`."""

  clients: int = option(5, "Clients with a large state or with images.", at_least=1)
  state_mb: float = option(20.0, "State of each client, in 1e6 bytes.", above=0)
  tiny_clients: int = option(300, "Clients with ten numbers.", at_least=1)
  images: list[int] = option([300, 1000, 5000], "Images of each client, one case each.", at_least=1)
  device: str | None = option(None, "In process: CPU:0, GPU:0; null leaves it to TensorFlow.")
  client_threads: int = option(1, "Clients that run at the same time, in process.", at_least=1)
  warm_up: int = option(2, "Calls of each before anything is measured.", at_least=1)
  repetitions: int = option(15, "Measurements of each.", at_least=1)
  seed: int = option(0, "Of data and the order of the measurements.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/runtime/<date and time>."
  )


def run(config: RuntimeConfig) -> int:
  """Measures and returns the exit status."""
  validate(config)

  # TensorFlow takes seconds to import; help and bad input need not wait for it.
  import pandas as pd

  from experiments.benchmarks import cases, measure

  try:
    runtimes = cases.in_process_runtimes(config.device, config.client_threads)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  results = results_folder.create(config, "benchmarks/runtime")
  seconds = {}
  with cases.with_worker(runtimes) as runtimes:
    for name, build in cases.cases(config).items():
      case = build()
      works = {runtime: cases.work(case, *entry) for runtime, entry in runtimes.items()}
      for work in works.values():
        for _ in range(config.warm_up):
          work()
      measures = {runtime: measure.timed(work) for runtime, work in works.items()}
      seconds[name] = measure.interleaved(measures, config.repetitions, config.seed)
  tables = {name: measure.summarise(times, "in_process") for name, times in seconds.items()}
  measure.release(results, pd.concat(seconds, names=["case"]), pd.concat(tables, names=["case"]))
  return 0


if __name__ == "__main__":
  program.main("experiments.benchmarks.runtime", RuntimeConfig, SUMMARY, run)
