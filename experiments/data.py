"""The data of a run."""

import functools
from typing import Any

from experiments import options
from tff_attacks.data import datasets, image_folder

FOLDER = "image_folder"
"""The name of a dataset of a user's own, see `image_folder.load`."""


@functools.lru_cache(maxsize=1)
def load(
  name: str, data_dir: str | None, test_images: int, image_size: int = 0
) -> datasets.Dataset:
  """Loads a dataset with so many test images; 0 means all.

  Args:
    name: See `datasets.load`, or `FOLDER`.
    data_dir: Where it is.
    test_images: How many.
    image_size: Height and width of `FOLDER`'s images.

  Raises:
    ValueError: If it has fewer, or `FOLDER` no `data_dir`.
  """
  if name == FOLDER:
    if data_dir is None:
      raise ValueError("data_dir: image_folder needs one")
    dataset = image_folder.load(data_dir, image_size)
  else:
    dataset = datasets.load(name, data_dir)
  return dataset._replace(test=first(dataset.test, test_images))


def folder(dataset: str, data_dir: str | None) -> str | None:
  """The `data_dir` of one of several runs, some of which may be on the digits, which have none."""
  return None if dataset == "digits" else data_dir


def first(test: datasets.Images, count: int) -> datasets.Images:
  """So many of the test images; 0 means all.

  Raises:
    ValueError: If there are fewer.
  """
  if count > test.labels.size:
    raise ValueError(f"test_images: there are {test.labels.size}, not {count}")
  return test.take(slice(count)) if count else test


def sources(config: Any) -> tuple[str, ...]:
  """The options that two runs with the same images share."""
  return ("dataset", "data_dir", "image_size") if config.dataset == FOLDER else ("dataset",)


@options.bad_input()
def check(config: Any) -> None:
  """Checks that the data that `dataset` and `data_dir` name is there, with so many test images.

  Raises:
    ConfigError: If it is not.
  """
  sizes = (getattr(config, name, 0) for name in ("test_images", "image_size"))
  load(config.dataset, config.data_dir, *sizes)
