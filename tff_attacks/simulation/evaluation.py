"""Evaluates the global model on held-out data."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights

_BATCH = 500


class Evaluation(NamedTuple):
  """One pass over the test set.

  Attributes:
    loss: Mean cross-entropy.
    confusion: int `[outputs, outputs]`, row = true class, column = prediction; an image for which
      the outputs are not finite numbers has none: of a model that diverged it is all zeros.
  """

  loss: float
  confusion: np.ndarray


def build_prediction(
  model_fn: keras_state.ModelFn, images: np.ndarray
) -> Callable[[ModelWeights], np.ndarray]:
  """Returns a function from weights to the model's outputs for `images`."""
  model = keras_state.build(model_fn)

  def predict(weights: ModelWeights) -> np.ndarray:
    keras_state.assign(model, weights)
    return model.predict(images, _BATCH, verbose=0)

  return predict


def build_evaluation(
  model_fn: keras_state.ModelFn,
  loss_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  test: Images,
) -> Callable[[ModelWeights], Evaluation]:
  """Returns a function that evaluates weights on `test`.

  Args:
    model_fn: Builds the global model.
    loss_fn: (labels `[n]`, outputs `[n, classes]`) -> mean loss.
    test: Images and labels, kept as tensors.
  """
  model = keras_state.build(model_fn)
  classes = model.output_shape[-1]
  images, labels = tf.nest.map_structure(tf.convert_to_tensor, test)

  @tf.function
  def one_pass():
    total_loss = 0.0
    confusion = tf.zeros([classes, classes], tf.int32)
    for start in tf.range(0, tf.size(labels), _BATCH):
      truth = labels[start : start + _BATCH]
      outputs = model(images[start : start + _BATCH], training=False)
      total_loss += loss_fn(truth, outputs) * tf.cast(tf.size(truth), tf.float32)
      known = tf.reduce_all(tf.math.is_finite(outputs), axis=1)
      confusion += tf.math.confusion_matrix(
        truth, tf.argmax(outputs, axis=1), classes, tf.cast(known, tf.int32)
      )
    return total_loss / tf.cast(tf.size(labels), tf.float32), confusion

  def evaluate(weights: ModelWeights) -> Evaluation:
    keras_state.assign(model, weights)
    loss, confusion = one_pass()
    return Evaluation(float(loss), confusion.numpy())

  return evaluate
