"""Runs a checkout of the original Keras code (fed-crpa/fl_crpa) on our data, for comparison.

The user's files stay as they are: the module is changed while it is loaded, each change
being asserted to fit, and its logging is answered by stand-ins that write `metrics.csv`.
"""

import dataclasses
import os
import pathlib
import random
import sys
import time
import types
from typing import TYPE_CHECKING

from experiments import program, results_folder
from experiments.crpa_config import CRPAConfig, check
from experiments.options import ConfigError, bad_input, option, shared, validate
from tff_attacks.data import datasets

if TYPE_CHECKING:
  from tff_attacks.simulation.results import Results

SUMMARY = """\
Runs the published Keras code of the CRPA study on exactly the images that experiments.crpa would \
give to the clients, and writes its metrics.csv: attack_accuracy, test_accuracy and seconds for \
each round.
It needs a checkout of fed-crpa/fl_crpa; nothing of it is part of this project."""

_MODULE = "experiments/federated_gan.py"


@dataclasses.dataclass
class OriginalConfig:
  """Options of `python -m experiments.original_crpa`."""

  original: str = option("", "Folder of the checkout.")
  dataset: str = option("mnist", "Data set.", choices=("digits", "mnist", "fashion_mnist"))
  data_dir: str | None = option(None, "As in experiments.crpa.")
  images_per_class: int = option(500, "Training images of each class.", at_least=1)
  rounds: int = option(60, "Rounds.", at_least=1)
  batch_size: int = option(25, "Replaces the original's constant of 250.", at_least=1)
  reconstruct: int = option(4, "Class G.", at_least=0)
  poison: int = option(9, "Class T.", at_least=0)
  poison_images: int = option(50, "Generated images among the adversary's data.", at_least=1)
  seed: int = option(
    0, "Of the partition and of all generators; the original has none.", at_least=0
  )
  output_dir: str | None = option(
    None, "Results folder; null is results/original_crpa/<date and time>."
  )


def run(config: OriginalConfig) -> int:
  """Runs the original and returns the exit status."""
  validate(config)
  if not config.original:
    raise ConfigError("original: give the folder of a checkout of fed-crpa/fl_crpa")
  source = load_source(config)
  # The original hides its GPUs itself, but only after its first operation.
  os.environ["CUDA_VISIBLE_DEVICES"] = ""

  import matplotlib

  matplotlib.use("Agg")
  import tensorflow as tf

  from experiments import crpa_setup, report
  from tff_attacks.simulation import results as results_lib

  ours = CRPAConfig(**shared(config, CRPAConfig) | {"adversary": "original"})
  check(ours)
  with bad_input():
    dataset = datasets.load(config.dataset, config.data_dir)
    split, clients = crpa_setup.distribute(ours, dataset)
  results = results_folder.create(config, "original_crpa")
  sys.modules["mlflow"] = _logger(results)
  sys.modules["dataloader"] = _loader(dataset, clients)
  tf.keras.utils.set_random_seed(config.seed)
  random.seed(config.seed)
  module = types.ModuleType("federated_gan")
  exec(compile(source, _MODULE, "exec"), module.__dict__)
  module.federated_gan(
    Round=config.rounds,
    CLASS_TO_GENERATE=config.reconstruct,
    CLASS_TO_ATTACK=config.poison,
    MALICIOUS_ATTACKER=split.adversary,
    NUM_TO_POISON=config.poison_images,
    GPU="",
  )
  results.write_json("summary", results_lib.environment([os.getpid()]))
  print(f"Report: {report.write(results.folder)}")
  return 0


def load_source(config: OriginalConfig) -> str:
  """Reads the original's module and fits it to this TensorFlow and to the config.

  Raises:
    ConfigError: If the checkout is missing or is not the one that we know.
  """
  path = pathlib.Path(config.original) / _MODULE
  if not path.is_file():
    raise ConfigError(f"original: {path} does not exist; give the folder of a checkout")
  source = path.read_text()
  changes = {
    "BATCH_SIZE = 250": f"BATCH_SIZE = {config.batch_size}",
    # The `decay` argument is gone from TensorFlow 2.14's optimizers but for the legacy ones.
    "tf.keras.optimizers.SGD(learning_rate=1e-3, decay=1e-7)": (
      "tf.keras.optimizers.legacy.SGD(learning_rate=1e-3, decay=1e-7)"
    ),
    "tf.keras.optimizers.SGD(learning_rate=1e-4, decay=1e-7)": (
      "tf.keras.optimizers.legacy.SGD(learning_rate=1e-4, decay=1e-7)"
    ),
  }
  for old, new in changes.items():
    if source.count(old) != 1:
      raise ConfigError(f"original: {path} is not the known one, it lacks {old!r}")
    source = source.replace(old, new)
  return source


def _logger(results: "Results") -> types.ModuleType:
  """Stands in for mlflow: keeps the metrics of a round, drops everything else."""
  import matplotlib.pyplot as plt

  class Logger(types.ModuleType):
    def __getattr__(self, name):
      return lambda *args, **kwargs: None

  row, start = {}, [time.monotonic()]

  def log_metric(name, value, round_number):
    if name in ("attack_accuracy", "test_accuracy", "test_loss"):
      row[name] = float(value)
    if name == "attack_accuracy":  # The last one of a round.
      now = time.monotonic()
      results.release("metrics", row | {"seconds": round(now - start[0], 3)}, round_number)
      start[0] = now

  logger = Logger("mlflow")
  vars(logger).update(
    log_metric=log_metric,
    log_figure=lambda figure, name: plt.close("all"),
    keras=Logger("mlflow.keras"),
  )
  return logger


def _loader(dataset: datasets.Dataset, clients: list[datasets.Images]) -> types.ModuleType:
  """Stands in for the original's data loader."""
  loader = types.ModuleType("dataloader")
  images = {index: client.images.copy() for index, client in enumerate(clients)}
  labels = {index: client.labels.copy() for index, client in enumerate(clients)}
  everything = (images, labels, *dataset.test, *dataset.train, None)
  vars(loader).update(load_images=lambda **kwargs: everything)
  return loader


if __name__ == "__main__":
  program.main("experiments.original_crpa", OriginalConfig, SUMMARY, run)
