"""Measures one CRPA round in several implementations, and its parts."""

import contextlib
import dataclasses

from experiments import crpa_config, original_crpa, program, results_folder
from experiments.options import option, shared, validate
from tff_attacks.data import datasets

SUMMARY = """\
Measures a round of CRPA (10 clients, one of them with its GAN, and an evaluation of the new \
global model) in this project's TFF process, in the stock TFF worker, in a loop without TFF, in a \
plain Keras loop and in the published code.
All are measured in turn, in a new random order in each repetition, so that times of the same \
repetition can be compared although the machine's speed drifts. Writes seconds.csv (every \
measurement) and table.csv (their summary)."""


@dataclasses.dataclass
class RoundConfig:
  """Options of `python -m experiments.benchmarks.round`."""

  dataset: str = option("mnist", "Data set.", choices=datasets.NAMES)
  data_dir: str | None = option(None, "As in experiments.crpa.")
  images_per_class: int = option(
    1000, "Training images of each class; each client holds one class.", at_least=1
  )
  batch_size: int = option(250, "Images in a step, of local training and of the GAN.", at_least=1)
  reconstruct: int = option(4, "Class G.", at_least=0)
  poison: int = option(9, "Class T.", at_least=0)
  poison_images: int = option(100, "Generated images among the adversary's data.", at_least=1)
  device: str | None = option(None, "As in experiments.crpa; of all but worker and original.")
  client_threads: int = option(2, "Clients that run at the same time, in process.", at_least=1)
  worker: bool = option(False, "Whether to measure TFF's stock worker, too.")
  original: str | None = option(
    None, "Folder of a checkout of fed-crpa/fl_crpa; null leaves the original out."
  )
  original_rounds: int = option(
    2,
    "Rounds of the original in a repetition, whose median counts. It is started anew in each, and "
    "its first two rounds (no attack yet; tracing) are left out.",
    at_least=1,
  )
  warm_up: int = option(2, "Rounds of each before anything is measured.", at_least=1)
  repetitions: int = option(9, "Measurements of each.", at_least=1)
  seed: int = option(0, "Of data, models and the order of the measurements.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/round/<date and time>."
  )


def run(config: RoundConfig) -> int:
  """Measures and returns the exit status."""
  validate(config)
  crpa = _crpa_config(config)
  crpa_config.check(crpa)
  if config.original:
    original = _original_config(config)
    validate(original)
    original_crpa.load_source(original)

  # TensorFlow takes seconds to import; help and most bad input need not wait for it.
  from experiments import crpa_setup, runtime_options
  from experiments.benchmarks import contenders, measure
  from tff_attacks.runtime import worker

  worker.remove_stock_context()
  with contextlib.ExitStack() as stack:
    contexts = {}
    if config.worker:
      stack.enter_context(worker.worker())
      contexts["worker"] = contenders.current_context()
    runtime = stack.enter_context(runtime_options.start(crpa))
    contexts["in_process"] = contenders.current_context()
    setup = crpa_setup.prepare(crpa)
    results = results_folder.create(config, "benchmarks/round")
    works = contenders.build(crpa, setup, runtime.place, contexts)
    contenders.warm_up(works, config.warm_up)
    measures = {name: measure.timed(work) for name, work in works.items()}
    if config.original:
      measures["original"] = contenders.original(original, results.folder / "original")
    seconds = measure.interleaved(measures, config.repetitions, config.seed)
  seconds["parts_sum"] = seconds[list(contenders.PARTS)].sum(axis=1)

  gflop = contenders.gflop(crpa, setup, seconds.columns)
  rates = gflop / seconds
  table = measure.summarise(seconds, "in_process")
  table["gflop"] = gflop
  table["gflop_per_s"] = rates.median()
  table["share_of_matmul"] = rates.div(rates["matmul"], axis=0).median()
  measure.release(results, seconds, table.reindex(contenders.ORDER).dropna())
  return 0


def _crpa_config(config: RoundConfig) -> crpa_config.CRPAConfig:
  """The run whose rounds are measured; the rest is as in the published code."""
  return crpa_config.CRPAConfig(
    **shared(config, crpa_config.CRPAConfig) | {"adversary": "original"}
  )


def _original_config(config: RoundConfig) -> original_crpa.OriginalConfig:
  options = shared(config, original_crpa.OriginalConfig)
  return original_crpa.OriginalConfig(**options | {"rounds": config.original_rounds + 2})


if __name__ == "__main__":
  program.main("experiments.benchmarks.round", RoundConfig, SUMMARY, run)
