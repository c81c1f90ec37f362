"""Combined reconstruction and poisoning attack (CRPA).

One client trains a GAN against the global model to reconstruct a class G that it has
never seen, labels the generated images with another class T, and trains on them with
its own data. Source: Becker et al., A Study on the Efficiency of Combined
Reconstruction and Poisoning Attacks in Federated Learning, 2025, and its Keras code.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import generation, keras_state
from tff_attacks.attacks import attack
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning.local_training import LossFn


class Parameters(NamedTuple):
  """What a sweep over CRPA varies; every value may differ without a new trace.

  Attributes:
    reconstruct: Class G.
    label: Label of the generated images among the adversary's data: T for CRPA, C (the
      additional class) for reconstruction alone, or `RANDOM_LABELS`.
    poison_images: Number of generated images among the adversary's data.
    generator_learning_rate: Of the generator's optimizer.
    discriminator_learning_rate: Of the discriminator's SGD; 0 leaves the discriminator
      as it was downloaded.
    steps: GAN steps in a round; 0 means one pass over the adversary's images.
    total_variation: Weight of a smoothness prior in the generator's loss, see
      `generation.mean_total_variation`; 0 in the study.
    start_round: First round, from 0, in which the attack may start.
    start_accuracy: It starts once the global model's accuracy is above this, which is 0 until the
      server is told; -1 waits for none.
  """

  reconstruct: int
  label: int
  poison_images: int
  generator_learning_rate: float = 1e-3
  discriminator_learning_rate: float = 1e-4
  steps: int = 0
  total_variation: float = 0.0
  start_round: int = 0
  start_accuracy: float = -1.0


RANDOM_LABELS = -1
"""The original code's third mode: each image has a fixed random label other than G."""


class State(NamedTuple):
  """What the adversary keeps between rounds.

  Attributes:
    parameters: As tensors; the generator's learning rate in force is in its optimizer's state.
    seed: int32 `[2]`, fixed: the noise and the random labels for poisoning come from it.
    started: bool, whether the attack has begun.
    generator: Weights of the generator, BatchNorm's moving statistics included.
    generator_optimizer: State of the generator's optimizer.
    generator_loss: float32, of the last GAN step.
  """

  parameters: Parameters
  seed: tf.Tensor
  started: tf.Tensor
  generator: ModelWeights
  generator_optimizer: dict
  generator_loss: tf.Tensor


class Workspace(NamedTuple):
  """The adversary's GAN. The discriminator shares the global model's variables."""

  generator: tf.keras.Model
  discriminator: tf.keras.Model


