"""The networks of generative gradient leakage (GGL): a generator and its critic.

Source: https://arxiv.org/abs/2203.15696, for 32x32 images in colour.
"""

import tensorflow as tf

from models import shapes

layers = tf.keras.layers

NOISE_SIZE = 128


def generator(image_shape: tuple[int, int, int], width: int = 128) -> tf.keras.Model:
  """Transposed convolutions that double the sides.

  Args:
    image_shape: Height and width, 4 to 7 times a power of 2, and channels.
    width: Channels before the last layer; each layer before has twice as many.

  Returns:
    A model from noise `[n, NOISE_SIZE]` to images in [-1, 1].

  Raises:
    ValueError: If it cannot make images of that size.
  """
  rows, columns, doublings = shapes.doublings(image_shape)
  channels = [width * 2**i for i in reversed(range(doublings))]
  body = [
    layers.Input([NOISE_SIZE]),
    layers.Dense(rows * columns * channels[0]),
    layers.BatchNormalization(),
    layers.ReLU(),
    layers.Reshape([rows, columns, channels[0]]),
  ]
  for filters in channels[1:]:
    body += [
      layers.Conv2DTranspose(filters, 2, strides=2), layers.BatchNormalization(), layers.ReLU(),
    ]  # fmt: skip
  last = layers.Conv2DTranspose(image_shape[-1], 2, strides=2, activation="tanh")
  return tf.keras.Sequential([*body, last])


def critic(image_shape: tuple[int, int, int], width: int = 128) -> tf.keras.Model:
  """Convolutions that halve the sides; a number for each image, of any size.

  Args:
    image_shape: As the generator's.
    width: Channels after the first layer; each layer has twice as many.

  Returns:
    A model from images in [-1, 1] to scores `[n, 1]`.
  """
  body = [layers.Input(image_shape)]
  for block in range(shapes.doublings(image_shape)[-1]):
    body += [layers.Conv2D(width * 2**block, 3, 2, "same"), layers.LeakyReLU(0.01)]
  return tf.keras.Sequential([*body, layers.Flatten(), layers.Dense(1)])
