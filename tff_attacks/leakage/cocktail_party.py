"""Cocktail party attack (CPA): images told apart as speakers are in a room.

The gradient of a fully connected first layer holds mixtures of the client's images, one for
each unit. Independent component analysis takes them apart. Source:
https://arxiv.org/abs/2209.05578, and Eqs. 21 to 23 of "Privacy attack in federated learning is
not easy".
"""

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.attacks import attack
from tff_attacks.leakage import leakage, search
from tff_attacks.leakage.leakage import Reconstruction

_TEMPERATURE = 12.4
_RANK = 1e-10
"""Below this share of the largest variance there is only rounding."""


def cocktail_party(
  model_fn: keras_state.ModelFn,
  steps: int = 25_000,
  learning_rate: float = 1e-3,
  decorrelation: float = 1.47,
  total_variation: float = 3.1,
) -> leakage.Reconstruct:
  """Builds CPA on a model that begins with a fully connected layer.

  Args:
    model_fn: Builds the global model.
    steps: Of Adam.
    learning_rate: Of Adam.
    decorrelation: Weight of what keeps two images from being the same.
    total_variation: Weight of the smoothness prior.

  Returns:
    The attack. Brightness, contrast and sign of an image are not known: each is scaled to
    [-1, 1] and may be a negative, its label is unknown. It raises a `ValueError` for a model
    that begins otherwise, or has fewer units there than the client has images.
  """
  image_shape = model_fn().input_shape[1:]

  def reconstruct(observation, seed, watch=search.unwatched):
    del seed  # It starts from the whitened mixtures themselves.
    kernel = leakage.mean_gradient(observation)[0]
    count = observation.num_samples
    if kernel.ndim != 2 or kernel.shape[0] != np.prod(image_shape):
      raise ValueError("model: the cocktail party attack needs a fully connected first layer")
    if kernel.shape[1] < count:
      raise ValueError(
        f"model: {kernel.shape[1]} units of the first layer cannot tell {count} images apart"
      )
    mixed = kernel.T.astype(np.float64)
    whitening = whitening_matrix(mixed, count)
    centred = mixed - mixed.mean(axis=1, keepdims=True)
    mixtures = tf.constant(whitening @ centred, tf.float32)

    def unmix(matrix):
      return tf.math.l2_normalize(matrix, axis=1) @ mixtures

    def loss_fn(values):
      sources = unmix(values[0])
      negentropy = tf.reduce_mean(tf.reduce_mean(_log_cosh(sources), axis=1) ** 2)
      images = tf.reshape(sources, [count, *image_shape])
      return (
        decorrelation * similarity(values[0])
        + total_variation * attack.mean_total_variation(images)
        - negentropy
      )

    (matrix,), losses = search.adam(
      loss_fn, [np.eye(count)], steps, learning_rate, [False], watch=watch
    )
    images = unmix(tf.constant(matrix, tf.float32)).numpy()
    lowest, highest = images.min(axis=1, keepdims=True), images.max(axis=1, keepdims=True)
    images = 2 * (images - lowest) / (highest - lowest) - 1
    labels = np.full(count, leakage.UNKNOWN, np.int32)
    return Reconstruction(images.reshape(count, *image_shape), labels, losses)

  return reconstruct


def whitening_matrix(mixtures: np.ndarray, count: int) -> np.ndarray:
  """Makes combinations of mixtures that are uncorrelated and have variance 1.

  Args:
    mixtures: float `[units, pixels]`.
    count: How many combinations, those with the most variance.

  Returns:
    float `[count, units]`. Where the mixtures have fewer dimensions than asked for, variances
    stay below 1.
  """
  values, vectors = np.linalg.eigh(np.cov(mixtures, bias=True))
  values = np.maximum(values[-count:], _RANK * values[-1])
  return (vectors[:, -count:] / np.sqrt(values)).T


def similarity(matrix: tf.Tensor) -> tf.Tensor:
  """How alike the rows of a matrix are: mean of exp(12.4 |cosine|) - 1, on the diagonal 0."""
  rows = tf.math.l2_normalize(matrix, axis=1)
  cosines = tf.abs(rows @ tf.transpose(rows))
  cosines = tf.linalg.set_diag(cosines, tf.zeros_like(cosines[0]))
  return tf.reduce_mean(tf.exp(_TEMPERATURE * cosines) - 1)


def _log_cosh(x):
  """Without overflow."""
  x = tf.abs(x)
  return x + tf.math.softplus(-2 * x) - np.log(2.0)