def crpa(
  parameters: Parameters,
  generator_fn: keras_state.ModelFn,
  noise_size: int,
  num_classes: int,
  generator_optimizer: tff.learning.optimizers.Optimizer,
  loss_fn: LossFn,
  batch_size: int,
) -> attack.ClientAttack:
  """Builds the attack.

  Args:
    parameters: Default parameters.
    generator_fn: Returns the Keras generator, noise `[n, noise_size]` -> images.
    noise_size: Dimension of the noise.
    num_classes: C, also the label of generated images in the discriminator's loss. A global
      model without an output for them is used as it was downloaded.
    generator_optimizer: Its learning rate is replaced by that of the parameters.
    loss_fn: (labels, output of the global model) -> mean cross-entropy.
    batch_size: Images in a GAN step.

  Returns:
    The attack.
  """

  def build(global_model):
    return Workspace(keras_state.build(generator_fn), global_model)

  def initialize(parameters, seed):
    weights, optimizer_state = generation.initial_generator(
      generator_fn, generator_optimizer, parameters.generator_learning_rate, seed
    )
    state = State(
      parameters=parameters,
      seed=np.array([seed, 0], np.uint32).view(np.int32),
      started=False,
      generator=weights,
      generator_optimizer=optimizer_state,
      generator_loss=0.0,
    )
    return tf.nest.map_structure(tf.convert_to_tensor, state)

  def poison_data(workspace, state, context, data, seed):
    # Here, and not in `attack_round`, for local training may go on from the discriminator.
    keras_state.assign(workspace.discriminator, context.weights)
    ready = attack.may_start(context, state.parameters)
    state = state._replace(started=state.started | ready)
    return tf.cond(
      state.started,
      lambda: attack_round(workspace, state, context, data, seed),
      lambda: (state, data),
    )

  def attack_round(workspace, state, context, data, seed):
    keras_state.assign(workspace.generator, state.generator)
    optimizer_state, loss = train_gan(workspace, state, data, seed)
    state = state._replace(
      generator=keras_state.read(workspace.generator),
      generator_optimizer=optimizer_state,
      generator_loss=loss,
    )
    generated = poison_images(workspace.generator, state)
    return state, attack.append(data, generated)

  @tf.function
  def train_gan(workspace, state, data, seed):
    count = tf.size(data.labels)
    one_pass = tf.maximum(tf.cast(tf.round(count / batch_size), tf.int32), 1)
    # Not `==`: inside a TFF computation it compares tensors by identity.
    steps = tf.where(tf.equal(state.parameters.steps, 0), one_pass, state.parameters.steps)
    optimizer_state = state.generator_optimizer
    loss = 0.0
    for step in tf.range(steps):
      real = _batch(data, step * batch_size, batch_size)
      step_seed = keras_state.fold_in(seed, step)
      optimizer_state, loss = gan_step(
        workspace, state.parameters, optimizer_state, real, step_seed
      )
    return optimizer_state, loss

  def gan_step(workspace, parameters, optimizer_state, real, seed):
    """One step of both networks, their gradients taken at the same weights."""
    noise = tf.random.stateless_normal([batch_size, noise_size], seed)
    generator, discriminator = workspace
    has_class_for_generated = discriminator.output_shape[-1] > num_classes
    with tf.GradientTape(persistent=True) as tape:
      generated = keras_state.call(generator, noise, seed)
      fake_output = discriminator(generated, training=False)
      generator_loss = loss_fn(tf.fill([batch_size], parameters.reconstruct), fake_output)
      generator_loss += parameters.total_variation * generation.mean_total_variation(generated)
      if has_class_for_generated:
        discriminator_loss = loss_fn(tf.fill([batch_size], num_classes), fake_output)
        discriminator_loss += tf.cond(  # A free rider has no images of its own.
          tf.size(real.labels) > 0,
          lambda: loss_fn(real.labels, discriminator(real.images, training=False)),
          lambda: 0.0,
        )
    generator_gradient = tape.gradient(generator_loss, generator.trainable_variables)
    if has_class_for_generated:
      gradients = tape.gradient(discriminator_loss, discriminator.trainable_variables)
      for variable, gradient in zip(discriminator.trainable_variables, gradients, strict=True):
        variable.assign_sub(parameters.discriminator_learning_rate * gradient)
    optimizer_state = keras_state.apply_gradients(
      generator_optimizer, optimizer_state, generator.trainable_variables, generator_gradient
    )
    return optimizer_state, generator_loss

  def poison_images(generator, state):
    """Images from the fixed noise, with their labels."""
    parameters = state.parameters
    count = parameters.poison_images
    noise = tf.random.stateless_normal([count, noise_size], state.seed)
    other = tf.random.stateless_uniform([count], state.seed, maxval=num_classes - 1, dtype=tf.int32)
    other += tf.cast(other >= parameters.reconstruct, tf.int32)
    labels = tf.where(tf.equal(parameters.label, RANDOM_LABELS), other, parameters.label)
    return Images(generator(noise, training=False), labels)

  return attack.ClientAttack(parameters, build, initialize, poison_data, attack.keep_update)


def _batch(data: Images, start: tf.Tensor, size: int) -> Images:
  """`size` of the images from `start` on, in order, round and round; none if there are none."""
  count = tf.size(data.labels)
  indices = (start + tf.range(tf.minimum(size, count))) % tf.maximum(count, 1)
  return Images(tf.gather(data.images, indices), tf.gather(data.labels, indices))
