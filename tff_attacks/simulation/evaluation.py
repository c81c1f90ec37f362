"""Evaluates the global model on held-out data."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.metrics import classification

_BATCH = 500


class Evaluation(NamedTuple):
  """One pass over the test set.

  Attributes:
    loss: Mean cross-entropy.
    confusion: int `[outputs, outputs]`, row = true class, column = prediction.
  """

  loss: float
  confusion: np.ndarray


def build_evaluation(
  model_fn: keras_state.ModelFn,
  loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  test: Images,
) -> Callable[[ModelWeights], Evaluation]:
  """Returns a function that evaluates weights on `test`."""
  model = keras_state.build(model_fn)
  predict = tf.function(lambda images: model(images, training=False))

  def evaluate(weights: ModelWeights) -> Evaluation:
    keras_state.assign(model, weights)
    outputs = np.concatenate(
      [predict(test.images[start : start + _BATCH]) for start in range(0, test.labels.size, _BATCH)]
    )
    confusion = classification.confusion_matrix(
      test.labels, outputs.argmax(axis=1), outputs.shape[1]
    )
    return Evaluation(float(loss_fn(test.labels, outputs)), confusion)

  return evaluate
