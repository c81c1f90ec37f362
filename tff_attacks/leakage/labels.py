"""Label inference: how many images of each class a client has, told by its last layer's update.

Each method is a function (model, observation, seed) -> int `[C]`, counts that sum to the number
of the client's images. The model's weights are overwritten. The methods differ in how they
estimate the outputs of the network, which the gradients of the last layer hold together with
the labels (for mean cross-entropy over K images, softmax outputs p, features a and one-hot
labels y):

    kernel: sum over i of a_i (p_i - y_i)^T / K        bias: sum over i of (p_i - y_i) / K

A client that took several steps is observed through its mean gradient; a smaller last batch counts
in it as much as a full one, and its images more. Source: Privacy attack in
federated learning is not easy, II.A, and the papers that it names.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import leakage
from tff_attacks.leakage.leakage import Observation, UnusableError

Infer = Callable[[tf.keras.Model, Observation, int], np.ndarray]
"""(model, observation, seed) -> counts, int `[C]`."""

_DUMMIES = 256
_DRAWS = 1000
_POINTS = 11
_REPEATS = 5
_BATCH = 256
"""Images at a time: the features of all that a server has might not fit in memory."""


class _Head(NamedTuple):
  """Mean gradients of the last layer: kernel `[features, C]` and bias `[C]`."""

  kernel: np.ndarray
  bias: np.ndarray


def idlg(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """The class whose kernel gradient sums to the least, for one image and features >= 0.

  Source: https://arxiv.org/abs/2001.02610; Eq. 5.

  Raises:
    ValueError: If there are several images.
  """
  del seed
  if observation.num_samples > 1:
    raise ValueError(f"idlg: tells the label of one image, not of {observation.num_samples}")
  sums = _head(model, observation).kernel.sum(axis=0)
  return np.eye(sums.size, dtype=np.int32)[sums.argmin()]


def yin(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """The K classes with the least entries in their kernel gradients, each taken once.

  Source: https://arxiv.org/abs/2104.07586, which assumes that no label is there twice.

  Raises:
    ValueError: If there are more images than classes.
  """
  del seed
  least = _head(model, observation).kernel.min(axis=0)
  if observation.num_samples > least.size:
    raise ValueError(
      f"yin: takes each of {least.size} classes once, there are {observation.num_samples} images"
    )
  counts = np.zeros(least.size, np.int32)
  counts[np.argsort(least)[: observation.num_samples]] = 1
  return counts


def zsaa(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """Counts from outputs and features that noise images have at the global weights (Eq. 7).

  Source: https://arxiv.org/abs/2110.09074.
  """
  outputs, features = _dummy_means(model, observation.weights, seed)
  sums = _head(model, observation).kernel.sum(axis=0)
  return to_counts(
    _estimated_counts(outputs, features, sums, observation.num_samples), observation.num_samples
  )


def dimitrov(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """As `zsaa`, with both interpolated from the global to the client's weights (Eqs. 8, 9).

  The gradients of the steps are not known apart: each step is given the mean one, as in the
  published code (Eq. 9 has the sum).

  Source: https://arxiv.org/abs/2206.12395.
  """
  if leakage.num_steps(observation) == 1:
    return zsaa(model, observation, seed)
  start = _dummy_means(model, observation.weights, seed)
  end = _dummy_means(model, _client_weights(observation), seed)
  sums = _head(model, observation).kernel.sum(axis=0)
  counts = []
  for share in _shares(observation):
    means = ((1 - share) * first + share * last for first, last in zip(start, end, strict=True))
    outputs, features = means
    counts.append(_estimated_counts(outputs, features, sums, observation.num_samples))
  return to_counts(np.mean(counts, axis=0), observation.num_samples)


def irlg(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """Counts from the outputs that each class's mean features would have (Eqs. 10 to 12).

  The mean features of a class are its kernel gradient over its bias gradient, which holds where
  its own images outweigh the others.

  Source: https://openreview.net/forum?id=FIrQfNSOoTr.
  """
  del seed
  head = _head(model, observation)
  kernel, bias = (np.asarray(part) for part in observation.weights.trainable[-2:])
  features = np.divide(head.kernel, head.bias, out=np.zeros_like(head.kernel), where=head.bias != 0)
  outputs = tf.nn.softmax(_finite(features.T @ kernel + bias)).numpy()
  return _solve(outputs, head.bias, observation.num_samples)


def rlu(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """Counts from the outputs that the server's own images of each class have (Eqs. 13 to 18).

  Their logits are taken for Gaussian. Of a client that took several steps the server has them at
  both ends, and takes them to go from one to the other on a straight line, as fast as the bias's
  expected gradient is large (Eq. 18): the mean over the steps has most of where they move little.
  Eq. 15 is solved without its constraint, the solution then projected to counts.

  Source: https://arxiv.org/abs/2405.00955. (The off-diagonal of the paper's H is transposed.)

  Raises:
    ValueError: If the server has no image of some class.
  """
  bias = _head(model, observation).bias
  first = _logits(model, observation.weights, observation)
  if leakage.num_steps(observation) == 1:
    return _solve(_expected_outputs(first, seed), bias, observation.num_samples)
  last = _logits(model, _client_weights(observation), observation)
  between = ((1 - x) * first + x * last for x in np.linspace(0, 1, _POINTS))
  outputs = np.stack([_expected_outputs(moments, seed) for moments in between])
  times = np.full(_POINTS, 1 / _POINTS)
  for _ in range(_REPEATS):  # The gradient depends on the counts.
    counts = _solve(np.tensordot(times, outputs, 1), bias, observation.num_samples)
    shares = counts / observation.num_samples
    speeds = np.linalg.norm(shares @ outputs - shares, axis=1)
    times = 1 / np.maximum(speeds, 1e-3)
    times /= times.sum()
  return counts


def given(model: tf.keras.Model, observation: Observation, seed: int) -> np.ndarray:
  """No inference: the counts of the labels that the server knows, for ablations.

  Raises:
    ValueError: If it knows none.
  """
  del seed
  if observation.labels is None:
    raise ValueError("given: the observation has no labels")
  return np.bincount(observation.labels, minlength=model.output_shape[-1])


METHODS: dict[str, Infer] = {
  "idlg": idlg,
  "yin": yin,
  "zsaa": zsaa,
  "dimitrov": dimitrov,
  "given": given,
  "irlg": irlg,
  "rlu": rlu,
}


def to_counts(estimates: np.ndarray, total: int) -> np.ndarray:
  """The counts of a sum that are nearest to estimates.

  Projects to the simplex, then rounds by largest remainders.

  Args:
    estimates: float `[C]`, of any sum and sign.
    total: The sum of the counts.

  Returns:
    int32 `[C]`.

  Raises:
    UnusableError: If an estimate is not finite.
  """
  if not np.isfinite(estimates).all():
    raise UnusableError("labels: the estimates of the counts are not finite")
  estimates = estimates - estimates.max()  # The same counts, with less rounding.
  ordered = np.sort(estimates)[::-1]
  excess = (np.cumsum(ordered) - total) / np.arange(1, ordered.size + 1)
  shares = np.maximum(estimates - excess[ordered > excess][-1], 0)
  counts = np.floor(shares).astype(np.int32)
  left = total - counts.sum()
  counts[np.argsort(counts - shares, kind="stable")[:left]] += 1
  return counts


def in_no_order(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Labels with these counts, shuffled: a client that shuffles has batches of several classes.

  Args:
    counts: int `[C]`.
    rng: Source of randomness.

  Returns:
    int32 `[sum of counts]`.
  """
  return rng.permutation(np.repeat(np.arange(counts.size, dtype=np.int32), counts))


