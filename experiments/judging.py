"""The independent classifier that judges reconstructions, and what it says of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from models import judge as judge_lib
from tff_attacks.data import datasets


class Judge(NamedTuple):
  """An independent classifier: images -> classes, and its accuracy on the test set."""

  classify: Callable[[np.ndarray], np.ndarray]
  accuracy: float


@functools.lru_cache(maxsize=1)
def load(name: str, data_dir: str | None, test_images: int) -> datasets.Dataset:
  """Loads a dataset, see `datasets.load`, with so many test images; 0 means all."""
  dataset = datasets.load(name, data_dir)
  if test_images > dataset.test.labels.size:
    raise ValueError(f"test_images: there are {dataset.test.labels.size}, not {test_images}")
  if test_images:
    dataset = dataset._replace(test=dataset.test.take(slice(test_images)))
  return dataset


@functools.lru_cache(maxsize=8)
def judge(dataset: str, data_dir: str | None, test_images: int, seed: int) -> Judge:
  """Trains the judge of a run; runs with the same arguments share it."""
  train, test, num_classes = load(dataset, data_dir, test_images)
  model = judge_lib.train(train.images, train.labels, num_classes, seed)

  def classify(images):
    return model.predict(images, 500, verbose=0).argmax(axis=1)

  return Judge(classify, float(np.mean(classify(test.images) == test.labels)))
