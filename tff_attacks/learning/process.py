"""The federated process: the only place that composes federated types.

    initialize: ( -> S@SERVER)
    next: (<S@SERVER, {C}@CLIENTS, {D}@CLIENTS> -> <S@SERVER, {C}@CLIENTS, M@SERVER>)

S is a `ServerState`, C a `ClientState`, D are `Images`, M are the aggregator's
measurements, with one client's update if the server observes it. The clients' states
persist: whoever drives the process keeps them by client and hands each one back in the next
round.
"""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning import local_training as local_training_lib
from tff_attacks.privacy import clients as clients_privacy

# The server's place among the clients' numbers in a seed.
_SERVER = 2**32 - 1


class ServerState(NamedTuple):
  """What the server keeps.

  Attributes:
    weights: Global weights; the non-trainable ones are averaged like the others.
    aggregator: State of the aggregation process.
    round: int32, the number of rounds that are over.
    accuracy: float32, test accuracy of `weights`, written by the driver.
  """

  weights: ModelWeights
  aggregator: Any
  round: Any
  accuracy: Any


class ClientState(NamedTuple):
  """What a client keeps.

  Attributes:
    seed: int32 `[2]`, the client's own seed.
    adversary: bool, the client's role.
    optimizer: State of the local optimizer.
    attack: The attack's state in a slot of length 1 for the adversary and 0 for an
      honest client, which thus carries no generator.
    loss: float32, mean training loss of the last round.
    update_norm: float32, norm of the update that it last sent.
    observed: bool, whether a curious server keeps apart what this client sends. Written by the
      driver; it counts only where the federation observes.
  """

  seed: Any
  adversary: Any
  optimizer: Any
  attack: Any
  loss: Any
  update_norm: Any
  observed: Any


class ClientOutput(NamedTuple):
  """What a client's round yields: its new state, the update it sends, its weight."""

  state: ClientState
  update: ModelWeights
  num_examples: tf.Tensor


class Federation(NamedTuple):
  """The process and the functions that make its inputs.

  Attributes:
    process: The iterative process.
    initial_server: (weights, seed) -> `ServerState` at round 0; the seed is that of an
      aggregator that adds noise, 0 if not given.
    initial_client: (seed, index, attack parameters or None) -> `ClientState`, that of an
      adversary if there are parameters.
  """

  process: tff.templates.IterativeProcess
  initial_server: Callable[..., ServerState]
  initial_client: Callable[..., ClientState]


def client_round(
  model: tf.keras.Model,
  local_training: local_training_lib.LocalTraining,
  attack: attack_lib.ClientAttack,
  workspace: attack_lib.Workspace,
  context: attack_lib.Context,
  state: ClientState,
  data: Images,
) -> ClientOutput:
  """One client's round: honest local training, with the attack around it.

  Args:
    model: The global model, from `keras_state.build`.
    local_training: What every client does.
    attack: What the adversary does differently.
    workspace: From `attack.build(model)`.
    context: What the server sent.
    state: The client's state.
    data: The client's data.

  Returns:
    The new state, the update to send and the number of samples that the client has to train on.
  """
  seed = keras_state.fold_in(state.seed, context.round)
  data_seed, training_seed, update_seed = (keras_state.fold_in(seed, i) for i in range(3))

  def train(data, training=local_training):
    return training.train(model, context.weights, state.optimizer, data, training_seed)

  def train_as_adversary(data):
    return train(data, attack.training or local_training)

  def poison_data():
    new, poisoned = attack.poison_data(workspace, _take(state.attack), context, data, data_seed)
    return _put(new), poisoned

  attack_state, training_data = tf.cond(state.adversary, poison_data, lambda: (state.attack, data))
  if attack.training is None:  # A branch more would be traced for nothing.
    trained = train(training_data)
  else:
    trained = tf.cond(
      state.adversary, lambda: train_as_adversary(training_data), lambda: train(training_data)
    )

  def poison_update():
    new, update = attack.poison_update(
      workspace,
      _take(attack_state),
      context,
      data,
      lambda data: train_as_adversary(data).update,
      trained.update,
      update_seed,
    )
    return _put(new), update

  attack_state, update = tf.cond(
    state.adversary, poison_update, lambda: (attack_state, trained.update)
  )
  state = state._replace(
    optimizer=trained.optimizer,
    attack=attack_state,
    loss=trained.loss,
    update_norm=tf.linalg.global_norm(tf.nest.flatten(update)),
  )
  return ClientOutput(state, update, tf.size(training_data.labels))


