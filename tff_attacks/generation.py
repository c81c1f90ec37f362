"""What attacks that generate images share."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import keras_state
from tff_attacks.keras_state import ModelWeights


def initial_generator(
  generator_fn: keras_state.ModelFn,
  optimizer: tff.learning.optimizers.Optimizer,
  learning_rate: float,
  seed: int,
) -> tuple[ModelWeights, Any]:
  """Initial weights of an adversary's generator and its optimizer's state, both eager.

  Args:
    generator_fn: Returns the Keras generator.
    optimizer: Trains it; its learning rate is replaced.
    learning_rate: The one in force.
    seed: Seeds the weights.
  """
  weights = keras_state.initial_weights(generator_fn, seed)
  state = optimizer.initialize(keras_state.specs(weights.trainable))
  return weights, optimizer.set_hparams(state, {"learning_rate": learning_rate})


def mean_total_variation(images: tf.Tensor) -> tf.Tensor:
  """What a smoothness prior weighs: absolute differences of neighbouring pixels, over all values.

  Those below and those beside a pixel are added up, so that it is about twice their mean.
  """
  pixels = tf.cast(tf.reduce_prod(tf.shape(images)), tf.float32)
  return tf.reduce_sum(tf.image.total_variation(images)) / pixels


def generate(generator: tf.keras.Model, weights: ModelWeights, noise: tf.Tensor) -> np.ndarray:
  """The images that an adversary's generator makes of noise.

  Args:
    generator: Gets the weights.
    weights: As an adversary's state keeps them, each with a first axis of 1.
    noise: float `[n, noise size]`.

  Returns:
    float `[n, height, width, channels]`.
  """
  keras_state.assign(generator, tf.nest.map_structure(lambda slot: slot[0], weights))
  return generator(noise, training=False).numpy()
