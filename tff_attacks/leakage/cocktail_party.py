"""Cocktail party attack (CPA): images told apart as speakers are in a room.

The gradient of a fully connected first layer holds mixtures of the client's images, one for
each unit. Independent component analysis takes them apart. Source:
https://arxiv.org/abs/2209.05578, and Eqs. 21 to 23 of "Privacy attack in federated learning is
not easy".
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_attacks import generation, keras_state
from tff_attacks.leakage import leakage, search
from tff_attacks.leakage.leakage import Reconstruction

_RANK = 1e-5
"""Below this share of the largest standard deviation there is only rounding."""
_TEMPERATURE = 12.4
"""Of the similarity between images, see `similarity`; the source's."""


def cocktail_party(
  model_fn: keras_state.ModelFn,
  steps: int = 25_000,
  learning_rate: float = 1e-3,
  decorrelation: float = 1.47,
  total_variation: float = 3.1,
  negentropy: float = 1.0,
) -> leakage.Reconstruct:
  """Builds CPA on a model that begins with a fully connected layer.

  Args:
    model_fn: Builds the global model.
    steps: Of Adam.
    learning_rate: Of Adam.
    decorrelation: Weight of what keeps two images from being the same.
    total_variation: Weight of the smoothness prior.
    negentropy: See `separate`.

  Returns:
    The attack. Brightness, contrast and sign of an image are not known: each is scaled to
    [-1, 1] and may be a negative, its label is unknown. It raises a `ValueError` for fewer
    units, or pixels, of the first layer than the client has images.

  Raises:
    ValueError: If the model begins otherwise.
  """
  model = model_fn()
  image_shape = model.input_shape[1:]
  if not leakage.reads_pixels(model):
    raise ValueError("model: the cocktail party attack needs a fully connected first layer")

  def smoothness(sources):
    images = tf.reshape(sources, [-1, *image_shape])
    return total_variation * generation.mean_total_variation(images)

  def reconstruct(observation, seed, watch=search.unwatched):
    del seed  # It starts from the whitened mixtures themselves.
    kernel = leakage.mean_gradient(observation)[0]
    count = observation.num_samples

    def images_of(sources):
      return _scaled(sources).reshape(count, *image_shape)

    sources, losses = separate(
      kernel.T, count, smoothness, decorrelation, _TEMPERATURE, negentropy, steps, learning_rate,
      watch, show=images_of,
    )  # fmt: skip
    labels = np.full(count, leakage.UNKNOWN, np.int32)
    return Reconstruction(images_of(sources), labels, losses)

  return reconstruct


def separate(
  mixtures: np.ndarray,
  count: int,
  prior: Callable[[tf.Tensor], tf.Tensor],
  decorrelation: float,
  temperature: float,
  negentropy: float,
  steps: int,
  learning_rate: float,
  watch: search.Watch,
  show: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
  """Independent component analysis with a prior: the most sub-Gaussian sources.

  Args:
    mixtures: float `[units, size]`.
    count: Number of sources.
    prior: Sources `[count, size]` -> what they cost.
    decorrelation: Weight of the similarity between sources.
    temperature: See `similarity`.
    negentropy: Weight of the square of the mean log cosh, which is the larger the less a source
      peaks (the text of `Privacy attack in federated learning is not easy` has the mean of the
      log of cosh squared). The source's code computes it and then sets it to 0.
    steps: Of Adam.
    learning_rate: Of Adam.
    watch: See `search.Watch`.
    show: Sources -> images to be watched.

  Returns:
    Sources, float32 `[count, size]`, each of unknown sign and scale, and the losses.

  Raises:
    ValueError: If there are fewer mixtures, or they are shorter, than there are sources.
  """
  units, size = mixtures.shape
  if min(units, size) < count:
    raise ValueError(
      f"model: {units} units of {size} features of the first fully connected layer cannot tell "
      f"{count} images apart"
    )
  mixtures = mixtures.astype(np.float64)
  whitened = whitening_matrix(mixtures, count) @ mixtures
  means = tf.constant(whitened.mean(axis=1, keepdims=True), tf.float32)
  centred = tf.constant(whitened, tf.float32) - means

  def rows(matrix):
    return tf.math.l2_normalize(tf.cast(matrix, tf.float32), axis=1)

  def unmix(matrix):
    return rows(matrix) @ (centred + means)

  def loss_fn(values):
    (matrix,) = values
    contrast = tf.reduce_mean(tf.reduce_mean(_log_cosh(rows(matrix) @ centred), axis=1) ** 2)
    loss = decorrelation * similarity(matrix, temperature) + prior(unmix(matrix))
    return loss - negentropy * contrast

  (matrix,), losses = search.descend(
    loss_fn,
    [np.eye(count)],
    steps,
    tf.keras.optimizers.legacy.Adam(learning_rate),
    watch=watch,
    show=lambda values: show(unmix(values[0]).numpy()),
  )
  return unmix(matrix).numpy(), losses


def whitening_matrix(mixtures: np.ndarray, count: int) -> np.ndarray:
  """Makes combinations of mixtures that are uncorrelated and have variance 1.

  Args:
    mixtures: float `[units, size]`.
    count: How many combinations, those with the most variance; at most `units` and `size`.

  Returns:
    float `[count, units]`. Where the mixtures have fewer dimensions than asked for, variances
    stay below 1.
  """
  centred = mixtures - mixtures.mean(axis=1, keepdims=True)
  vectors, values, _ = np.linalg.svd(centred / np.sqrt(mixtures.shape[1]), full_matrices=False)
  values = np.maximum(values[:count], _RANK * values[0])
  return (vectors[:, :count] / values).T


def similarity(matrix: tf.Tensor, temperature: float) -> tf.Tensor:
  """How alike rows are: mean of exp(temperature |cosine|) - 1, with 0 on the diagonal."""
  rows = tf.math.l2_normalize(matrix, axis=1)
  cosines = tf.abs(rows @ tf.transpose(rows))
  cosines = tf.linalg.set_diag(cosines, tf.zeros_like(cosines[0]))
  return tf.reduce_mean(tf.exp(temperature * cosines) - 1)


def _scaled(sources: np.ndarray) -> np.ndarray:
  lowest, highest = sources.min(axis=1, keepdims=True), sources.max(axis=1, keepdims=True)
  return 2 * (sources - lowest) / np.maximum(highest - lowest, 1e-12) - 1


def _log_cosh(x):
  """Without overflow."""
  x = tf.abs(x)
  return x + tf.math.softplus(-2 * x) - np.log(2.0)
