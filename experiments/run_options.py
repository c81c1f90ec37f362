"""Options that every run has, whatever the attack."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from experiments import data, runtime_options
from experiments.options import ConfigError, option, validate
from tff_attacks.data import datasets


@dataclasses.dataclass
class DataOptions:
  """Options of every run: its data, its seed and its results folder."""

  dataset: str = option("digits", "Data set.", choices=datasets.NAMES)
  data_dir: str | None = option(
    None, "Folder with <dataset>.npz in Keras layout; null downloads through Keras."
  )
  seed: int = option(0, "Same config and seed, same result.", at_least=0, below=2**32)
  test_images: int = option(
    0, "Test images to evaluate on, the first ones of the test set; 0 is all.", at_least=0
  )
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/<experiment>/<date and time>."
  )
  resume: str | None = option(
    None,
    "Results folder of an unfinished run to go on with; only where it runs, and data_dir, may be "
    "given beside it.",
  )


@dataclasses.dataclass
class FolderOptions(DataOptions):
  """Of what takes a user's own images, too."""

  dataset: str = option(
    "digits", "Data set; image_folder has a subfolder of data_dir for each class.",
    choices=(*datasets.NAMES, data.FOLDER),
  )  # fmt: skip
  image_size: int = option(64, "Height and width of the images of image_folder.", at_least=8)


@dataclasses.dataclass
class RunOptions(runtime_options.RuntimeOptions, DataOptions):
  """Options of every run of a federation."""

  checkpoint_every: int = option(5, "Rounds between two checkpoints.", at_least=1)


def smoothness_prior() -> Any:
  """The option of every attack that trains a generator."""
  return option(
    0.0,
    "Weight of a smoothness prior (absolute differences of neighbouring pixels in both directions, "
    "over the number of values) in the generator's loss; 0 is the published attack.",
    at_least=0,
  )


def check(config: RunOptions) -> None:
  """Checks every option by itself, and those of every federation together.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  check_data(config)
  runtime_options.check(config)


def check_data(config: DataOptions) -> None:
  """Checks every option by itself, and those of the data together.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  validate(config)
  if config.dataset == "digits" and config.data_dir is not None:
    raise ConfigError("data_dir: digits are embedded, give another dataset=, too")


def check_classes(config: RunOptions, field: str, labels: Iterable[int]) -> None:
  """Checks that the labels of a field are classes of the dataset.

  Raises:
    ConfigError: If one is not, or stands there twice.
  """
  labels = list(labels)
  num_classes = datasets.NUM_CLASSES[config.dataset]
  for label in labels:
    if not 0 <= label < num_classes:
      raise ConfigError(
        f"{field}: {label} is not a class of {config.dataset}; allowed: 0 to {num_classes - 1}"
      )
  if len(set(labels)) < len(labels):
    raise ConfigError(f"{field}: a class is named twice")
