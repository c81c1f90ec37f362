"""What every client does: minibatch training on its own data.

Plain TensorFlow, callable without TFF. The seam for privacy is `gradient`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights


class TrainingOutput(NamedTuple):
  """The result of local training.

  Attributes:
    update: Weights after training minus weights before.
    optimizer: State of the optimizer, to be kept until the next round.
    loss: float32, mean training loss over all samples and epochs (0 without data).
  """

  update: ModelWeights
  optimizer: Any
  loss: tf.Tensor


LossFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(labels `[n]`, model output `[n, classes]`) -> mean loss."""


PerExampleLossFn = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(labels `[n]`, model output `[n, classes]`) -> losses `[n]`."""


GradientFn = Callable[[tf.keras.Model, Images, tf.Tensor], tuple[tf.Tensor, list[tf.Tensor]]]
"""(model, batch, seed) -> (mean loss, gradients of the trainable variables)."""


def build_optimizer(
  name: str, learning_rate: float, beta_1: float = 0.9
) -> tff.learning.optimizers.Optimizer:
  """A functional optimizer.

  Args:
    name: `adam` (beta_2 0.999, epsilon 1e-7) or `sgd` (without momentum).
    learning_rate: Its learning rate.
    beta_1: Of `adam`.

  Raises:
    ValueError: If the name is unknown.
  """
  match name:
    case "adam":
      return tff.learning.optimizers.build_adam(learning_rate, beta_1)
    case "sgd":
      return tff.learning.optimizers.build_sgdm(learning_rate)
  raise ValueError(f"optimizer: unknown {name!r}; allowed: adam, sgd")


def cross_entropy(from_logits: bool) -> LossFn:
  """Mean cross-entropy between integer labels and logits or probabilities."""
  return tf.keras.losses.SparseCategoricalCrossentropy(from_logits)


def per_example_cross_entropy(from_logits: bool) -> PerExampleLossFn:
  """Cross-entropy of each example, `[n]`."""
  return tf.keras.losses.SparseCategoricalCrossentropy(from_logits, reduction="none")


def plain_gradient(loss_fn: LossFn) -> GradientFn:
  """The gradient of the batch's mean loss, without any privacy."""

  def gradient(model, batch, seed):
    with tf.GradientTape() as tape:
      outputs = keras_state.call(model, batch.images, seed)
      loss = loss_fn(batch.labels, outputs) + tf.add_n([0.0, *model.losses])
    return loss, tape.gradient(loss, model.trainable_variables)

  return gradient


class LocalTraining(NamedTuple):
  """How a client trains: two pure functions.

  Attributes:
    initialize: (weights) -> the optimizer's state, as tensors.
    train: (model, weights, optimizer state, data, seed) -> `TrainingOutput`. The model
      comes from `keras_state.build`; its variables are overwritten. `data` may be
      empty. `seed` is int32 `[2]`, for shuffling and Dropout.
  """

  initialize: Callable[[ModelWeights], Any]
  train: Callable[[tf.keras.Model, ModelWeights, Any, Images, tf.Tensor], TrainingOutput]


def local_training(
  optimizer: tff.learning.optimizers.Optimizer,
  gradient: GradientFn,
  batch_size: int,
  epochs: int = 1,
  shuffle: bool = True,
  samples_per_round: int | None = None,
  keep_optimizer_state: bool = True,
  keep_model: bool = False,
) -> LocalTraining:
  """Minibatch training.

  Args:
    optimizer: Its state goes in and comes out, so that it can persist over rounds.
    gradient: Gradient of one batch.
    batch_size: Images per step; the last, smaller batch is kept.
    epochs: Passes over the data in a round.
    shuffle: Whether every epoch sees the data in a new order.
    samples_per_round: How many samples a round uses, drawn anew in each; None is all.
    keep_optimizer_state: Whether the optimizer goes on where the last round left it; if not,
      there is no state to keep.
    keep_model: Whether it goes on from the weights that the model has, and not from the given
      ones; the update is what leads from the given ones to where it ends, all the same.

  Returns:
    The two functions.
  """

  def start_optimizer(weights):
    state = optimizer.initialize(keras_state.specs(weights.trainable))
    return tf.nest.map_structure(tf.convert_to_tensor, state)

  def initialize(weights):
    return start_optimizer(weights) if keep_optimizer_state else ()

  def train(model, weights, optimizer_state, data, seed):
    if not keep_model:
      keras_state.assign(model, weights)
    if not keep_optimizer_state:
      optimizer_state = start_optimizer(weights)
    optimizer_state, loss = run_steps(model, optimizer_state, data, seed)
    update = tf.nest.map_structure(tf.subtract, keras_state.read(model), weights)
    return TrainingOutput(update, optimizer_state if keep_optimizer_state else (), loss)

  @tf.function
  def run_steps(model, optimizer_state, data, seed):
    samples = tf.range(tf.size(data.labels))
    if samples_per_round is not None:
      draw_seed = keras_state.fold_in(seed, -1)
      samples = tf.random.experimental.stateless_shuffle(samples, draw_seed)[:samples_per_round]
    count = tf.size(samples)
    total_loss = 0.0
    for epoch in tf.range(epochs):
      epoch_seed = keras_state.fold_in(seed, epoch)
      order = samples
      if shuffle:
        order = tf.random.experimental.stateless_shuffle(order, epoch_seed)
      for start in tf.range(0, count, batch_size):
        indices = order[start : start + batch_size]
        batch = Images(tf.gather(data.images, indices), tf.gather(data.labels, indices))
        loss, gradients = gradient(model, batch, keras_state.fold_in(epoch_seed, start))
        optimizer_state = keras_state.apply_gradients(
          optimizer, optimizer_state, model.trainable_variables, gradients
        )
        total_loss += loss * tf.cast(tf.size(indices), tf.float32)
    used = tf.cast(count * epochs, tf.float32)
    return optimizer_state, tf.math.divide_no_nan(total_loss, used)

  return LocalTraining(initialize, train)
