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
  rng = np.random.default_rng(0)
  images = [tf.constant(rng.uniform(-1, 1, [8, *model.input_shape[1:]]), tf.float32) for _ in "ab"]
  mixed = tf.concat([images[0][:4], images[1][4:]], axis=0)
  same, other = (model(batch, training=False)[:4] for batch in (images[0], mixed))
  if tf.reduce_max(tf.abs(same - other)) > 1e-4 * tf.reduce_max(tf.abs(same)):
    raise ValueError("its output for a record depends on other records of the batch")
  before = [v.numpy() for v in model.non_trainable_variables]
  model(mixed, training=True)
  for variable, value in zip(model.non_trainable_variables, before, strict=True):
    if (variable.numpy() != value).any():
      raise ValueError(f"training changes {variable.name}, which is sent without noise")
  if model.losses:
    raise ValueError("it has regularization losses, which no clipping of records bounds")
