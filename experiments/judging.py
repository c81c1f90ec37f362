"""The independent classifier that judges reconstructions, and what it says of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments import data
from models import judge as judge_lib


class Judge(NamedTuple):
  """An independent classifier: images -> classes, and its accuracy on the test set."""

  classify: Callable[[np.ndarray], np.ndarray]
  accuracy: float


@functools.lru_cache(maxsize=8)
def judge(dataset: str, data_dir: str | None, test_images: int, seed: int) -> Judge:
  """Trains the judge of a run; runs with the same arguments share it."""
  train, test, num_classes = data.load(dataset, data_dir, test_images)
  model = judge_lib.train(train.images, train.labels, num_classes, seed)

  def classify(images):
    return model.predict(images, 500, verbose=0).argmax(axis=1)

  return Judge(classify, float(np.mean(classify(test.images) == test.labels)))
