"""Injection of fixed images with fixed labels: what a poisoning needs no GAN for.

As a control it tells how much of a generative attack is the attack: real images of the
class are its upper bound, noise or another class its lower one.
"""

from typing import NamedTuple

import tensorflow as tf

from tff_attacks.attacks import attack
from tff_attacks.data.datasets import Images


class Parameters(NamedTuple):
  """What may differ without a new trace, but for the number of images.

  Attributes:
    injected: Images, with the labels to train them on.
    start_round: First round, from 0, in which the attack may start.
    start_accuracy: It starts once the global model's accuracy is above this, which is 0 until the
      server is told; -1 waits for none.
  """

  injected: Images
  start_round: int = 0
  start_accuracy: float = -1.0


class State(NamedTuple):
  """What the adversary keeps between rounds.

  Attributes:
    parameters: As tensors.
    started: bool, whether the attack has begun.
  """

  parameters: Parameters
  started: tf.Tensor


def injection(parameters: Parameters) -> attack.ClientAttack:
  """Builds the attack: from its start on, the images are among the adversary's data."""

  def initialize(parameters, seed):
    del seed
    return tf.nest.map_structure(tf.convert_to_tensor, State(parameters, False))

  def poison_data(workspace, state, context, data, seed):
    del workspace, seed
    state = state._replace(started=state.started | attack.may_start(context, state.parameters))
    injected = state.parameters.injected
    count = tf.where(state.started, tf.size(injected.labels), 0)
    return state, attack.append(data, Images(injected.images[:count], injected.labels[:count]))

  return attack.ClientAttack(
    parameters, lambda model: None, initialize, poison_data, attack.keep_update
  )