def _head(model: tf.keras.Model, observation: Observation) -> _Head:
  keras_state.last_layer(model)
  return _Head(*leakage.mean_gradient(observation)[-2:])


def _client_weights(observation: Observation) -> ModelWeights:
  return tf.nest.map_structure(np.add, observation.weights, observation.update)


def _shares(observation: Observation) -> np.ndarray:
  """How far the client's weights had come when it took each step, from 0 to 1."""
  steps = leakage.num_steps(observation)
  return np.arange(steps) / steps


def _dummy_means(
  model: tf.keras.Model, weights: ModelWeights, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Mean outputs `[C]` and mean sum of features over images of noise."""
  noise = tf.random.stateless_normal([_DUMMIES, *model.input_shape[1:]], [seed, 0])
  features, logits = _forward(model, weights, noise)
  return tf.nn.softmax(logits).numpy().mean(axis=0), features.sum(axis=1).mean()


def _estimated_counts(
  outputs: np.ndarray, features: np.ndarray, sums: np.ndarray, count: int
) -> np.ndarray:
  return count * (outputs - sums / features)


def _logits(model: tf.keras.Model, weights: ModelWeights, observation: Observation) -> np.ndarray:
  """For each class the mean of the logits of the server's images, and their covariances below.

  `[C, 1 + C, C]`.
  """
  images, labels = observation.auxiliary or Images(np.array([]), np.array([]))
  classes = range(model.output_shape[-1])
  for label in classes:
    if label not in labels:
      raise ValueError(f"rlu: the server has no image of class {label} of its own")
  _, logits = _forward(model, weights, images)
  moments = []
  for label in classes:
    own = logits[np.asarray(labels) == label]
    mean = own.mean(axis=0)
    moments.append([mean, *(own - mean).T @ (own - mean) / len(own)])
  return np.array(moments)


def _expected_outputs(moments: np.ndarray, seed: int) -> np.ndarray:
  """Row c: mean outputs of images of class c, their logits drawn from Gaussians."""
  rng = np.random.default_rng(seed)
  drawn = [rng.multivariate_normal(m[0], m[1:], _DRAWS, method="eigh") for m in moments]
  return tf.nn.softmax(drawn).numpy().mean(axis=1)


def _forward(
  model: tf.keras.Model, weights: ModelWeights, images: np.ndarray | tf.Tensor
) -> tuple[np.ndarray, np.ndarray]:
  """Features of the last hidden layer, and logits."""
  keras_state.assign(model, weights)
  kernel, bias = (np.asarray(part) for part in weights.trainable[-2:])
  hidden = tf.keras.Model(model.inputs, keras_state.last_layer(model).input)
  parts = range(0, len(images), _BATCH)
  features = np.concatenate([hidden(images[i : i + _BATCH], training=False) for i in parts])
  return features, _finite(features @ kernel + bias)


def _finite(outputs: np.ndarray) -> np.ndarray:
  """The same, or `UnusableError`: weights of a client that diverged may be finite, if huge."""
  if not np.isfinite(outputs).all():
    raise UnusableError("labels: the outputs of the model are not finite")
  return outputs


def _solve(outputs: np.ndarray, bias: np.ndarray, count: int) -> np.ndarray:
  """Counts n with (outputs^T - I) n / K = bias gradient and sum K, in the least squares sense."""
  size = bias.size
  # The system lacks one rank: each column sums to 0. The last row is the sum of the shares.
  matrix = np.concatenate([outputs.T - np.eye(size), np.ones([1, size])])
  shares, *_ = np.linalg.lstsq(matrix, np.append(bias, 1.0), rcond=None)
  return to_counts(count * shares, count)
