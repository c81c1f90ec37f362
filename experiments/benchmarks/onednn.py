"""Measures what oneDNN's convolutions save in a round of CRPA."""

import dataclasses
import os
import pathlib
import subprocess
import tempfile

import pandas as pd

from experiments import crpa_config, data, program, results_folder
from experiments.crpa_config import CRPAConfig
from experiments.options import option, shared, validate
from tff_attacks.data import datasets

SUMMARY = """\
Runs CRPA with TensorFlow's own convolutions and with oneDNN's, each in processes of their own, in \
turn, and compares the seconds of a round. Writes seconds.csv and table.csv."""

_TRACING = 2
"""Rounds that are not measured."""


@dataclasses.dataclass
class OneDNNConfig:
  """Options of `python -m experiments.benchmarks.onednn`."""

  rounds: int = option(6, "Rounds of a run; the first two are not measured.", at_least=_TRACING + 1)
  repetitions: int = option(4, "Runs of each.", at_least=1)
  dataset: str = option("mnist", "Data set.", choices=datasets.NAMES)
  data_dir: str | None = option(None, "As in experiments.crpa.")
  client_threads: int = option(1, "As in experiments.crpa.", at_least=1)
  seed: int = option(0, "Of the runs, and of the order of measurements.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/onednn/<date and time>."
  )


def run(config: OneDNNConfig) -> int:
  """Measures and returns the exit status."""
  validate(config)
  one = CRPAConfig(**shared(config, CRPAConfig))
  crpa_config.check(one)
  data.check(one)

  # TensorFlow takes seconds to import; help and bad input need not wait for it.
  from experiments.benchmarks import measure
  from tff_attacks.runtime import worker

  worker.remove_stock_context()
  results = results_folder.create(config, "benchmarks/onednn")
  measures = {
    "onednn": lambda: _seconds(config, "1"),
    "without": lambda: _seconds(config, "0"),
  }
  seconds = measure.interleaved(measures, config.repetitions, config.seed)
  measure.release(results, seconds, measure.summarise(seconds, "onednn"))
  return 0


def _seconds(config: OneDNNConfig, onednn: str) -> float:
  """Seconds of a round, the median."""
  with tempfile.TemporaryDirectory() as folder:
    options = shared(config, CRPAConfig) | {"output_dir": folder}
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn}
    program.call("crpa", options, stdout=subprocess.DEVNULL, env=environment)
    return pd.read_csv(pathlib.Path(folder, "metrics.csv"))["seconds"][_TRACING:].median()


if __name__ == "__main__":
  program.main("experiments.benchmarks.onednn", OneDNNConfig, SUMMARY, run)
