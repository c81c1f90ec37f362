"""The networks of GAN information stealing (Figure 4 of the paper, see `attacks`)."""

import tensorflow as tf

from models import shapes

layers = tf.keras.layers

NOISE_SIZE = 100


def discriminator(
  image_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10
) -> tf.keras.Model:
  """The global model, which is also the GAN's discriminator.

  The figure's 13x13x32 and 6x6x64 mean convolutions without padding.

  Args:
    image_shape: Height, width and channels.
    num_classes: C. The model has C + 1 outputs, the last one for generated images.

  Returns:
    A model from images in [-1, 1] to logits `[n, C + 1]`.
  """
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(32, 3, strides=2, activation="relu"),
      layers.Conv2D(64, 3, strides=2, activation="relu"),
      layers.Flatten(),
      layers.Dense(200, activation="relu"),
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
  return tf.keras.Sequential(
    [
      layers.Input([NOISE_SIZE]),
      layers.Dense(rows * columns * 32, activation="relu"),
      layers.Reshape([rows, columns, 32]),
      layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
      layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="relu"),
      layers.Conv2DTranspose(image_shape[-1], 3, padding="same", activation="tanh"),
    ]
  )
