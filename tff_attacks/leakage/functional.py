"""Keras models as functions of weights that gradients flow through.

Variables cannot be differentiated through: a step of training in a graph needs the weights as
tensors.
"""

import contextlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images


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
  held = {id(value) for _, _, value in places}
  missing = [variable.name for variable in model.trainable_variables if id(variable) not in held]
  if missing:
    raise ValueError(
      f"model: these weights are no attributes of their layers: {', '.join(missing)}"
    )
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
  return _loss_and_gradients(model, images, soft_labels)[1]


def inference_gradient(
  model: tf.keras.Model, batch: Images, seed: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
  """The `GradientFn` of a trained model in inference mode: its statistics are those it has."""
  del seed
  soft_labels = tf.one_hot(batch.labels, model.output_shape[-1])
  return _loss_and_gradients(model, batch.images, soft_labels)


Batch = tuple[tf.Tensor, tf.Tensor]
"""Images `[n, height, width, channels]` and soft labels `[n, C]`."""


def batches(images: tf.Tensor, soft_labels: tf.Tensor, batch_size: int) -> list[Batch]:
  """The batches of one epoch, in the order in which the images stand; the last may be smaller."""
  starts = range(0, images.shape[0], batch_size)
  return [tuple(part[s : s + batch_size] for part in (images, soft_labels)) for s in starts]


def simulate(
  model: tf.keras.Model, batches: Sequence[Batch], learning_rate: float
) -> list[tf.Tensor]:
  """The mean gradient over local steps of SGD, unrolled.

  What a step computes is computed once more when gradients flow back, so that memory holds
  the weights of every step, but the inside of only one.

  Args:
    model: Where the client starts.
    batches: One for each step.
    learning_rate: Of the SGD.

  Returns:
    (weights before - weights after) / (learning rate * steps), by trainable variable.
  """
  start = [tf.convert_to_tensor(v) for v in model.trainable_variables]
  total = [tf.zeros_like(w) for w in start]

  @_recomputed
  def step(images, soft_labels, *total):
    weights = [w - learning_rate * t for w, t in zip(start, total, strict=True)]
    found = _gradients_at(model, weights, images, soft_labels)
    return [t + g for t, g in zip(total, found, strict=True)]

  for images, soft_labels in batches:
    total = step(images, soft_labels, *total)
  return [t / len(batches) for t in total]


def _recomputed(function):
  """As `tf.recompute_grad`, which does not let the function have a tape of its own."""

  @tf.custom_gradient
  def call(*args):
    def gradient(*upstream):
      # Not before: or it would be the first computation once more.
      with tf.control_dependencies(upstream):
        again = [tf.identity(arg) for arg in args]
      with tf.GradientTape() as tape:
        tape.watch(again)
        outputs = function(*again)
      return tape.gradient(outputs, again, upstream)

    return function(*args), gradient

  return call


def _gradients_at(model, weights, images, soft_labels):
  with tf.GradientTape() as tape, weights_as(model, weights):
    tape.watch(weights)
    loss = _cross_entropy(model, images, soft_labels)
  return tape.gradient(loss, weights)


def _loss_and_gradients(model, images, soft_labels):
  with tf.GradientTape() as tape:
    loss = _cross_entropy(model, images, soft_labels)
  return loss, tape.gradient(loss, model.trainable_variables)


def _cross_entropy(model, images, soft_labels):
  return -tf.reduce_mean(tf.reduce_sum(soft_labels * log_probabilities(model, images), axis=1))
