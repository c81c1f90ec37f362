"""What a model must be like for record-level guarantees to mean anything."""

import numpy as np
import tensorflow as tf


def check_separable(model: tf.keras.Model) -> None:
  """Checks that a record's loss depends on no other record, and on records alone.

  Args:
    model: A built model of images.

  Raises:
    ValueError: If a layer takes statistics over the batch, or the model has a regularizer.
  """
  for layer in model._flatten_layers(include_self=False):
    if isinstance(layer, tf.keras.layers.BatchNormalization):
      raise ValueError(
        f"layer {layer.name} (BatchNormalization) mixes the records of a batch; GroupNormalization "
        "and LayerNormalization do not"
      )
  probe = np.random.default_rng(0).uniform(-1, 1, [8, *model.input_shape[1:]])
  images = tf.constant(probe, tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(images)
    outputs = model(images, training=True)[:4]
  if tf.reduce_any(tape.gradient(outputs, images)[4:] != 0):
    raise ValueError("its output for a record depends on other records of the batch")
  if model.losses:
    raise ValueError("it has regularization losses, which no clipping of records bounds")
