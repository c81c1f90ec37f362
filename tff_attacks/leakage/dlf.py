"""Data leakage in federated averaging (DLF): local training is simulated as it was.

In which order a client takes its images is not known, and differs from epoch to epoch. So each
epoch has its own copies of all images, which a prior that knows no order holds together. Source:
https://arxiv.org/abs/2206.12395, and Eqs. 8 and 9 of "Privacy attack in federated learning is not
easy" for the labels.
"""

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.leakage import functional, gradient_matching, labels, leakage, search
from tff_attacks.leakage.leakage import Reconstruction
from tff_attacks.metrics import leakage as metrics

_FILTERS = 96


def dlf(
  model_fn: keras_state.ModelFn,
  infer_labels: labels.Infer = labels.dimitrov,
  steps: int = 400,
  learning_rate: float = 0.1,
  difference: float = 2.0,
  total_variation: float = 2e-4,
  clipping: float = 10.0,
  order_invariance: float = 6.075,
  copies: bool = True,
) -> leakage.Reconstruct:
  """Builds DLF.

  Args:
    model_fn: Builds the global model.
    infer_labels: A method of `labels`.
    steps: Of Adam.
    learning_rate: Of Adam.
    difference: Weight of that between the simulated update and the client's; the source lowers it
      from 4 to 2 in the first half of the search.
    total_variation: Weight of the smoothness prior, see `roughness`.
    clipping: Weight of what keeps pixels in [-1, 1]: the squared excess of an image, in [0, 1].
    order_invariance: Weight of the prior that holds the epochs' images together.
    copies: Whether each epoch has its own images; if not, all share them.

  Returns:
    The attack. It reconstructs all images of the client.
  """

  def reconstruct(observation, seed, watch=search.unwatched):
    model, target = gradient_matching.prepare(model_fn, observation)
    count, classes = observation.num_samples, model.output_shape[-1]
    rng = np.random.default_rng(seed)
    counts = infer_labels(keras_state.build(model_fn), observation, seed)
    inferred = labels.in_no_order(counts, rng)
    soft_labels = tf.one_hot(inferred, classes)
    epochs = observation.epochs if copies else 1
    start = rng.standard_normal([epochs, count, *model.input_shape[1:]])
    layer_weights = _layer_weights(model)
    kernel = embedding(model.input_shape[-1], rng)

    def loss_fn(values):
      (images,) = values
      batches = [
        batch
        for epoch in range(epochs)
        for batch in functional.batches(images[epoch], soft_labels, observation.batch_size)
      ]
      sought = len(batches)
      batches *= observation.epochs // epochs
      found = functional.simulate(model, batches, observation.learning_rate)
      pairs = zip(layer_weights, found, target, strict=True)
      distance = tf.add_n([w * tf.reduce_sum((f - t) ** 2) for w, f, t in pairs])
      # The published loss compares sums over the steps, hence the square, per batch that is sought.
      loss = difference * distance * len(batches) ** 2 / sought
      flat = tf.reshape(images, [-1, *images.shape[2:]])
      outside = (images - tf.clip_by_value(images, -1, 1)) / 2
      loss += total_variation * roughness(flat)
      loss += clipping * tf.reduce_sum(outside**2) / flat.shape[0]
      if epochs > 1:
        loss += order_invariance * order_distance(images, kernel)
      return loss

    def show(values):
      return merge(np.clip(values[0], -1, 1), inferred).astype(np.float32)

    adam = tf.keras.optimizers.legacy.Adam(learning_rate)
    values, losses = search.descend(loss_fn, [start], steps, adam, watch=watch, show=show)
    return Reconstruction(show(values), inferred, losses)

  return reconstruct


def _layer_weights(model: tf.keras.Model) -> list[float]:
  """For each trainable weight e^-l, l the position of its layer."""
  layers = [layer for layer in model._flatten_layers(include_self=False) if layer.trainable_weights]
  position = {id(v): i for i, layer in enumerate(layers) for v in layer.trainable_weights}
  return [float(np.exp(-position[id(v)])) for v in model.trainable_variables]


def roughness(images: tf.Tensor) -> tf.Tensor:
  """Sum of the squared differences between an image's neighbouring pixels, mean of the images."""
  rows = images[:, 1:] - images[:, :-1]
  columns = images[:, :, 1:] - images[:, :, :-1]
  return (tf.reduce_sum(rows**2) + tf.reduce_sum(columns**2)) / images.shape[0]


def embedding(channels: int, rng: np.random.Generator) -> tf.Tensor:
  """The kernel of a random convolution, its outputs about as large as its inputs."""
  kernel = rng.standard_normal([3, 3, channels, _FILTERS]) * (9 * channels) ** -0.5
  return tf.constant(kernel, tf.float32)


def order_distance(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
  """Mean squared difference between two epochs of the largest features over their images."""
  epochs, count = images.shape[:2]
  features = tf.nn.conv2d(tf.reshape(images, [-1, *images.shape[2:]]), kernel, 1, "SAME")
  largest = tf.reduce_max(tf.reshape(features, [epochs, count, *features.shape[1:]]), axis=1)
  return tf.reduce_mean((largest[:, tf.newaxis] - largest) ** 2)


def merge(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Means over the epochs' copies, each assigned to the nearest of its class in the first one.

  Args:
    images: float `[epochs, n, height, width, channels]` in [-1, 1].
    labels: int `[n]`, those of every epoch.
  """
  merged = images[0].copy()
  for epoch in images[1:]:
    for label in np.unique(labels):
      own = np.flatnonzero(labels == label)
      order = metrics.match(epoch[own], images[0][own]).order
      merged[own[order]] += epoch[own]
  return merged / len(images)
