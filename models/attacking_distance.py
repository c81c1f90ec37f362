"""The network of the attacking distance-aware attack (the paper's V.A.2)."""

import tensorflow as tf

layers = tf.keras.layers


def classifier(
  image_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10
) -> tf.keras.Model:
  """The global model, with 2x2 max pooling after each convolution.

  The paper names neither padding nor pooling; both are as in its authors' code. Pooling leaves
  1/21 of the weights and a tenth of the time of `unpooled`.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images in [-1, 1] to logits `[n, C]`; the last hidden layer has 200 units.
  """
  return _classifier(image_shape, num_classes, pooled=True)


def unpooled(
  image_shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10
) -> tf.keras.Model:
  """`classifier` as the paper's text reads, without any pooling; arguments and model as there."""
  return _classifier(image_shape, num_classes, pooled=False)


def _classifier(image_shape, num_classes, pooled):
  pool = [layers.MaxPool2D] if pooled else []
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(20, 5, activation="relu"),
      *(layer() for layer in pool),
      layers.Conv2D(50, 5, activation="relu"),
      *(layer() for layer in pool),
      layers.Flatten(),
      layers.Dense(200, activation="relu"),
      layers.Dense(num_classes),
    ]
  )
