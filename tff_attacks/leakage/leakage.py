"""The protocol of a server-side attack: what a curious server sees, and what it makes of it.

An attack is a function from an `Observation` and a seed to a `Reconstruction`. What it gets is
what the server gets in the protocol, whether that is one gradient or a client's update out of
a federated round. The client's data is not among it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning import process
from tff_attacks.learning.local_training import GradientFn


class Observation(NamedTuple):
  """What the server knows of one client in one round.

  Attributes:
    weights: Global weights that the client started from.
    update: The client's weights minus the global ones, as it sent them.
    num_samples: How many images it has.
    batch_size: Images in one of its steps.
    epochs: Its passes over the images.
    learning_rate: Of its SGD.
    auxiliary: Images with labels that the server has of its own, none of the client's; or None.
    labels: int32 `[n]`, the client's, where the server is to know them; or None.
  """

  weights: ModelWeights
  update: ModelWeights
  num_samples: int
  batch_size: int
  epochs: int
  learning_rate: float
  auxiliary: Images | None = None
  labels: np.ndarray | None = None


UNKNOWN = -1


class Reconstruction(NamedTuple):
  """What an attack found.

  Attributes:
    images: float32 `[n, height, width, channels]` in [-1, 1], if the attack was not told otherwise.
    labels: int32 `[n]`; `UNKNOWN` where the attack does not look for them.
    losses: float32 `[steps]`, of the attack's own objective.
  """

  images: np.ndarray
  labels: np.ndarray
  losses: np.ndarray


class UnusableError(ValueError):
  """An observation that an attack can make nothing of, as of a client whose training diverged."""


Reconstruct = Callable[..., Reconstruction]
"""(observation, seed, watch=`search.unwatched`) -> reconstruction. Raises `UnusableError` for a
client that it can do nothing with, another `ValueError` for what the attack cannot handle."""


def reads_pixels(model: tf.keras.Model) -> bool:
  """Whether a model begins with a fully connected layer on all pixels."""
  first = model.trainable_variables[0].shape.as_list()
  return first[:-1] == [np.prod(model.input_shape[1:])]


def num_steps(observation: Observation) -> int:
  """How many steps the client took, ceil(n / B) in each epoch."""
  return -(-observation.num_samples // observation.batch_size) * observation.epochs


def mean_gradient(observation: Observation) -> list[np.ndarray]:
  """The update as a gradient: its mean over the client's steps, by the trainable weights.

  Raises:
    UnusableError: If the update is zero, or holds a number that is not finite.
  """
  parts = tf.nest.flatten(observation.update)
  if not all(np.isfinite(part).all() for part in parts):
    raise UnusableError("update: holds numbers that are not finite; the client's training diverged")
  if not any(np.any(part) for part in observation.update.trainable):
    raise UnusableError("update: is zero; there is nothing to see")
  scale = observation.learning_rate * num_steps(observation)
  return [-np.asarray(part) / scale for part in observation.update.trainable]


def as_one_gradient(observation: Observation, count: int) -> Observation:
  """The observation with the update taken for one gradient of one batch.

  It is what an attack makes of several steps that it does not know how to simulate.

  Args:
    observation: Of any client.
    count: How many images the attack looks for.
  """
  scale = observation.learning_rate * num_steps(observation)
  update = tf.nest.map_structure(lambda part: part / scale, observation.update)
  return observation._replace(
    update=update, num_samples=count, batch_size=count, epochs=1, learning_rate=1.0
  )


def observe_round(
  federation: process.Federation,
  server: process.ServerState,
  client: process.ClientState,
  data: Images,
  batch_size: int,
  epochs: int,
  learning_rate: float,
  auxiliary: Images | None = None,
) -> Observation:
  """The observation of what a client sends in the next round, before it is aggregated.

  Args:
    federation: Built with `observe=True`, its clients training by SGD.
    server: The server's state.
    client: The client's.
    data: The images that it trains on.
    batch_size: Of its local training, as the server knows it.
    epochs: Passes over them in a round.
    learning_rate: Of this round.
    auxiliary: The server's own images.
  """
  watched = client._replace(observed=np.bool_(True))
  # What a client sends does not depend on who else takes part.
  *_, measurements = federation.process.next(server, [watched], [data])
  weights, update = (
    ModelWeights(*tf.nest.map_structure(np.asarray, tuple(values)))
    for values in (server.weights, measurements["observed"])
  )
  count = len(data.labels)
  return Observation(weights, update, count, batch_size, epochs, learning_rate, auxiliary)


def observe_gradient(
  model: tf.keras.Model, gradient: GradientFn, data: Images, auxiliary: Images | None = None
) -> Observation:
  """The observation of one gradient of one batch, as in federated SGD.

  The update is minus the gradient itself, so that it does not suffer from the rounding of
  weights after a step.

  Args:
    model: The global model, with its weights.
    gradient: As in local training.
    data: The batch.
    auxiliary: The server's own images.
  """
  # The gradient moves the statistics of BatchNormalization, which are not the server's to see.
  weights = ModelWeights(*tf.nest.map_structure(np.array, tuple(keras_state.read(model))))
  _, gradients = gradient(model, data, tf.constant([0, 0]))
  update = ModelWeights(
    [-g.numpy() for g in gradients], [np.zeros_like(w) for w in weights.non_trainable]
  )
  count = len(data.labels)
  return Observation(weights, update, count, count, 1, 1.0, auxiliary)
