"""The networks of the CRPA study, as in its published Keras code."""

import tensorflow as tf

from models import shapes

layers = tf.keras.layers

NOISE_SIZE = 100


def discriminator(
  image_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10
) -> tf.keras.Model:
  """The global model, which is also the GAN's discriminator.

  Args:
    image_shape: Height, width and channels.
    num_classes: C. The model has C + 1 outputs: the adversary brings one more label
      into the federation, for its generated images.

  Returns:
    A model from images in [-1, 1] to logits `[n, C + 1]`.
  """
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(64, 5, strides=2, padding="same"),
      layers.LeakyReLU(),
      layers.Dropout(0.3),
      layers.Conv2D(128, 5, strides=2, padding="same"),
      layers.LeakyReLU(),
      layers.Dropout(0.3),
      layers.Flatten(),
      layers.Dense(num_classes + 1),
    ]
  )


def generator(image_shape: tuple[int, int, int] = (28, 28, 1)) -> tf.keras.Model:
  """The adversary's generator.

  Args:
    image_shape: Height and width, both divisible by 4, and channels.

  Returns:
    A model from noise `[n, NOISE_SIZE]` to images in [-1, 1].

  Raises:
    ValueError: If the height or width is not divisible by 4.
  """
  rows, columns = shapes.quarter(image_shape)

  def upsample(filters, strides, **kwargs):
    return layers.Conv2DTranspose(
      filters, 4, strides=strides, padding="same", use_bias=False, **kwargs
    )

  return tf.keras.Sequential(
    [
      layers.Input([NOISE_SIZE]),
      layers.Dense(rows * columns * 256, use_bias=False),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Reshape([rows, columns, 256]),
      upsample(128, strides=1),
      layers.BatchNormalization(),
      layers.ReLU(),
      upsample(64, strides=2),
      layers.BatchNormalization(),
      layers.ReLU(),
      upsample(image_shape[-1], strides=2, activation="tanh"),
    ]
  )