def build_federation(
  model_fn: keras_state.ModelFn,
  local_training: local_training_lib.LocalTraining,
  attack: attack_lib.ClientAttack,
  aggregator: tff.aggregators.AggregationFactory,
  observe: bool = False,
) -> Federation:
  """Builds federated averaging with stateful clients, one kind of which attacks.

  Args:
    model_fn: Returns a new global model; its input shape is that of the images.
    local_training: What every client does.
    attack: What a client whose state says `adversary` does differently.
    aggregator: Combines the updates: one of `aggregation`, or any of TFF's. A weighted one gets
      the number of samples that a client has.
    observe: Whether the measurements are `observed`, the update of the client whose state says
      so (of several, their sum; of none, zeros), and `aggregator`, those of the aggregator.

  Returns:
    The process, and the functions that make its states.
  """
  image_shape = model_fn().input_shape[1:]
  example_weights = keras_state.initial_weights(model_fn, seed=0)

  spec = _specs(attack.initialize(attack.parameters, 0))
  # Shared by all clients that have not taken part yet.
  initial_optimizer = tf.nest.map_structure(np.asarray, local_training.initialize(example_weights))

  def initial_client(
    seed: int, index: int, parameters: attack_lib.Parameters | None = None
  ) -> ClientState:
    client_seed = np.random.SeedSequence([seed, index]).generate_state(2)
    adversary = parameters is not None
    slot = tf.nest.map_structure(lambda s: np.zeros([0, *s.shape], s.dtype.as_numpy_dtype), spec)
    if adversary:
      attack_state = attack.initialize(parameters, int(client_seed[0]))
      slot = tf.nest.map_structure(_of_type, spec, attack_state)
    state = ClientState(
      seed=client_seed.view(np.int32),
      adversary=np.bool_(adversary),
      optimizer=initial_optimizer,
      attack=slot,
      loss=np.float32(0.0),
      update_norm=np.float32(0.0),
      observed=np.bool_(False),
    )
    return tf.nest.map_structure(np.asarray, state)

  data_type = tff.types.tensorflow_to_type(
    Images(tf.TensorSpec([None, *image_shape], tf.float32), tf.TensorSpec([None], tf.int32))
  )
  weights_type = tff.types.tensorflow_to_type(_specs(example_weights))
  client = _specs(initial_client(0, 0, attack.parameters))
  client_type = tff.types.tensorflow_to_type(
    client._replace(
      attack=tf.nest.map_structure(
        lambda s: tf.TensorSpec([None, *s.shape[1:]], s.dtype), client.attack
      )
    )
  )
  if isinstance(aggregator, tff.aggregators.UnweightedAggregationFactory):
    aggregator = tff.aggregators.as_weighted_aggregator(aggregator)
  aggregation = aggregator.create(weights_type, tff.TensorType(np.float32))

  @tff.tensorflow.computation
  def initial_weights():
    return keras_state.read(keras_state.construct(model_fn))

  @tff.federated_computation
  def initialize():
    state = ServerState(
      tff.federated_eval(initial_weights, tff.SERVER),
      aggregation.initialize(),
      tff.federated_value(np.int32(0), tff.SERVER),
      tff.federated_value(np.float32(0.0), tff.SERVER),
    )
    return tff.federated_zip(state)

  server_type = initialize.type_signature.result

  @tff.tensorflow.computation(server_type.member)
  def context_of(server):
    return attack_lib.Context(server.weights, server.round, server.accuracy)

  @tff.tensorflow.computation(context_of.type_signature.result, client_type, data_type)
  def client_work(context, state, data):
    model = keras_state.build(model_fn)
    workspace = attack.build(model)

    @tf.function
    def run(context, state, data):
      return client_round(model, local_training, attack, workspace, context, state, data)

    output = run(context, state, data)
    return output._replace(num_examples=tf.cast(output.num_examples, tf.float32))

  @tff.tensorflow.computation(weights_type, weights_type)
  def apply_update(weights, update):
    return tf.nest.map_structure(tf.add, weights, update)

  @tff.tensorflow.computation(weights_type, client_type)
  def if_observed(update, state):
    return tf.nest.map_structure(
      lambda part: tf.where(state.observed, part, tf.zeros_like(part)), update
    )

  @tff.tensorflow.computation(np.int32)
  def increment(count):
    return count + 1

  @tff.federated_computation(
    server_type,
    tff.FederatedType(client_type, tff.CLIENTS),
    tff.FederatedType(data_type, tff.CLIENTS),
  )
  def next_fn(server, clients, data):
    context = tff.federated_broadcast(tff.federated_map(context_of, server))
    output = tff.federated_map(client_work, (context, clients, data))
    aggregate = aggregation.next(server.aggregator, output.update, output.num_examples)
    new_server = ServerState(
      tff.federated_map(apply_update, (server.weights, aggregate.result)),
      aggregate.state,
      tff.federated_map(increment, server.round),
      server.accuracy,
    )
    measurements = aggregate.measurements
    if observe:
      seen = tff.federated_sum(tff.federated_map(if_observed, (output.update, output.state)))
      measurements = tff.federated_zip(
        collections.OrderedDict(observed=seen, aggregator=measurements)
      )
    return tff.federated_zip(new_server), output.state, measurements

  def initial_server(weights: ModelWeights, seed: int = 0) -> ServerState:
    server = process.initialize()
    # Client i has [seed, i].
    noise_seed = np.random.SeedSequence([seed, _SERVER]).generate_state(2).view(np.int32)
    aggregator_state = clients_privacy.seed_state(server.aggregator, noise_seed)
    return server._replace(weights=weights, aggregator=aggregator_state)

  process = tff.templates.IterativeProcess(initialize, next_fn)
  return Federation(process, initial_server, initial_client)


def _take(slot):
  """The attack's state out of an adversary's slot."""
  return tf.nest.map_structure(lambda t: t[0], slot)


def _put(state):
  return tf.nest.map_structure(lambda t: t[tf.newaxis], state)


def _of_type(spec: tf.TensorSpec, value: Any) -> np.ndarray:
  """A value of an attack's state, as the process was built for.

  Raises:
    TypeError: If it is of another kind, such as a fraction where there was a whole number.
  """
  return np.asarray(value).astype(spec.dtype.as_numpy_dtype, casting="same_kind")[np.newaxis]


def _specs(structure):
  return tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), structure)
