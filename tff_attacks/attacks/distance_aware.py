"""Attacking distance-aware attack (ADA): the adversary takes the target that is closest.

Source: Semi-Targeted Model Poisoning Attack on Federated Learning via Backward Error
Analysis, 2022, IV.C. The distance is measured at the global model of each round, between
class means of its last hidden layer (full knowledge), or by the gradient of its last layer
under each assumed label, of source images alone (partial knowledge, FLAME).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.attacks import attack, label_flipping, scaling

_INFINITE = np.float64("inf")


class Workspace(NamedTuple):
  """The global model, and a model of the same variables that tells its last hidden layer too."""

  model: tf.keras.Model
  features: tf.keras.Model


def distance_aware(
  parameters: label_flipping.Parameters, full_knowledge: bool, from_logits: bool
) -> attack.ClientAttack:
  """Builds ADA: it chooses targets, flips labels, trains and scales.

  Args:
    parameters: Default parameters; the `targets` stand as long as nothing better is known. By
      Eq. 11 another source may be a target.
    full_knowledge: Whether images of all classes are used, or those of the sources only.
    from_logits: Whether the global model's outputs are logits.

  Returns:
    The attack.
  """

  def choose(workspace, state, context, data):
    keras_state.assign(workspace.model, context.weights)
    features, outputs = workspace.features(data.images, training=False)
    probabilities = tf.nn.softmax(outputs) if from_logits else outputs
    num_classes = tf.size(state.targets)
    if full_knowledge:
      distances = attacking_distances(features, data.labels, num_classes)
    else:
      distances = gradient_norms(features, probabilities, data.labels, num_classes)
    nearest = tf.argmin(distances, axis=1, output_type=tf.int32)
    # Whoever has no image of a source knows nothing of its distances.
    known = tf.math.is_finite(tf.reduce_min(distances, axis=1))
    return tf.where(state.parameters.sources & known, nearest, state.targets)

  return label_flipping.label_flipping(parameters, build, choose, scaling.train_and_scale)


def build(global_model: tf.keras.Model) -> Workspace:
  """Finds the last hidden layer.

  Raises:
    ValueError: If the last layer is not fully connected, with logits or probabilities.
  """
  last = keras_state.last_layer(global_model)
  features = tf.keras.Model(global_model.inputs, [last.input, global_model.outputs[0]])
  return Workspace(global_model, features)


def attacking_distances(
  features: tf.Tensor, labels: tf.Tensor, num_classes: tf.Tensor
) -> tf.Tensor:
  """Distances between the means of classes (Eqs. 9 and 10).

  Args:
    features: float32 `[n, units]`, outputs of the last hidden layer.
    labels: int32 `[n]`.
    num_classes: C.

  Returns:
    float32 `[C, C]`; infinite on the diagonal and where a class has no images.
  """
  counts = tf.math.unsorted_segment_sum(tf.ones_like(labels, tf.float32), labels, num_classes)
  means = tf.math.unsorted_segment_mean(features, labels, num_classes)
  distances = tf.norm(means[:, tf.newaxis] - means, axis=-1)
  known = (counts[:, tf.newaxis] > 0) & (counts > 0)
  return tf.where(known & _different(num_classes), distances, float("inf"))


def gradient_norms(
  features: tf.Tensor, probabilities: tf.Tensor, labels: tf.Tensor, num_classes: tf.Tensor
) -> tf.Tensor:
  """Norms of the last kernel's gradients when all images of a class had another label.

  The loss is the sum of the images' cross-entropies (Eq. 12), of which the gradient is
  features^T (probabilities - label); the kernel alone counts, not the bias.

  Args:
    features: float32 `[n, units]`, outputs of the last hidden layer.
    probabilities: float32 `[n, outputs]` of the model.
    labels: int32 `[n]`.
    num_classes: C.

  Returns:
    float64 `[C, C]`, row = class of the images, column = assumed label; infinite on the
    diagonal and for a class without images.
  """
  # A converged model is sure: the norms differ in digits that float32 does not have.
  features, probabilities = tf.cast(features, tf.float64), tf.cast(probabilities, tf.float64)

  def norms(label):
    of_class = tf.equal(labels, label)
    own = tf.boolean_mask(features, of_class)
    kernel = tf.matmul(own, tf.boolean_mask(probabilities, of_class), transpose_a=True)
    # The label takes the images' features from its own column alone.
    without = tf.reduce_sum(kernel**2, axis=0)
    with_label = tf.reduce_sum((kernel - tf.reduce_sum(own, axis=0)[:, tf.newaxis]) ** 2, axis=0)
    squares = tf.reduce_sum(without) - without + with_label
    return tf.where(tf.reduce_any(of_class), tf.sqrt(squares[:num_classes]), _INFINITE)

  found = tf.map_fn(norms, tf.range(num_classes), fn_output_signature=tf.float64)
  return tf.where(_different(num_classes), found, _INFINITE)


def _different(num_classes):
  labels = tf.range(num_classes)
  return tf.not_equal(labels[:, tf.newaxis], labels)
