"""Byzantine-robust aggregation: rules that see each client's update.

A rule is a pure function of the updates as one matrix; one factory gathers them on the
server and tells which clients were kept. An update whose norm is not finite is refused before
any rule sees it.
"""

import collections
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

RuleFn = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(updates `[clients, parameters]`, how many of them may be malicious: int32, the last
aggregate `[parameters]`) -> (aggregate `[parameters]`, bool `[clients]`: who was kept)."""


class Rule(NamedTuple):
  """A robust rule.

  Attributes:
    aggregate: The rule.
    least_clients: Number of malicious clients -> the fewest clients in a round with which its
      guarantee holds.
  """

  aggregate: RuleFn
  least_clients: Callable[[int], int]


def _majority(byzantine: int) -> int:
  return 2 * byzantine + 1


def norm_filter(bound: float) -> Rule:
  """The mean of the updates whose norm is at most `bound`.

  The norm difference clipping of the ADA paper, III.C, which drops what is above
  (https://arxiv.org/abs/1911.07963 clips instead).
  """

  def aggregate(updates, byzantine, last):
    del byzantine, last
    kept = tf.norm(updates, axis=1) <= bound
    return _mean_of(updates, kept), kept

  return Rule(aggregate, lambda byzantine: 1)


def coordinate_median() -> Rule:
  """The median of each parameter (https://arxiv.org/abs/1803.01498)."""

  def aggregate(updates, byzantine, last):
    del byzantine, last
    return _median(updates), _everybody(updates)

  return Rule(aggregate, _majority)


def trimmed_mean() -> Rule:
  """The mean of each parameter without its f lowest and f highest values.

  Source: https://arxiv.org/abs/1803.01498.
  """

  def aggregate(updates, byzantine, last):
    del last
    ordered = tf.sort(updates, axis=0)
    middle = ordered[byzantine : tf.shape(ordered)[0] - byzantine]
    return tf.reduce_mean(middle, axis=0), _everybody(updates)

  return Rule(aggregate, _majority)


def krum(multi: bool = False) -> Rule:
  """The update, or the mean of n - f updates (`multi`), with the lowest scores.

  The score of an update is the sum of its n - f - 2 smallest squared distances to others
  (https://arxiv.org/abs/1703.02757, which leaves open how many `multi` keeps; its guarantee, for
  n >= 2f + 3, is that of the single one).
  """

  def aggregate(updates, byzantine, last):
    del last
    count = tf.shape(updates)[0]
    order = _krum_order(updates, _everybody(updates), byzantine)
    chosen = order[: count - byzantine if multi else 1]
    kept = tf.scatter_nd(chosen[:, tf.newaxis], tf.fill([tf.size(chosen)], True), [count])
    return _mean_of(updates, kept), kept

  return Rule(aggregate, lambda byzantine: 2 * byzantine + 3)


def bulyan() -> Rule:
  """Of n - 2f updates that Krum picks one by one, the mean of the values around each median.

  For each parameter the n - 4f values closest to the median of the picked ones count
  (https://arxiv.org/abs/1802.07927).
  """

  def aggregate(updates, byzantine, last):
    del last
    count = tf.shape(updates)[0]
    remaining = _everybody(updates)
    for _ in tf.range(count - 2 * byzantine):
      picked = _krum_order(updates, remaining, byzantine)[0]
      remaining = tf.tensor_scatter_nd_update(remaining, [[picked]], [False])
    picked = tf.boolean_mask(updates, ~remaining)
    gaps = tf.abs(picked - _median(picked))
    nearest = tf.argsort(gaps, axis=0, stable=True)[: count - 4 * byzantine]
    values = tf.gather(tf.transpose(picked), tf.transpose(nearest), batch_dims=1)
    return tf.reduce_mean(values, axis=1), ~remaining

  return Rule(tf.function(aggregate), lambda byzantine: 4 * byzantine + 3)


def geometric_median(steps: int = 100, smoothing: float = 1e-6) -> Rule:
  """The point with the least sum of distances to the updates, by smoothed Weiszfeld steps.

  Source: https://arxiv.org/abs/1912.13445. It starts at the median of each parameter.

  Args:
    steps: Weiszfeld steps.
    smoothing: Distances below this count as this.
  """

  def aggregate(updates, byzantine, last):
    del byzantine, last
    point = _median(updates)
    for _ in tf.range(steps):
      weights = 1 / tf.maximum(tf.norm(updates - point, axis=1), smoothing)
      weights /= tf.reduce_sum(weights)
      point = tf.linalg.matvec(updates, weights, transpose_a=True)
    return point, _everybody(updates)

  return Rule(tf.function(aggregate), _majority)


def centered_clipping(radius: float, steps: int = 3) -> Rule:
  """Moves the last aggregate by the mean of the clipped differences to it.

  Source: https://arxiv.org/abs/2012.10333, whose guarantee is for clients that send momenta, a
  tenth of them malicious at most. Here they send updates, and all that is asked for is a majority.

  Args:
    radius: Norm to which a difference is clipped.
    steps: Repetitions.
  """

  def aggregate(updates, byzantine, last):
    del byzantine
    for _ in tf.range(steps):
      last += tf.reduce_mean(tf.clip_by_norm(updates - last, radius, axes=[1]), axis=0)
    return last, _everybody(updates)

  return Rule(tf.function(aggregate), _majority)


class RobustFactory(tff.aggregators.UnweightedAggregationFactory):
  """Gathers the clients' updates and aggregates them by a rule.

  Of n updates, r that are not finite are refused. They may be of honest clients that diverged:
  the rule still takes f of the n - r that are left for malicious, or as many as it stands, which
  is at least f - r. The measurements are `kept`, bool
  `[clients]`, `norms`, float32 `[clients]` (not finite for a refused one), and `not_finite`,
  int32. The state is the last aggregate of a round in which any was finite.
  """

  def __init__(self, rule: Rule, byzantine: int):
    """Builds the factory.

    Args:
      rule: How to aggregate.
      byzantine: How many clients of a round may be malicious, f.
    """
    self._rule = rule
    self._byzantine = byzantine

  def create(self, value_type):
    """Returns the aggregation process for updates of a type, a structure of float32."""
    specs = tff.types.type_to_tf_tensor_specs(value_type)
    size = sum(spec.shape.num_elements() for spec in tf.nest.flatten(specs))
    vector, matrix = tff.TensorType(np.float32, [size]), tff.TensorType(np.float32, [None, size])

    @tff.tensorflow.computation
    def zeros():
      return tf.zeros([size])

    @tff.tensorflow.computation
    def no_rows():
      return tf.zeros([0, size])

    @tff.tensorflow.computation(matrix, value_type)
    def append(rows, value):
      row = tf.concat([tf.reshape(part, [-1]) for part in tf.nest.flatten(value)], axis=0)
      return tf.concat([rows, row[tf.newaxis]], axis=0)

    @tff.tensorflow.computation(matrix, matrix)
    def merge(first, second):
      return tf.concat([first, second], axis=0)

    @tff.tensorflow.computation(matrix)
    def identity(rows):
      return rows

    @tff.tensorflow.computation(vector, matrix)
    def combine(last, updates):
      aggregate, kept, finite = apply(self._rule, updates, self._byzantine, last)
      parts = tf.split(aggregate, [spec.shape.num_elements() for spec in tf.nest.flatten(specs)])
      parts = [
        tf.reshape(part, spec.shape)
        for part, spec in zip(parts, tf.nest.flatten(specs), strict=True)
      ]
      measurements = collections.OrderedDict(
        kept=kept,
        norms=tf.norm(updates, axis=1),
        not_finite=tf.reduce_sum(tf.cast(~finite, tf.int32)),
      )
      last = tf.where(tf.reduce_any(finite), aggregate, last)
      return last, tf.nest.pack_sequence_as(specs, parts), measurements

    @tff.federated_computation
    def initialize():
      return tff.federated_eval(zeros, tff.SERVER)

    @tff.federated_computation(
      tff.FederatedType(vector, tff.SERVER), tff.FederatedType(value_type, tff.CLIENTS)
    )
    def next_fn(last, values):
      updates = tff.federated_aggregate(values, no_rows(), append, merge, identity)
      last, result, measurements = tff.federated_map(combine, (last, updates))
      return tff.templates.MeasuredProcessOutput(last, result, measurements)

    return tff.templates.AggregationProcess(initialize, next_fn)


def apply(
  rule: Rule, updates: tf.Tensor, byzantine: int, last: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Applies a rule to the updates of finite norm.

  Args:
    rule: The rule.
    updates: float32 `[clients, parameters]`.
    byzantine: How many of them may be malicious; fewer, if so few are left.
    last: float32 `[parameters]`, the last aggregate.

  Returns:
    The aggregate, float32 `[parameters]`, zero if no norm is finite; who was kept, bool
    `[clients]`; whose norm is finite, bool `[clients]`.
  """
  finite = tf.math.is_finite(tf.norm(updates, axis=1))
  least = tf.constant([rule.least_clients(f) for f in range(1, byzantine + 1)], tf.int32)
  left = tf.reduce_sum(tf.cast(finite, tf.int32))
  stood = tf.reduce_sum(tf.cast(least <= left, tf.int32))
  aggregate, kept = tf.cond(
    tf.reduce_any(finite),
    lambda: rule.aggregate(tf.boolean_mask(updates, finite), stood, last),
    lambda: (tf.zeros_like(last), tf.zeros([0], bool)),
  )
  return aggregate, tf.scatter_nd(tf.where(finite), kept, tf.shape(finite, tf.int64)), finite


def _everybody(updates):
  return tf.fill([tf.shape(updates)[0]], True)


def _mean_of(updates, kept):
  """Mean of the rows that are kept, zero if none is."""
  weights = tf.cast(kept, updates.dtype)
  total = tf.linalg.matvec(updates, weights, transpose_a=True)
  return tf.math.divide_no_nan(total, tf.reduce_sum(weights))


def _median(updates):
  ordered = tf.sort(updates, axis=0)
  count = tf.shape(ordered)[0]
  return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _krum_order(updates, remaining, byzantine):
  """Indices of the remaining updates by Krum's score, of equal ones the shorter update first."""
  indices = tf.where(remaining)[:, 0]
  indices = tf.gather(indices, tf.argsort(tf.norm(tf.gather(updates, indices), axis=1)))
  updates = tf.gather(updates, indices)
  # Differences, not inner products: those lose what small updates differ in.
  distances = tf.map_fn(lambda row: tf.reduce_sum((updates - row) ** 2, axis=1), updates)
  count = tf.shape(updates)[0]
  neighbours = tf.maximum(count - byzantine - 2, 1)
  # The nearest is the update itself, at distance 0.
  scores = tf.reduce_sum(tf.sort(distances, axis=1)[:, 1 : 1 + neighbours], axis=1)
  return tf.gather(indices, tf.argsort(scores, stable=True))
