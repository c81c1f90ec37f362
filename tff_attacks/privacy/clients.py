"""Client-level differential privacy: the server clips updates and adds noise to their mean.

TFF's `DifferentiallyPrivateFactory`, its noise drawn from a seed in the aggregator's state.
"""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff
import tree
from tensorflow_privacy.privacy.dp_query import dp_query, gaussian_query

from tff_attacks import keras_state
from tff_attacks.privacy import noise


def fixed_clipping(
  l2_norm_clip: float, noise_multiplier: float, clients_per_round: int
) -> tff.aggregators.UnweightedAggregationFactory:
  """The mean of clipped updates with noise (https://arxiv.org/abs/1710.06963).

  Args:
    l2_norm_clip: Largest norm of a client's update.
    noise_multiplier: Standard deviation of the noise of the sum, over `l2_norm_clip`.
    clients_per_round: What the sum is divided by.
  """
  return _seeded(
    tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
      noise_multiplier, clients_per_round, l2_norm_clip
    )
  )


def adaptive_clipping(
  l2_norm_clip: float, noise_multiplier: float, clients_per_round: int
) -> tff.aggregators.UnweightedAggregationFactory:
  """The same with a clipping norm that follows the median of the updates' norms.

  A part of the privacy that `noise_multiplier` stands for is spent on the estimate of the
  median (https://arxiv.org/abs/1905.03871).

  Args:
    l2_norm_clip: The norm to start from.
    noise_multiplier: Of both together.
    clients_per_round: What the sum is divided by.
  """
  # TFF's default, 0.05 x clients, leaves few clients no choice but little noise.
  count_stddev = max(0.05 * clients_per_round, noise_multiplier) if noise_multiplier else 0.0
  return _seeded(
    tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
      noise_multiplier, clients_per_round, l2_norm_clip, clipped_count_stddev=count_stddev
    )
  )


def seed_state(state: Any, seed: tf.Tensor) -> Any:
  """Puts a seed into the state of an aggregator, wherever one of ours is in it.

  Args:
    state: Of any aggregator.
    seed: int32 `[2]`.
  """
  return tree.traverse(lambda s: s._replace(seed=seed) if isinstance(s, _State) else None, state)


class _State(NamedTuple):
  """A seed for the next noise, and the query's own state."""

  seed: Any
  query: Any


class _SeededQuery(dp_query.SumAggregationDPQuery):
  """A query whose Gaussian sums draw their noise from the state's seed."""

  def __init__(self, query: dp_query.SumAggregationDPQuery):
    self._query = query
    self._sums = _seed_sums(query)

  def initial_global_state(self):
    return _State(tf.zeros([2], tf.int32), self._query.initial_global_state())

  def derive_sample_params(self, global_state):
    return self._query.derive_sample_params(global_state.query)

  def initial_sample_state(self, template=None):
    return self._query.initial_sample_state(template)

  def preprocess_record(self, params, record):
    return self._query.preprocess_record(params, record)

  def get_noised_result(self, sample_state, global_state):
    for i, gaussian in enumerate(self._sums):
      gaussian.seed = keras_state.fold_in(global_state.seed, i)
    result, query_state, event = self._query.get_noised_result(sample_state, global_state.query)
    next_seed = keras_state.fold_in(global_state.seed, len(self._sums))
    return result, _State(next_seed, query_state), event

  def derive_metrics(self, global_state):
    return self._query.derive_metrics(global_state.query)


def _seeded(
  factory: tff.aggregators.DifferentiallyPrivateFactory,
) -> tff.aggregators.DifferentiallyPrivateFactory:
  return tff.aggregators.DifferentiallyPrivateFactory(_SeededQuery(factory._query))


def _seed_sums(query: dp_query.DPQuery) -> list[noise.SeededSumQuery]:
  """Replaces the Gaussian sums in a query by seeded ones, and returns those."""
  sums = []
  for name, part in vars(query).items():
    if type(part) is gaussian_query.GaussianSumQuery:
      seeded = noise.SeededSumQuery(part._l2_norm_clip, part._stddev)
      setattr(query, name, seeded)
      sums.append(seeded)
    elif isinstance(part, dp_query.DPQuery):
      sums += _seed_sums(part)
  return sums
