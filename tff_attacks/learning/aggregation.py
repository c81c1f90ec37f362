"""How the server combines the clients' updates: TFF aggregation factories by name."""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff


class _NonemptyMeanFactory(tff.aggregators.WeightedAggregationFactory):
  """The plain mean over the clients that had any sample to train on."""

  def create(self, value_type, weight_type):
    inner = tff.aggregators.MeanFactory().create(value_type, weight_type)
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


AGGREGATORS: dict[str, Callable[[], tff.aggregators.AggregationFactory]] = {
  "mean": tff.aggregators.UnweightedMeanFactory,
  "nonempty_mean": _NonemptyMeanFactory,
  "examples_weighted_mean": tff.aggregators.MeanFactory,
}
"""`mean` counts every client alike, as the CRPA study does, `nonempty_mean` leaves out those
without samples; weighting by examples lets an adversary buy influence with injected ones."""


def build_aggregator(name: str) -> tff.aggregators.WeightedAggregationFactory:
  """Returns the aggregation factory of that name, in weighted form.

  Raises:
    ValueError: If the name is unknown.
  """
  if name not in AGGREGATORS:
    raise ValueError(f"aggregator: unknown {name!r}; allowed: {', '.join(AGGREGATORS)}")
  factory = AGGREGATORS[name]()
  if isinstance(factory, tff.aggregators.UnweightedAggregationFactory):
    factory = tff.aggregators.as_weighted_aggregator(factory)
  return factory
