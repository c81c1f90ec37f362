"""Label flipping: a client trains on images of source classes with the labels of targets.

A client without images of any source trains as an honest one.

What the adversary sends, and which targets it takes, are functions of their own: see
`scaling` for train-and-scale and model replacement, `distance_aware` for ADA.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.attacks import attack
from tff_attacks.data.datasets import Images


class Parameters(NamedTuple):
  """What a sweep varies; every value may differ without a new trace.

  Attributes:
    sources: bool `[classes]`, whose images get other labels.
    targets: int32 `[classes]`, the label for each source; an adversary that chooses its own
      keeps it until it knows better, and flips nothing while it is below 0.
    injection_rate: The share of relabelled images among those that it trains on, above 0; as
      many of its other images are drawn, or all of them if it has fewer.
    start_round: First round, from 0, in which the attack may start.
    start_accuracy: It starts once the global model's accuracy is above this, which is 0 until the
      server is told; -1 waits for none.
  """

  sources: Any
  targets: Any
  injection_rate: float = 0.5
  start_round: int = 0
  start_accuracy: float = -1.0


class State(NamedTuple):
  """What the adversary keeps between rounds.

  Attributes:
    parameters: As tensors.
    started: bool, whether the attack has begun.
    flips: bool, whether it flips labels in this round.
    targets: int32 `[classes]`, the last label for each source.
  """

  parameters: Parameters
  started: tf.Tensor
  flips: tf.Tensor
  targets: tf.Tensor


ChooseTargets = Callable[[Any, State, attack.Context, Images], tf.Tensor]
"""(workspace, state, context, own data) -> int32 `[classes]`, the label for each source."""


def one_target(
  num_classes: int, sources: Collection[int], target: int
) -> tuple[np.ndarray, np.ndarray]:
  """`sources` and `targets` of the parameters, all sources with the same target."""
  labels = np.arange(num_classes, dtype=np.int32)
  chosen = np.isin(labels, list(sources))
  return chosen, np.where(chosen, np.int32(target), labels)


def given_targets(workspace, state, context, data):
  """A `ChooseTargets` that takes those of the parameters."""
  del workspace, context, data
  return state.parameters.targets


def label_flipping(
  parameters: Parameters,
  build: Callable[[tf.keras.Model], attack.Workspace] = lambda model: None,
  choose_targets: ChooseTargets = given_targets,
  poison_update: attack.PoisonUpdate = attack.keep_update,
) -> attack.ClientAttack:
  """Builds the attack.

  Args:
    parameters: Default parameters.
    build: (global model) -> workspace, what `choose_targets` computes with.
    choose_targets: Called in every round of the attack.
    poison_update: What is sent, see `attack.ClientAttack`.

  Returns:
    The attack.
  """

  def initialize(parameters, seed):
    del seed
    state = State(parameters, False, False, parameters.targets)
    return tf.nest.map_structure(tf.convert_to_tensor, state)

  def poison_data(workspace, state, context, data, seed):
    state = state._replace(started=state.started | attack.may_start(context, state.parameters))
    return tf.cond(
      state.started,
      lambda: attack_round(workspace, state, context, data, seed),
      lambda: (state, data),
    )

  def attack_round(workspace, state, context, data, seed):
    state = state._replace(targets=choose_targets(workspace, state, context, data))
    state = state._replace(flips=tf.reduce_any(tf.gather(_flipped(state), data.labels)))
    return tf.cond(state.flips, lambda: (state, flip(data, state, seed)), lambda: (state, data))

  def poison_flipping(workspace, state, context, data, train, update, seed):
    return tf.cond(
      state.flips,
      lambda: poison_update(workspace, state, context, data, train, update, seed),
      lambda: (state, update),
    )

  return attack.ClientAttack(parameters, build, initialize, poison_data, poison_flipping)


def _flipped(state: State) -> tf.Tensor:
  """Which classes are sources with a target, bool `[classes]`."""
  return state.parameters.sources & (state.targets >= 0)


def flip(data: Images, state: State, seed: tf.Tensor) -> Images:
  """All images of the sources, relabelled, and as many others as the injection rate says.

  Args:
    data: The client's images, `[n, ...]`.
    state: Which classes are sources, what they are called, and the injection rate.
    seed: int32 `[2]`, of the choice of the others.

  Returns:
    Images `[m, ...]`, m <= n, the relabelled ones first.
  """
  of_source = tf.gather(_flipped(state), data.labels)
  flipped, others = tf.where(of_source)[:, 0], tf.where(~of_source)[:, 0]
  others = tf.random.experimental.stateless_shuffle(others, keras_state.fold_in(seed, 0))
  rate = state.parameters.injection_rate
  wanted = tf.cast(tf.size(flipped), tf.float32) * (1 - rate) / rate
  wanted = tf.minimum(wanted, tf.cast(tf.size(others), tf.float32))
  order = tf.concat([flipped, others[: tf.cast(tf.round(wanted), tf.int32)]], axis=0)
  labels = tf.where(of_source, tf.gather(state.targets, data.labels), data.labels)
  return Images(tf.gather(data.images, order), tf.gather(labels, order))
