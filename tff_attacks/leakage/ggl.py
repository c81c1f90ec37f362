"""Generative gradient leakage (GGL): a trained generator's noise whose image has that gradient.

What the generator cannot make is not found, and what it makes looks like an image whatever the
gradient says. Source: https://arxiv.org/abs/2203.15696.
"""

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.leakage import functional, gradient_matching, labels, leakage, search
from tff_attacks.leakage.leakage import Reconstruction


def ggl(
  model_fn: keras_state.ModelFn,
  generator: tf.keras.Model,
  evaluations: int = 25_000,
  divergence: float = 0.1,
) -> leakage.Reconstruct:
  """Builds GGL with CMA-ES; TuRBO, the source's other choice of a search, is not here.

  Args:
    model_fn: Builds the global model.
    generator: From noise `[n, d]` to images in [-1, 1], trained on images that are no client's;
      see `wgan`.
    evaluations: Gradients that are tried at most.
    divergence: Weight of the Kullback-Leibler divergence between the noise, its entries taken
      for draws of one Gaussian, and the standard Gaussian.

  Returns:
    The attack. It raises a `ValueError` for several images.

  Raises:
    ValueError: If there are too few evaluations for such a generator.
  """
  search.check_evaluations(evaluations, generator.input_shape[-1])

  def reconstruct(observation, seed, watch=search.unwatched):
    model, target = gradient_matching.prepare(model_fn, observation)
    label = labels.idlg(keras_state.build(model_fn), observation, seed).argmax(keepdims=True)
    soft_labels = tf.one_hot(label, model.output_shape[-1])

    def distance(image):
      found = functional.gradients(model, image[tf.newaxis], soft_labels)
      return gradient_matching.squared_difference(found, target) / len(target)

    def loss_fn(noise):
      images = generator(noise, training=False)
      distances = tf.map_fn(distance, images)
      variance = tf.math.reduce_variance(noise, axis=1) + 1e-10
      mean = tf.reduce_mean(noise, axis=1)
      return distances + divergence * 0.5 * (mean**2 + variance - 1 - tf.math.log(variance))

    def show(values):
      return generator(tf.constant(values[0][np.newaxis], tf.float32), training=False).numpy()

    start = np.zeros(generator.input_shape[-1])
    values, losses = search.evolve(loss_fn, start, evaluations, seed, watch, show)
    return Reconstruction(show(values), label.astype(np.int32), losses)

  return reconstruct
