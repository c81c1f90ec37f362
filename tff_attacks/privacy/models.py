"""What a model must be like for record-level guarantees to mean anything."""

import itertools

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state


def check_separable(model_fn: keras_state.ModelFn) -> None:
  """Checks that a record's loss depends on no other record, and on records alone.

  Args:
    model_fn: Returns a new model of images.

  Raises:
    ValueError: If a layer takes statistics over the batch, or the model has a regularizer.
  """
  model = keras_state.build(model_fn)
  keras_state.assign(model, keras_state.read(model_fn()))
  for layer in _batch_normalizations(model):
    raise ValueError(
      f"layer {layer.name} (BatchNormalization) mixes the records of a batch; GroupNormalization "
      "and LayerNormalization do not (with center=False and scale=False for privacy=records)"
    )
  rng = np.random.default_rng(0)
  first, second = rng.uniform(-1, 1, [2, 8, *model.input_shape[1:]]).astype(np.float32)
  before = [v.numpy() for v in model.non_trainable_variables]
  # A half of the batch, and single records, for layers that mix neighbours.
  for training, replaced in itertools.product((False, True), ([4, 5, 6, 7], [1], [6])):
    mixed = first.copy()
    mixed[replaced] = second[replaced]
    same, other = (
      np.delete(_outputs(model, batch, training), replaced, axis=0) for batch in (first, mixed)
    )
    if np.abs(same - other).max() > 1e-4 * np.abs(same).max():
      raise ValueError("its output for a record depends on other records of the batch")
  for variable, value in zip(model.non_trainable_variables, before, strict=True):
    if (variable.numpy() != value).any():
      raise ValueError(f"training changes {variable.name}, which is sent without noise")
  if model.losses:
    raise ValueError("it has regularization losses, which no clipping of records bounds")


def check_noised(model: tf.keras.Model) -> None:
  """Checks that a model stands noise on everything that a client sends.

  Raises:
    ValueError: If it would get variances below zero.
  """
  for layer in _batch_normalizations(model):
    raise ValueError(
      f"model: layer {layer.name} (BatchNormalization) has a moving variance, which noise on "
      "updates takes below zero; GroupNormalization and LayerNormalization have none"
    )


def _batch_normalizations(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
  layers = model._flatten_layers(include_self=False)
  return [layer for layer in layers if isinstance(layer, tf.keras.layers.BatchNormalization)]


def _outputs(model: tf.keras.Model, batch: np.ndarray, training: bool) -> np.ndarray:
  """Outputs of a model of `keras_state.build`, with the same dropout for any batch."""
  keras_state.seed_layers(model, tf.zeros([2], tf.int32))
  return model(batch, training=training).numpy()
