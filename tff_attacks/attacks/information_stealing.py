"""GAN information stealing: a client without data reconstructs a class from the global model.

Once the global model is good, the adversary trains a generator against it each round, and
trains its own model on the images with the label of an additional class, so that the
victim reveals more. Source: Information Stealing in Federated Learning Systems Based on
Generative Adversarial Networks, 2021, III.C.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import generation, keras_state
from tff_attacks.attacks import attack
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning.local_training import LossFn

NOT_STARTED = -1


class Parameters(NamedTuple):
  """What a sweep varies; every value may differ without a new trace.

  Attributes:
    target: Class of the victim, which the generator is to reproduce.
    generated_images: Images that the adversary generates each round, its data set.
    drawn_images: How many of them, drawn at random, it trains on.
    steps: Updates of the generator each round.
    generator_learning_rate: Of the generator's optimizer.
    total_variation: Weight of a smoothness prior in the generator's loss, see
      `generation.mean_total_variation`; 0 in the paper.
    start_accuracy: The attack starts once the global model's accuracy is above this.
    latest_start: Round, from 0, in which it starts at the latest.
  """

  target: int
  generated_images: int = 5000
  drawn_images: int = 50
  steps: int = 500
  generator_learning_rate: float = 1e-3
  total_variation: float = 0.0
  start_accuracy: float = 0.9
  latest_start: int = 100


class State(NamedTuple):
  """What the adversary keeps between rounds.

  Attributes:
    parameters: As tensors.
    started: int32, the round in which the attack began, or `NOT_STARTED`.
    generator: Weights of the generator.
    generator_optimizer: State of its optimizer.
    generator_loss: float32, of the last update.
  """

  parameters: Parameters
  started: tf.Tensor
  generator: ModelWeights
  generator_optimizer: dict
  generator_loss: tf.Tensor


class Workspace(NamedTuple):
  """The adversary's GAN. The discriminator is the global model."""

  generator: tf.keras.Model
  discriminator: tf.keras.Model


DrawNoise = Callable[[int | tf.Tensor, tf.Tensor], tf.Tensor]
"""(number, seed) -> noise, one row after another from the seed."""


def information_stealing(
  parameters: Parameters,
  generator_fn: keras_state.ModelFn,
  draw_noise: DrawNoise,
  num_classes: int,
  generator_optimizer: tff.learning.optimizers.Optimizer,
  loss_fn: LossFn,
  batch_size: int,
) -> attack.ClientAttack:
  """Builds the attack.

  Args:
    parameters: Default parameters.
    generator_fn: Returns the Keras generator, noise -> images.
    draw_noise: Draws the generator's input.
    num_classes: C, also the label of generated images.
    generator_optimizer: Its learning rate is replaced by that of the parameters.
    loss_fn: (labels, output of the global model) -> mean cross-entropy.
    batch_size: Images in an update of the generator.

  Returns:
    The attack.
  """

  def build(global_model):
    return Workspace(keras_state.build(generator_fn), global_model)

  def initialize(parameters, seed):
    weights, optimizer_state = generation.initial_generator(
      generator_fn, generator_optimizer, parameters.generator_learning_rate, seed
    )
    state = State(parameters, np.int32(NOT_STARTED), weights, optimizer_state, 0.0)
    return tf.nest.map_structure(tf.convert_to_tensor, state)

  def poison_data(workspace, state, context, data, seed):
    parameters = state.parameters
    ready = (context.accuracy > parameters.start_accuracy) | (
      context.round >= parameters.latest_start
    )
    waiting = tf.equal(state.started, NOT_STARTED)
    state = state._replace(started=tf.where(waiting & ready, context.round, state.started))
    return tf.cond(
      tf.equal(state.started, NOT_STARTED),
      lambda: (state, data),
      lambda: attack_round(workspace, state, context, data, seed),
    )

  def attack_round(workspace, state, context, data, seed):
    keras_state.assign(workspace.discriminator, context.weights)
    keras_state.assign(workspace.generator, state.generator)
    optimizer_state, loss = train_generator(workspace, state, keras_state.fold_in(seed, 0))
    state = state._replace(
      generator=keras_state.read(workspace.generator),
      generator_optimizer=optimizer_state,
      generator_loss=loss,
    )
    stolen = generate(workspace.generator, state.parameters, keras_state.fold_in(seed, 1))
    return state, attack.append(data, stolen)

  @tf.function
  def train_generator(workspace, state, seed):
    generator, discriminator = workspace
    target = tf.fill([batch_size], state.parameters.target)
    optimizer_state = state.generator_optimizer
    loss = 0.0
    for step in tf.range(state.parameters.steps):
      step_seed = keras_state.fold_in(seed, step)
      noise = draw_noise(batch_size, step_seed)
      with tf.GradientTape() as tape:
        images = keras_state.call(generator, noise, step_seed)
        loss = loss_fn(target, discriminator(images, training=False))
        loss += state.parameters.total_variation * generation.mean_total_variation(images)
      gradients = tape.gradient(loss, generator.trainable_variables)
      optimizer_state = keras_state.apply_gradients(
        generator_optimizer, optimizer_state, generator.trainable_variables, gradients
      )
    return optimizer_state, loss

  def generate(generator, parameters, seed):
    """The drawn ones of all that would be generated: the others are never seen."""
    order = tf.random.experimental.stateless_shuffle(
      tf.range(parameters.generated_images), keras_state.fold_in(seed, 0)
    )
    noise = draw_noise(parameters.generated_images, keras_state.fold_in(seed, 1))
    images = generator(tf.gather(noise, order[: parameters.drawn_images]), training=False)
    return Images(images, tf.fill([tf.shape(images)[0]], num_classes))

  return attack.ClientAttack(parameters, build, initialize, poison_data, attack.keep_update)


def uniform_noise(size: int) -> DrawNoise:
  """Draws noise from [-1, 1]."""
  return lambda number, seed: tf.random.stateless_uniform([number, size], seed, -1.0, 1.0)


def normal_noise(size: int) -> DrawNoise:
  """Draws noise from the standard normal distribution."""
  return lambda number, seed: tf.random.stateless_normal([number, size], seed)
