"""How the server combines the clients' updates: TFF aggregation factories by name."""

import collections
import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.learning import robust
from tff_attacks.learning.aggregator_names import BOUNDED, MEANS, NAMES
from tff_attacks.privacy import clients


class _NonemptyMeanFactory(tff.aggregators.WeightedAggregationFactory):
  """The plain mean over the clients that had any sample to train on."""

  def create(self, value_type, weight_type):
    inner = tff.aggregators.MeanFactory(no_nan_division=True).create(value_type, weight_type)
    weight_at_clients = tff.FederatedType(weight_type, tff.CLIENTS)

    @tff.tensorflow.computation(weight_type)
    def has_any(weight):
      return tf.cast(weight > 0, weight.dtype)

    @tff.federated_computation(
      inner.next.type_signature.parameter[0],
      inner.next.type_signature.parameter[1],
      weight_at_clients,
    )
    def next_fn(state, value, weight):
      return inner.next(state, value, tff.federated_map(has_any, weight))

    return tff.templates.AggregationProcess(inner.initialize, next_fn)


class _RefusingFactory(tff.aggregators.WeightedAggregationFactory):
  """Sets updates whose norm is not finite to zero, and their weights, and counts them.

  The measurements are `not_finite`, int32, and the inner factory's as `inner`.
  """

  def __init__(self, inner: tff.aggregators.WeightedAggregationFactory):
    self._inner = inner

  def create(self, value_type, weight_type):
    """Returns the aggregation process for updates and weights of these types."""
    inner = self._inner.create(value_type, weight_type)

    @tff.tensorflow.computation(value_type, weight_type)
    def refuse(value, weight):
      finite = tf.math.is_finite(tf.linalg.global_norm(tf.nest.flatten(value)))
      value = tf.nest.map_structure(lambda v: tf.where(finite, v, tf.zeros_like(v)), value)
      return value, tf.where(finite, weight, tf.zeros_like(weight)), tf.cast(~finite, tf.int32)

    @tff.federated_computation(
      inner.initialize.type_signature.result,
      tff.FederatedType(value_type, tff.CLIENTS),
      tff.FederatedType(weight_type, tff.CLIENTS),
    )
    def next_fn(state, value, weight):
      value, weight, refused = tff.federated_map(refuse, (value, weight))
      output = inner.next(state, value, weight)
      measurements = tff.federated_zip(
        collections.OrderedDict(not_finite=tff.federated_sum(refused), inner=output.measurements)
      )
      return tff.templates.MeasuredProcessOutput(output.state, output.result, measurements)

    return tff.templates.AggregationProcess(inner.initialize, next_fn)


class Assumptions(NamedTuple):
  """What a server assumes of its clients.

  Attributes:
    clients_per_round: Clients that take part in a round.
    byzantine: How many of them may be malicious.
    norm_bound: Norm above which an update is dropped or clipped, or from which an adaptive norm
      starts; the radius of centred clipping.
    noise_multiplier: Of `dp`: standard deviation of the noise over the norm bound; of
      `adaptive_dp`: see `clients.adaptive_clipping`.
  """

  clients_per_round: int
  byzantine: int = 0
  norm_bound: float = math.inf
  noise_multiplier: float = 0.0


RULES: dict[str, Callable[[Assumptions], robust.Rule]] = {
  "norm_filter": lambda server: robust.norm_filter(server.norm_bound),
  "coordinate_median": lambda server: robust.coordinate_median(),
  "trimmed_mean": lambda server: robust.trimmed_mean(),
  "krum": lambda server: robust.krum(),
  "multi_krum": lambda server: robust.krum(multi=True),
  "bulyan": lambda server: robust.bulyan(),
  "geometric_median": lambda server: robust.geometric_median(),
  "centered_clipping": lambda server: robust.centered_clipping(server.norm_bound),
}
"""Rules that see each update, see `robust`."""

AGGREGATORS: dict[str, Callable[[Assumptions], tff.aggregators.AggregationFactory]] = {
  "mean": lambda server: tff.aggregators.UnweightedMeanFactory(),
  "nonempty_mean": lambda server: _NonemptyMeanFactory(),
  "examples_weighted_mean": lambda server: tff.aggregators.MeanFactory(no_nan_division=True),
  "norm_clipping": lambda server: _clipped_mean(server.norm_bound),
  "adaptive_norm_clipping": lambda server: _clipped_mean(_median_norm(server.norm_bound)),
  "dp": lambda server: clients.fixed_clipping(
    server.norm_bound, server.noise_multiplier, server.clients_per_round
  ),
  "adaptive_dp": lambda server: clients.adaptive_clipping(
    server.norm_bound, server.noise_multiplier, server.clients_per_round
  ),
}
"""`mean` counts every client alike, as the CRPA study does, `nonempty_mean` leaves out those
without samples; weighting by examples lets an adversary buy influence with injected ones.
`adaptive_norm_clipping` clips to an estimate of the median norm of the last rounds."""

_ASSUME_NOTHING = (*MEANS, "coordinate_median", "geometric_median")


def build_aggregator(
  name: str, server: Assumptions | None = None
) -> tff.aggregators.WeightedAggregationFactory:
  """Returns the aggregation factory of that name, in weighted form.

  Args:
    name: One of `aggregator_names.NAMES`.
    server: What it assumes, and that an update whose norm is not finite is refused: a rule does
      not see it, elsewhere it is zero: without weight if samples count, with a full share (and
      a vote on the norm that `adaptive_norm_clipping` and `adaptive_dp` follow) if clients do. If
      not given, it assumes nothing, which the means and medians can do; the means then refuse
      nothing.

  Raises:
    ValueError: If the name is unknown, if it needs what the server does not say, or if the
      guarantee of a robust rule would not hold.
  """
  if name not in NAMES:
    raise ValueError(f"aggregator: unknown {name!r}; allowed: {', '.join(NAMES)}")
  refuses = server is not None
  if not refuses and name not in _ASSUME_NOTHING:
    raise ValueError(
      f"aggregator: {name} needs to know what the server assumes of its clients, give "
      "server=Assumptions(clients_per_round=..., byzantine=...)"
    )
  server = server or Assumptions(clients_per_round=1)
  if name in BOUNDED and math.isinf(server.norm_bound):
    raise ValueError(f"norm_bound: aggregator={name} needs one")
  server = server._replace(  # TFF's factories take no integers.
    norm_bound=float(server.norm_bound), noise_multiplier=float(server.noise_multiplier)
  )
  if name in RULES:
    rule = RULES[name](server)
    least = rule.least_clients(server.byzantine)
    if server.clients_per_round < least:
      raise ValueError(
        f"aggregator: {name} needs {least} clients in a round if {server.byzantine} may be "
        f"malicious, there are {server.clients_per_round}"
      )
    return tff.aggregators.as_weighted_aggregator(robust.RobustFactory(rule, server.byzantine))
  factory = AGGREGATORS[name](server)
  if isinstance(factory, tff.aggregators.UnweightedAggregationFactory):
    factory = tff.aggregators.as_weighted_aggregator(factory)
  return _RefusingFactory(factory) if refuses else factory


def _clipped_mean(norm):
  return tff.aggregators.clipping_factory(norm, tff.aggregators.UnweightedMeanFactory())


def _median_norm(initial_norm: float) -> tff.aggregators.PrivateQuantileEstimationProcess:
  return tff.aggregators.PrivateQuantileEstimationProcess.no_noise(
    initial_norm, target_quantile=0.5, learning_rate=0.2
  )
