"""Keras models as functions of explicit weights and seeds.

A TFF computation is a pure function, a Keras model holds variables and draws its
own randomness. These helpers bridge the two: the weights are values that are
assigned on entry and read on exit, and Dropout draws from a seed that is passed in.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from keras.src import backend
from tensorflow.python.framework import config as framework_config

ModelFn = Callable[[], tf.keras.Model]
ModelWeights: TypeAlias = tff.learning.models.ModelWeights


def initial_weights(model_fn: ModelFn, seed: int) -> ModelWeights:
  """Builds a model eagerly and returns its initial weights.

  Args:
    model_fn: Returns a new Keras model.
    seed: Seeds the Keras initializers (and with them the global generators).

  Returns:
    Trainable and non-trainable weights as lists of NumPy arrays.
  """
  tf.keras.utils.set_random_seed(seed)
  model = model_fn()
  return ModelWeights(
    [v.numpy() for v in model.trainable_variables],
    [v.numpy() for v in model.non_trainable_variables],
  )


def construct(model_fn: ModelFn) -> tf.keras.Model:
  """Calls `model_fn`, where all results have to repeat with a seed of the graph.

  Keras' own Dropout makes random operations that nobody runs, but that TensorFlow then refuses
  without a seed.
  """
  if tf.executing_eagerly() or not framework_config.is_op_determinism_enabled():
    return model_fn()
  graph = tf.compat.v1.get_default_graph()
  before, graph.seed = graph.seed, 0
  try:
    return model_fn()
  finally:
    graph.seed = before


def build(model_fn: ModelFn, weights: ModelWeights | None = None) -> tf.keras.Model:
  """Builds a model with these weights, or with zeros, whose layers draw from a seed.

  Inside a TFF computation a Keras model is built anew at each call, so its
  initializers would be run, and thrown away, for every client in every round.

  Args:
    model_fn: Returns a new Keras model.
    weights: Its weights; without them, all are zero.

  Returns:
    The model, every random layer drawing from `call`'s seed.
  """

  def zeros(next_creator, **kwargs):
    value = kwargs["initial_value"]
    if callable(value):
      spec = tf.TensorSpec(kwargs["shape"], kwargs["dtype"])
      kwargs["initial_value"] = lambda: tf.zeros(spec.shape, spec.dtype)
    return next_creator(**kwargs)

  with tf.variable_creator_scope(zeros):
    model = construct(model_fn)
  for layer in _random_layers(model):
    layer._random_generator = _SeededGenerator()
  if framework_config.is_op_determinism_enabled():
    for layer in model._flatten_layers(include_self=False):
      if isinstance(layer, tf.keras.layers.BatchNormalization):
        _split_in_inference(layer)
  if weights is not None:
    assign(model, weights)
  return model


def call(model: tf.keras.Model, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Calls a model of `build` in training mode, its randomness drawn from `seed`.

  Args:
    model: A Keras model made by `build`.
    inputs: The batch.
    seed: int32 `[2]`; equal seeds give equal outputs.

  Returns:
    The model's output.
  """
  seed_layers(model, seed)
  return model(inputs, training=True)


def seed_layers(model: tf.keras.Model, seed: tf.Tensor) -> None:
  """Makes the random layers of a model of `build` draw from `seed` from now on."""
  for index, layer in enumerate(_random_layers(model)):
    layer._random_generator.restart(fold_in(seed, index))


def read(model: tf.keras.Model) -> ModelWeights:
  """Returns the current weights as tensors."""
  return ModelWeights(
    [v.read_value() for v in model.trainable_variables],
    [v.read_value() for v in model.non_trainable_variables],
  )


def assign(model: tf.keras.Model, weights: ModelWeights) -> None:
  """Sets a model's weights."""
  assign_all(model.trainable_variables, weights.trainable)
  assign_all(model.non_trainable_variables, weights.non_trainable)


def assign_all(variables: Sequence[tf.Variable], values: Sequence[np.ndarray | tf.Tensor]) -> None:
  """Sets each variable to its value."""
  for variable, value in zip(variables, values, strict=True):
    variable.assign(value)


def last_layer(model: tf.keras.Model) -> tf.keras.layers.Dense:
  """The fully connected layer that a model ends with, for attacks that look at its features.

  Raises:
    ValueError: If the last layer is another one, or has neither logits nor probabilities.
  """
  last = model.layers[-1]
  if not isinstance(last, tf.keras.layers.Dense) or not last.use_bias:
    raise ValueError(
      f"model: needs a Dense last layer with a bias, {last.name} is a {type(last).__name__}"
    )
  activation = tf.keras.activations.serialize(last.activation)
  if activation not in ("linear", "softmax"):
    raise ValueError(f"model: needs a last layer with linear or softmax, not {activation}")
  return last


def specs(weights: list) -> list[tf.TensorSpec]:
  """Shapes and types of weights, as a functional optimizer asks for them."""
  return [tf.TensorSpec(w.shape, w.dtype) for w in weights]


def apply_gradients(
  optimizer: tff.learning.optimizers.Optimizer,
  state: Any,
  variables: Sequence[tf.Variable],
  gradients: Sequence[tf.Tensor],
) -> Any:
  """Takes one step of a functional optimizer and returns its new state."""
  weights = [v.read_value() for v in variables]
  state, weights = optimizer.next(state, weights, gradients)
  assign_all(variables, weights)
  return state


def fold_in(seed: tf.Tensor, data: int | tf.Tensor) -> tf.Tensor:
  """Derives a new int32 `[2]` seed from a seed and an integer."""
  return tf.random.experimental.stateless_fold_in(seed, tf.cast(data, tf.int32))


class _SeededGenerator(backend.RandomGenerator):
  """Keras' random generator, stateless, with the seed as a tensor."""

  def __init__(self):
    super().__init__(seed=0, rng_type=self.RNG_STATELESS)
    self.restart(tf.constant([0, 0]))

  def restart(self, seed: tf.Tensor) -> None:
    self._tensor_seed = seed
    self._draws = 0

  def make_seed_for_stateless_op(self) -> tf.Tensor:
    self._draws += 1
    return fold_in(self._tensor_seed, self._draws)


def _random_layers(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
  return [layer for layer in model._flatten_layers() if hasattr(layer, "_random_generator")]


def _split_in_inference(layer: tf.keras.layers.BatchNormalization) -> None:
  """Lets inference do without the fused kernel, whose gradient there does not repeat on a GPU."""
  call, fused = layer.call, layer.fused

  def split(inputs, training=None, mask=None):
    layer.fused = fused and bool(training) and layer.trainable
    return call(inputs, training=training, mask=mask)

  layer.call = split
