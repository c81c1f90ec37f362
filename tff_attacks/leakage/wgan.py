"""Training of a generator on the server's own images: Wasserstein GAN with gradient penalty.

Source: https://arxiv.org/abs/1704.00028, with the settings of GGL.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.simulation import checkpoints

_PENALTY = 10.0
BATCH_SIZE = 64
"""Images in a step, and so the fewest that can be trained on."""
_CRITIC_STEPS = 5
_BETA_1 = 0.5


def train(
  generator: tf.keras.Model,
  critic: tf.keras.Model,
  images: np.ndarray,
  steps: int,
  seed: int,
  learning_rate: float = 1e-4,
  folder: str | None = None,
  checkpoint_every: int = 100,
  watch: Callable[[int, float], None] = lambda step, distance: None,
) -> None:
  """Trains both networks in place.

  Args:
    generator: From noise `[n, d]` to images in [-1, 1].
    critic: From images to numbers `[n, 1]`.
    images: float32 `[m, height, width, channels]` in [-1, 1].
    steps: Of the generator; the critic takes 5 before each, on 64 images.
    seed: Of noise and batches.
    learning_rate: Of Adam, for both.
    folder: Of checkpoints, from which an interrupted training goes on; None keeps none.
    checkpoint_every: Steps between two of them.
    watch: (step, the critic's estimate of the Wasserstein distance), called after every step.

  Raises:
    ValueError: If there are fewer images than a batch has.
    UnreadableError: If the checkpoint cannot be read.
  """
  if len(images) < BATCH_SIZE:
    raise ValueError(f"A generator needs {BATCH_SIZE} images to be trained on, not {len(images)}.")
  adams = [tf.keras.optimizers.legacy.Adam(learning_rate, _BETA_1, 0.999) for _ in range(2)]
  of_generator, of_critic = adams
  images = tf.constant(images)

  def generate(seed):
    noise = tf.random.stateless_normal([BATCH_SIZE, generator.input_shape[-1]], seed)
    return generator(noise, training=True)

  @tf.function
  def step_critic(seed):
    draw, noise, mix = (keras_state.fold_in(seed, i) for i in range(3))
    chosen = tf.random.stateless_uniform([BATCH_SIZE], draw, maxval=len(images), dtype=tf.int32)
    real, false = tf.gather(images, chosen), generate(noise)
    shares = tf.random.stateless_uniform([BATCH_SIZE, 1, 1, 1], mix)
    with tf.GradientTape() as tape:
      distance = tf.reduce_mean(critic(real)) - tf.reduce_mean(critic(false))
      loss = _PENALTY * _penalty(critic, shares * real + (1 - shares) * false) - distance
    gradients = tape.gradient(loss, critic.trainable_variables)
    of_critic.apply_gradients(zip(gradients, critic.trainable_variables, strict=True))
    return distance

  @tf.function
  def step_generator(seed):
    with tf.GradientTape() as tape:
      loss = -tf.reduce_mean(critic(generate(seed)))
    gradients = tape.gradient(loss, generator.trainable_variables)
    of_generator.apply_gradients(zip(gradients, generator.trainable_variables, strict=True))

  done = tf.Variable(0)
  checkpoint = tf.train.Checkpoint(
    generator=generator, critic=critic, of_generator=of_generator, of_critic=of_critic, done=done
  )
  manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1) if folder else None
  if manager:
    checkpoints.restore_variables(manager)

  for step in range(int(done), steps):
    seeds = [keras_state.fold_in(tf.constant([seed, step]), i) for i in range(_CRITIC_STEPS + 1)]
    for one in seeds[:-1]:
      distance = step_critic(one)
    step_generator(seeds[-1])
    done.assign(step + 1)
    if manager and (step + 1) % checkpoint_every == 0:
      manager.save()
    watch(step + 1, float(distance))


def _penalty(critic, images):
  """Mean squared distance of the gradient's norm from 1."""
  with tf.GradientTape() as tape:
    tape.watch(images)
    values = critic(images)
  norms = tf.norm(tf.reshape(tape.gradient(values, images), [len(images), -1]), axis=1)
  return tf.reduce_mean((norms - 1) ** 2)
