"""The protocol of a client-side attack: what a malicious client does differently.

An attack is a NamedTuple of pure functions, one file each. It poisons the data that
the client trains on, the update that it sends, or both. An honest client is the
identity attack.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning.local_training import LocalTraining

Parameters = Any
"""What a sweep varies (classes, rates, labels): a structure of numbers."""

State = Any
"""What the attack keeps over the rounds: a structure of tensors."""

Workspace = Any
"""The Keras models, or other variables, that the attack computes with."""

Train = Callable[[Images], ModelWeights]
"""Local training from the global weights: data -> update."""


class Context(NamedTuple):
  """What the server tells every client at the start of a round.

  Attributes:
    weights: Global weights.
    round: int32, from 0.
    accuracy: float32, test accuracy of the global model after the last round, 0 before the first.
  """

  weights: ModelWeights
  round: tf.Tensor
  accuracy: tf.Tensor


PoisonUpdate = Callable[
  [Workspace, State, Context, Images, Train, ModelWeights, tf.Tensor], tuple[State, ModelWeights]
]
"""What is sent, see `ClientAttack`."""


class ClientAttack(NamedTuple):
  """A client-side attack.

  In `poison_data` and `poison_update`, which are traced once, everything is a tensor (so take
  images with `tf.gather`); `seed` is int32 `[2]`, for stateless ops. The state keeps its types. A
  client knows its own data and what the server sends, no other client's update.

  Attributes:
    parameters: An example, for the types; a client has those that it is made with, and is honest
      without any.
    build: (global model) -> workspace. Creates every variable that the attack needs,
      once per trace. The global model's variables may be used and overwritten.
    initialize: (parameters, seed) -> state. Called eagerly for each adversary. The
      parameters are kept in the state, as tensors, so that one trace serves them all.
    poison_data: (workspace, state, context, data, seed) -> (state, data) to train on.
    poison_update: (workspace, state, context, data, train, update, seed) ->
      (state, update) to send. `data` is the client's own, `update` comes from honest
      training on the poisoned data.
    training: In the place of the honest one, with the same optimizer; None for the same.
  """

  parameters: Parameters
  build: Callable[[tf.keras.Model], Workspace]
  initialize: Callable[[Parameters, int], State]
  poison_data: Callable[[Workspace, State, Context, Images, tf.Tensor], tuple[State, Images]]
  poison_update: PoisonUpdate
  training: LocalTraining | None = None


def may_start(context: Context, parameters: Any) -> tf.Tensor:
  """Whether an attack may begin: from `start_round` on, above `start_accuracy`.

  Args:
    context: What the server sent.
    parameters: With `start_round` (first round, from 0) and `start_accuracy` (of the global
      model; accuracy must be above it).
  """
  return (context.round >= parameters.start_round) & (context.accuracy > parameters.start_accuracy)


def append(data: Images, more: Images) -> Images:
  """The images of both, one set after the other."""
  return tf.nest.map_structure(lambda *x: tf.concat(x, axis=0), data, more)


def keep_data(workspace, state, context, data, seed):
  """A `poison_data` that leaves the data as it is."""
  del workspace, context, seed
  return state, data


def keep_update(workspace, state, context, data, train, update, seed):
  """A `poison_update` that leaves the update as it is."""
  del workspace, context, data, train, seed
  return state, update


def honest() -> ClientAttack:
  """The identity: no attack at all."""
  return ClientAttack(
    parameters=(),
    build=lambda model: None,
    initialize=lambda parameters, seed: (),
    poison_data=keep_data,
    poison_update=keep_update,
  )
