"""Reconstruction by matching gradients: DLG, iDLG and Inverting Gradients.

Images are sought whose gradient is that of the client.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tff_attacks import generation, keras_state
from tff_attacks.leakage import functional, labels, leakage, search
from tff_attacks.leakage.leakage import Observation, Reconstruction

_TINY = 1e-30
"""Added to squared norms: a tensor may be zero."""


def dlg(model_fn: keras_state.ModelFn, steps: int = 6000) -> leakage.Reconstruct:
  """Deep leakage from gradients: images and labels with the least squared difference.

  Both are found together by L-BFGS. Source: https://arxiv.org/abs/1906.08935, Algorithm 1.

  Args:
    model_fn: Builds the global model.
    steps: Iterations of L-BFGS at most; the source has 300 times 20.
  """

  def reconstruct(observation, seed, watch=search.unwatched):
    model, target = prepare(model_fn, observation)
    count, classes = observation.num_samples, model.output_shape[-1]
    rng = np.random.default_rng(seed)
    start = [
      rng.standard_normal([count, *model.input_shape[1:]]), rng.standard_normal([count, classes])
    ]  # fmt: skip

    def loss_fn(values):
      images, logits = values
      found = functional.gradients(model, images, tf.nn.softmax(logits))
      return squared_difference(found, target)

    (images, logits), losses = search.lbfgs(loss_fn, start, steps, watch)
    return Reconstruction(_in_range(images), logits.argmax(axis=1).astype(np.int32), losses)

  return reconstruct


def idlg(model_fn: keras_state.ModelFn, steps: int = 6000) -> leakage.Reconstruct:
  """DLG of one image with the label that its gradient tells.

  Source: https://arxiv.org/abs/2001.02610.

  Args:
    model_fn: Builds the global model.
    steps: Iterations of L-BFGS at most; the source has 300 times 20.

  Returns:
    The attack. It raises a `ValueError` for several images.
  """

  def reconstruct(observation, seed, watch=search.unwatched):
    model, target = prepare(model_fn, observation)
    label = labels.idlg(model, observation, seed).argmax(keepdims=True)
    start = np.random.default_rng(seed).standard_normal([1, *model.input_shape[1:]])
    soft_labels = tf.one_hot(label, model.output_shape[-1])

    def loss_fn(values):
      return squared_difference(functional.gradients(model, values[0], soft_labels), target)

    (images,), losses = search.lbfgs(loss_fn, [start], steps, watch)
    return Reconstruction(_in_range(images), label.astype(np.int32), losses)

  return reconstruct


def inverting_gradients(
  model_fn: keras_state.ModelFn,
  infer_labels: labels.Infer | None = None,
  steps: int = 24_000,
  learning_rate: float = 0.1,
  total_variation: float = 1e-4,
  unroll: bool = True,
  box: bool = True,
  largest: int = 0,
  alike: bool = False,
  mean: float | np.ndarray = 0.0,
  std: float | np.ndarray = 1.0,
) -> leakage.Reconstruct:
  """Inverting Gradients: images with the same direction of the gradient, and smooth.

  Source: https://arxiv.org/abs/2003.14053.

  Args:
    model_fn: Builds the global model.
    infer_labels: A method of `labels`; None is the source's way: `labels.idlg` for one image, of
      several the labels are looked for together with them.
    steps: Of Adam; as many as in the source's script.
    learning_rate: Of Adam at first, see `search.three_drops`; images are moved by the signs of
      their gradients.
    total_variation: Weight of the smoothness prior, that of the source's script; its notebooks have
      1e-6 (small networks, untrained ones) to 0.1 (trained ResNets).
    unroll: Whether the client's local steps are simulated, with its images in an order that is
      a guess; if not, the mean gradient is taken for that of one batch.
    box: Whether images stay within [-1, 1]; if not, those that are found may leave it, too.
    largest: Compares only so many tensors of the gradient, those with the largest norms; 0 is all.
    alike: Whether each tensor's direction counts alike; if not, that of all entries together.
    mean: What is sought is (image - mean) / std: noise to start from, steps and smoothness are of
      that size. A number, or float32 `[channels]`; the source takes those of the training set.
    std: The same.

  Returns:
    The attack. It raises an `UnusableError` for a client whose update is not finite, or whose
    labels cannot be inferred.
  """
  distance = mean_cosine_distance if alike else cosine_distance

  def shown(values):
    return values[0] * std + mean

  @functools.cache
  def build(num_samples, batch_size, epochs, local_rate):
    """The model, and the search for clients of this shape."""
    model = keras_state.build(model_fn)
    several = unroll and -(-num_samples // batch_size) * epochs > 1

    def loss_fn(values, given):
      target, weights, inferred = given
      images = shown(values)
      soft_labels = (
        tf.nn.softmax(values[1])
        if len(values) > 1
        else tf.one_hot(inferred, model.output_shape[-1])
      )
      if several:
        epoch = functional.batches(images, soft_labels, batch_size)
        found = functional.simulate(model, epoch * epochs, local_rate)
      else:
        found = functional.gradients(model, images, soft_labels)
      smoothness = generation.mean_total_variation(values[0])
      return distance(found, target, weights) + total_variation * smoothness

    adam = tf.keras.optimizers.legacy.Adam(search.three_drops(learning_rate, steps))
    within = ((-1 - mean) / std, (1 - mean) / std) if box else None
    return model, search.Descent(loss_fn, adam, signed=True, box=within)

  def reconstruct(observation, seed, watch=search.unwatched):
    target = [part.astype(np.float32) for part in leakage.mean_gradient(observation)]
    count = observation.num_samples
    model, descent = build(
      count, observation.batch_size, observation.epochs, observation.learning_rate
    )
    classes = model.output_shape[-1]
    rng = np.random.default_rng(seed)
    start = [rng.standard_normal([count, *model.input_shape[1:]])]
    inferred = np.full(count, leakage.UNKNOWN, np.int32)
    infer = labels.idlg if infer_labels is None and count == 1 else infer_labels
    if infer is None:
      start.append(rng.standard_normal([count, classes]))
    else:
      inferred = labels.in_no_order(infer(model, observation, seed), rng)
    keras_state.assign(model, observation.weights)
    given = tf.nest.map_structure(tf.constant, (target, _weights(target, largest), inferred))
    values, losses = descent(start, steps, given, watch, shown)
    found_labels = values[1].argmax(axis=1) if len(values) > 1 else inferred
    return Reconstruction(shown(values), found_labels.astype(np.int32), losses)

  return reconstruct


def squared_difference(gradients: list[Any], target: list[Any]) -> tf.Tensor:
  """Sum of the squared differences of all entries."""
  pairs = zip(gradients, target, strict=True)
  return tf.add_n([tf.reduce_sum((g - t) ** 2) for g, t in pairs])


def cosine_distance(
  gradients: list[Any], target: list[Any], weights: Any | None = None
) -> tf.Tensor:
  """1 - the cosine of the angle between all entries of both, taken as two vectors.

  Args:
    gradients: Tensors.
    target: Of the same shapes.
    weights: float32 `[tensors]`, 0 for those that do not count, or else 1; None counts all.
  """
  product, squares, target_squares = _products(gradients, target, weights)
  norms = [tf.sqrt(tf.reduce_sum(part) + _TINY) for part in (squares, target_squares)]
  return 1 - tf.reduce_sum(product) / (norms[0] * norms[1])


def mean_cosine_distance(
  gradients: list[Any], target: list[Any], weights: Any | None = None
) -> tf.Tensor:
  """Mean over the tensors of their cosine distances, see `cosine_distance`."""
  product, squares, target_squares = _products(gradients, target, weights)
  cosines = product / (tf.sqrt(squares + _TINY) * tf.sqrt(target_squares + _TINY))
  counted = tf.ones_like(product) if weights is None else weights
  return 1 - tf.reduce_sum(cosines) / tf.reduce_sum(counted)


def _products(
  gradients: list[Any], target: list[Any], weights: Any | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """By tensor, weighted: the inner product of both, and of each with itself."""
  pairs = [(gradients, target), (gradients, gradients), (target, target)]
  found = [tf.stack([tf.reduce_sum(g * t) for g, t in zip(*pair, strict=True)]) for pair in pairs]
  return tuple(found if weights is None else [weights * part for part in found])


def _weights(target: list[np.ndarray], count: int) -> np.ndarray:
  """1 for so many tensors with the largest norms, or for all if 0; or else 0."""
  norms = np.array([np.linalg.norm(part) for part in target])
  least = np.sort(norms)[-count] if 0 < count < norms.size else 0
  return (norms >= least).astype(np.float32)


def _in_range(images: np.ndarray) -> np.ndarray:
  return np.clip(images, -1, 1).astype(np.float32)


def prepare(
  model_fn: keras_state.ModelFn, observation: Observation
) -> tuple[tf.keras.Model, list[tf.Tensor]]:
  """The global model, and the client's mean gradient by its trainable weights."""
  model = keras_state.build(model_fn, observation.weights)
  target = [tf.constant(part, tf.float32) for part in leakage.mean_gradient(observation)]
  return model, target
