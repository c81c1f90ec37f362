"""How the server combines the clients' updates: TFF aggregation factories by name."""

from collections.abc import Callable

import tensorflow_federated as tff

AGGREGATORS: dict[str, Callable[[], tff.aggregators.AggregationFactory]] = {
  "mean": tff.aggregators.UnweightedMeanFactory,
  "examples_weighted_mean": tff.aggregators.MeanFactory,
}
"""`mean` counts every client alike, as the CRPA study does; weighting by examples lets
an adversary buy influence with injected samples."""


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
