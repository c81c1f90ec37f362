"""CPA with feature inversion: the cocktail party attack on a convolutional network.

Its first fully connected layer holds mixtures of features. They are told apart, and for each
an image with such features is sought. Source: https://arxiv.org/abs/2209.05578, and Eq. 24 of
"Privacy attack in federated learning is not easy".
"""

import numpy as np
import tensorflow as tf

from tff_attacks import generation, keras_state
from tff_attacks.leakage import cocktail_party, leakage, search
from tff_attacks.leakage.leakage import Reconstruction

_TEMPERATURE = 7.7
"""Of the similarity between features, see `cocktail_party.similarity`; the source's."""


def feature_inversion(
  model_fn: keras_state.ModelFn,
  steps: int = 25_000,
  learning_rate: float = 1e-3,
  decorrelation: float = 5.3,
  sparseness: float = 5.0,
  one_sign: float = 0.13,
  inversion_steps: int = 25_000,
  inversion_learning_rate: float = 0.1,
  total_variation: float = 0.1,
  negentropy: float = 1.0,
) -> leakage.Reconstruct:
  """Builds CPA on the features of a model.

  Args:
    model_fn: Builds the global model.
    steps: Of Adam, to tell the features apart.
    learning_rate: Of this Adam.
    decorrelation: Weight of what keeps two features from being the same.
    sparseness: Weight of the features' mean absolute value.
    one_sign: Weight of the smaller norm of their positive and their negative entries.
    inversion_steps: Of Adam, to find the images.
    inversion_learning_rate: Of this Adam; in the source it falls to 0 as a cosine.
    total_variation: Weight of the images' smoothness prior.
    negentropy: See `cocktail_party.separate`.

  Returns:
    The attack. Labels are unknown. It raises a `ValueError` for fewer units of the model's first
    fully connected layer than the client has images.

  Raises:
    ValueError: If the model has no such layer.
  """
  first_dense(model_fn())

  def prior(features):
    norms = [_norm(tf.nn.relu(sign * features)) for sign in (1, -1)]
    return sparseness * tf.reduce_mean(tf.abs(features)) + one_sign * tf.reduce_mean(
      tf.minimum(*norms)
    )

  def reconstruct(observation, seed, watch=search.unwatched):
    model = keras_state.build(model_fn, observation.weights)
    dense = first_dense(model)
    index = [variable is dense.kernel for variable in model.trainable_variables].index(True)
    kernel, count = leakage.mean_gradient(observation)[index], observation.num_samples
    start = np.random.default_rng(seed).standard_normal([count, *model.input_shape[1:]])
    nothing = np.clip(start, -1, 1).astype(np.float32)  # While there are only features.
    features, losses = cocktail_party.separate(
      kernel.T, count, prior, decorrelation, _TEMPERATURE, negentropy, steps, learning_rate, watch,
      show=lambda _: nothing,
    )  # fmt: skip
    features_of = tf.keras.Model(model.inputs, dense.input)
    wanted = tf.math.l2_normalize(tf.abs(features), axis=1)

    def loss_fn(values):
      (images,) = values
      found = tf.math.l2_normalize(features_of(images, training=False), axis=1)
      cosines = tf.reduce_sum(found * wanted, axis=1)
      smoothness = generation.mean_total_variation(images)
      return 1 - tf.reduce_mean(cosines) + total_variation * smoothness

    adam = tf.keras.optimizers.legacy.Adam(inversion_learning_rate)
    (images,), more = search.descend(
      loss_fn, [start], inversion_steps, adam, box=(-1.0, 1.0),
      watch=lambda step, loss, images: watch(steps + step, loss, images),
    )  # fmt: skip
    labels = np.full(count, leakage.UNKNOWN, np.int32)
    return Reconstruction(images, labels, np.concatenate([losses, more]))

  return reconstruct


def first_dense(model: tf.keras.Model) -> tf.keras.layers.Dense:
  """The layer that holds mixtures of features, or of pixels.

  Raises:
    ValueError: If there is none.
  """
  found = [
    layer
    for layer in model.layers
    if isinstance(layer, tf.keras.layers.Dense) and len(layer.input_shape) == 2
  ]
  if not found:
    raise ValueError("model: feature inversion needs a fully connected layer of features")
  return found[0]


def _norm(rows: tf.Tensor) -> tf.Tensor:
  """With a gradient at 0, too."""
  return tf.sqrt(tf.reduce_sum(rows**2, axis=1) + 1e-12)
