"""Global models that reconstructions are measured on. All end with logits."""

import tensorflow as tf

layers = tf.keras.layers

_LENET_RANGE = 0.5


def lenet(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """The sigmoid LeNet of DLG: three 5x5 convolutions, all weights uniform in [-0.5, 0.5].

  Source: https://arxiv.org/abs/1906.08935. With rectifiers or common initial weights DLG fails.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images in [-1, 1] to logits `[n, C]`.
  """

  def uniform():
    return tf.keras.initializers.RandomUniform(-_LENET_RANGE, _LENET_RANGE)

  def convolution(strides):
    return layers.Conv2D(
      12, 5, strides, "same", activation="sigmoid",
      kernel_initializer=uniform(), bias_initializer=uniform(),
    )  # fmt: skip

  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      convolution(2),
      convolution(2),
      convolution(1),
      layers.Flatten(),
      layers.Dense(num_classes, kernel_initializer=uniform(), bias_initializer=uniform()),
    ]
  )


def cnn(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """The CNN of "Privacy attack in federated learning is not easy".

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images in [-1, 1] to logits `[n, C]`.
  """
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(32, 3, padding="same", activation="relu"),
      layers.Conv2D(64, 3, padding="same", activation="relu"),
      layers.MaxPool2D(2),
      layers.Flatten(),
      layers.Dense(512, activation="relu"),
      layers.Dense(num_classes),
    ]
  )


def dlf_cnn(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """The CNN of DLF, which averages where `cnn` takes the maximum: what pools hide is less.

  Source: https://arxiv.org/abs/2206.12395; "Privacy attack in federated learning is not easy" runs
  DLF on it, too.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images in [-1, 1] to logits `[n, C]`.
  """
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(64, 3, padding="same", activation="relu"),
      layers.AveragePooling2D(2),
      layers.Conv2D(128, 3, padding="same", activation="relu"),
      layers.AveragePooling2D(2),
      layers.Flatten(),
      layers.Dense(200, activation="relu"),
      layers.Dense(num_classes),
    ]
  )


def mlp(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """One hidden layer of 256 units.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images in [-1, 1] to logits `[n, C]`.
  """
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Flatten(),
      layers.Dense(256, activation="relu"),
      layers.Dense(num_classes),
    ]
  )
