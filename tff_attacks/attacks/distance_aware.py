"""Attacking distance-aware attack (ADA): the adversary takes the target that is closest.

Source: Semi-Targeted Model Poisoning Attack on Federated Learning via Backward Error
Analysis, 2022, IV.C. The distance is measured at the global model of each round, between
class means of its last hidden layer (full knowledge), or by the gradient of its last layer
under each assumed label, of source images alone (partial knowledge, FLAME).
"""

from typing import NamedTuple

import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.attacks import attack, label_flipping, scaling


class Workspace(NamedTuple):
  """The global model, and a model of the same variables that tells its last hidden layer too."""

  model: tf.keras.Model
  features: tf.keras.Model


def distance_aware(
  parameters: label_flipping.Parameters, full_knowledge: bool, from_logits: bool
) -> attack.ClientAttack:
  """Builds ADA: it chooses targets, flips labels, trains and scales.

  Args:
    parameters: Default parameters; `targets` do not count.
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
    return tf.where(state.parameters.sources, nearest, tf.range(num_classes))

  return label_flipping.label_flipping(parameters, build, choose, scaling.train_and_scale)


def build(global_model: tf.keras.Model) -> Workspace:
  """Finds the last hidden layer.

  Raises:
    ValueError: If the last layer is not fully connected.
  """
  last = global_model.layers[-1]
  if not isinstance(last, tf.keras.layers.Dense):
    raise ValueError(f"model: ADA needs a Dense last layer, {last.name} is a {type(last).__name__}")
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
    float32 `[C, C]`, row = class of the images, column = assumed label; infinite on the
    diagonal. A class without images has zeros.
  """

  def norms(label):
    of_class = tf.cast(tf.equal(labels, label), tf.float32)[:, tf.newaxis]

    def norm(assumed):
      residual = probabilities - tf.one_hot(assumed, tf.shape(probabilities)[1])
      return tf.norm(tf.matmul(of_class * features, residual, transpose_a=True))

    return tf.map_fn(norm, tf.range(num_classes), fn_output_signature=tf.float32)

  found = tf.map_fn(norms, tf.range(num_classes), fn_output_signature=tf.float32)
  return tf.where(_different(num_classes), found, float("inf"))


def _different(num_classes):
  labels = tf.range(num_classes)
  return tf.not_equal(labels[:, tf.newaxis], labels)
