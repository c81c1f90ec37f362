"""The data of a run."""

import functools
from typing import Any

from experiments import options
from tff_attacks.data import datasets


@functools.lru_cache(maxsize=1)
def load(name: str, data_dir: str | None, test_images: int) -> datasets.Dataset:
  """Loads a dataset, see `datasets.load`, with so many test images; 0 means all."""
  dataset = datasets.load(name, data_dir)
  if test_images > dataset.test.labels.size:
    raise ValueError(f"test_images: there are {dataset.test.labels.size}, not {test_images}")
  if test_images:
    dataset = dataset._replace(test=dataset.test.take(slice(test_images)))
  return dataset


@options.bad_input()
def check(config: Any) -> None:
  """Checks that the data that `dataset` and `data_dir` name is there.

  Raises:
    ConfigError: If it is not.
  """
  datasets.load(config.dataset, config.data_dir)
