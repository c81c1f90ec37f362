"""The imprint block of Robbing the Fed: what a malicious server puts before a model."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

layers = tf.keras.layers

NUM_ARRAYS = 4
"""Weights of a block, the first ones of its model."""

_GAIN = 1e-3


def imprint(
  model_fn: Callable[[], tf.keras.Model], thresholds: np.ndarray, small: bool = False
) -> Callable[[], tf.keras.Model]:
  """Puts an imprint block before a model.

  Its first layer measures the brightness (mean pixel) of an image and has a unit for each
  threshold, active for brighter images; its second one makes an image of them. All units have
  equal weights in both, so that their gradients differ only by the images that lie between
  their thresholds. Source: https://arxiv.org/abs/2110.13057.

  Args:
    model_fn: Builds the model.
    thresholds: Brightness `[bins]`, rising.
    small: If not, all weights of the second layer are 1,000, and the first one is as much smaller,
      as in the source's code. A step of training changes such a block beyond use, if it does not
      diverge: of an update only the first batch is seen, without later ones in between. If so,
      the second layer has one row of random numbers of Glorot's variance for all units, and learns
      as other layers do: of an update all batches are seen, mixed.

  Returns:
    Builds the model with the block before it.

  Raises:
    ValueError: If the thresholds do not rise.
  """
  if (np.diff(thresholds) <= 0).any():
    raise ValueError("thresholds: must rise; are there more bins than images to set them by?")

  gain = 1 if small else _GAIN
  constant = tf.keras.initializers.Constant

  def build():
    model = model_fn()
    image_shape = model.input_shape[1:]
    size = int(np.prod(image_shape))
    inputs = layers.Input(image_shape)
    active = layers.Dense(
      len(thresholds),
      activation="relu",
      kernel_initializer=constant(gain / size),
      bias_initializer=constant(-gain * np.asarray(thresholds)),
    )(layers.Flatten()(inputs))
    rows = _equal_rows if small else constant(1 / gain)
    images = layers.Dense(size, kernel_initializer=rows)(active)
    images = layers.Reshape(image_shape)(images)
    for layer in _parts(model):
      images = layer(images)
    whole = tf.keras.Model(inputs, images)
    if tf.executing_eagerly():  # In a graph weights have no values, and are assigned later.
      whole.set_weights([*whole.get_weights()[:NUM_ARRAYS], *model.get_weights()])
    return whole

  return build


def _equal_rows(shape, dtype=None):
  """One row of random numbers, with the variance of Glorot's, for all units."""
  normal = tf.keras.initializers.RandomNormal(stddev=(2 / sum(shape)) ** 0.5)
  row = normal([1, shape[1]], dtype or tf.float32)
  return tf.repeat(row, shape[0], axis=0)


def _parts(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
  """Of a sequential model new layers, so that attacks on the last one still find it."""
  if not isinstance(model, tf.keras.Sequential):
    return [model]
  return [type(layer).from_config(layer.get_config()) for layer in model.layers]
