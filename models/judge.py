"""A classifier of its own, trained centrally, to judge reconstructions with."""

import numpy as np
import tensorflow as tf

layers = tf.keras.layers


def classifier(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """Two 3x3 convolutions with pooling: built unlike the federated model on purpose."""
  return tf.keras.Sequential(
    [
      layers.Input(image_shape),
      layers.Conv2D(32, 3, activation="relu"),
      layers.MaxPool2D(),
      layers.Conv2D(64, 3, activation="relu"),
      layers.MaxPool2D(),
      layers.Flatten(),
      layers.Dropout(0.5),
      layers.Dense(num_classes),
    ]
  )


def train(
  images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int, steps: int = 600
) -> tf.keras.Model:
  """Trains the classifier on at most `32 * steps` images, several times if there are fewer.

  Args:
    images: float32 `[n, height, width, channels]` in [-1, 1].
    labels: int32 `[n]`.
    num_classes: C.
    seed: Of initialization, order and Dropout.
    steps: Minibatches of 32.

  Returns:
    The trained model, images -> logits.
  """
  tf.keras.utils.set_random_seed(seed)
  _, height, width, channels = images.shape
  model = classifier((height, width, channels), num_classes)
  adam = tf.keras.optimizers.Adam(jit_compile=False)  # As on a CPU.
  model.compile(adam, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
  batches = tf.data.Dataset.from_tensor_slices((images, labels))
  batches = batches.shuffle(10_000, seed=seed).repeat().batch(32)
  model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
  return model
