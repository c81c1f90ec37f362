"""Keras models as functions of weights that gradients flow through.

Variables cannot be differentiated through: a step of training in a graph needs the weights as
tensors.
"""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tff_attacks import keras_state


@contextlib.contextmanager
def weights_as(model: tf.keras.Model, weights: Sequence[tf.Tensor]) -> Iterator[None]:
  """Lets the layers of a model compute with these trainable weights for a while.

  Args:
    model: The model.
    weights: One tensor for each of its trainable variables, in their order.

  Raises:
    ValueError: If a layer does not keep a variable as a plain attribute of its own.
  """
  by_variable = {id(v): w for v, w in zip(model.trainable_variables, weights, strict=True)}
  # Past Keras' own attribute tracking, which would forget the variable.
  places = [
    (vars(layer), name, value)
    for layer in model._flatten_layers()
    for name, value in vars(layer).items()
    if id(value) in by_variable
  ]
  missing = len(by_variable) - len({id(value) for _, _, value in places})
  if missing:
    raise ValueError(f"model: {missing} weights are no attributes of their layers")
  try:
    for attributes, name, value in places:
      attributes[name] = by_variable[id(value)]
    yield
  finally:
    for attributes, name, value in places:
      attributes[name] = value


def log_probabilities(model: tf.keras.Model, images: tf.Tensor) -> tf.Tensor:
  """Log-probabilities `[n, C]` in inference mode, from logits or probabilities."""
  outputs = model(images, training=False)
  if tf.keras.activations.serialize(keras_state.last_layer(model).activation) == "softmax":
    return tf.math.log(tf.maximum(outputs, 1e-30))
  return tf.nn.log_softmax(outputs)


def gradients(model: tf.keras.Model, images: tf.Tensor, soft_labels: tf.Tensor) -> list[tf.Tensor]:
  """Gradients of the mean cross-entropy, to be differentiated once more.

  They are those of a client's training where training and inference are the same: not with
  BatchNormalization or Dropout, whose statistics or masks a server does not see, nor with
  regularisers.

  Args:
    model: Its weights as they are.
    images: float32 `[n, height, width, channels]`.
    soft_labels: float32 `[n, C]`, rows that sum to 1.
  """
  with tf.GradientTape() as tape:
    loss = _cross_entropy(model, images, soft_labels)
  return tape.gradient(loss, model.trainable_variables)


def simulate(
  model: tf.keras.Model,
  images: tf.Tensor,
  soft_labels: tf.Tensor,
  batch_size: int,
  epochs: int,
  learning_rate: float,
) -> list[tf.Tensor]:
  """The mean gradient over local steps of SGD, unrolled.

  The images are taken in the order in which they stand, the same in every epoch.

  Args:
    model: Where the client starts.
    images: float32 `[n, height, width, channels]`.
    soft_labels: float32 `[n, C]`.
    batch_size: Images in a step; the last, smaller batch is kept.
    epochs: Passes.
    learning_rate: Of the SGD.

  Returns:
    (weights before - weights after) / (learning rate * steps), by trainable variable.
  """
  count = images.shape[0]
  starts = list(range(0, count, batch_size)) * epochs
  weights = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  total = [tf.zeros_like(w) for w in weights]
  for start in starts:
    batch = slice(start, min(start + batch_size, count))
    step = _gradients_at(model, weights, images[batch], soft_labels[batch])
    weights = [w - learning_rate * g for w, g in zip(weights, step, strict=True)]
    total = [t + g for t, g in zip(total, step, strict=True)]
  return [t / len(starts) for t in total]


def _gradients_at(model, weights, images, soft_labels):
  with tf.GradientTape() as tape, weights_as(model, weights):
    tape.watch(weights)
    loss = _cross_entropy(model, images, soft_labels)
  return tape.gradient(loss, weights)


def _cross_entropy(model, images, soft_labels):
  return -tf.reduce_mean(tf.reduce_sum(soft_labels * log_probabilities(model, images), axis=1))
