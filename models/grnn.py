"""The generator of GRNN: both images and their labels from noise."""

import tensorflow as tf

from models import shapes

layers = tf.keras.layers

NOISE_SIZE = 128


def generator(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """Blocks that double the sides, each a convolution with a gated linear unit.

  Source: https://arxiv.org/abs/2105.00529, with images in [-1, 1] instead of [0, 1].

  Args:
    image_shape: Height and width, 4 to 7 times a power of 2, and channels.
    num_classes: C.

  Returns:
    A model from noise `[n, NOISE_SIZE]` to images in [-1, 1] and logits `[n, C]`.

  Raises:
    ValueError: If it cannot make images of that size.
  """
  rows, columns, doublings = shapes.doublings(image_shape)
  noise = layers.Input([NOISE_SIZE])
  width = image_shape[0] * 2 ** (doublings - 1)
  images = layers.Dense(rows * columns * width * 2)(noise)
  images = _gated(layers.Reshape([rows, columns, width * 2])(images))
  for block in reversed(range(doublings)):
    filters = image_shape[0] * 2 ** (block - 1) if block else image_shape[-1]
    # Not UpSampling2D, whose gradient has no kernel for a GPU that repeats its results.
    images = tf.repeat(tf.repeat(images, 2, axis=1), 2, axis=2)
    images = layers.Conv2D(filters * 2, 3, padding="same", use_bias=False)(images)
    images = _gated(layers.BatchNormalization()(images))
  return tf.keras.Model(noise, [tf.tanh(images), layers.Dense(num_classes)(noise)])


def _gated(inputs):
  """Gated linear unit: one half of the channels opens and closes the other."""
  values, gates = tf.split(inputs, 2, axis=-1)
  return values * tf.sigmoid(gates)
