"""The independent classifier that judges reconstructions, and what it says of them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments import data
from models import judge as judge_lib

_NOISE = 500


class Judge(NamedTuple):
  """An independent classifier.

  Attributes:
    classify: Images -> classes.
    accuracy: On the test set.
    of_noise: float `[classes]`, the share of uniform noise images that it takes for each class:
      what its recognition of a reconstruction is worth.
  """

  classify: Callable[[np.ndarray], np.ndarray]
  accuracy: float
  of_noise: np.ndarray

  def about(self, label: int) -> dict[str, float]:
    """How far to trust it where it recognises a class, for a summary."""
    return {"judge_accuracy": self.accuracy, "recognised_noise": float(self.of_noise[label])}


@functools.lru_cache(maxsize=8)
def judge(dataset: str, data_dir: str | None, test_images: int, seed: int) -> Judge:
  """Trains the judge of a run; runs with the same arguments share it."""
  train, test, num_classes = data.load(dataset, data_dir, test_images)
  model = judge_lib.train(train.images, train.labels, num_classes, seed)

  def classify(images):
    return model.predict(images, 500, verbose=0).argmax(axis=1)

  noise = np.random.default_rng(seed).uniform(-1, 1, [_NOISE, *test.images.shape[1:]])
  of_noise = np.bincount(classify(noise.astype(np.float32)), minlength=num_classes) / _NOISE
  return Judge(classify, float(np.mean(classify(test.images) == test.labels)), of_noise)
