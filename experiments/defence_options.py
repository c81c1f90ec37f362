"""How the server combines updates: options of an experiment whose server may defend itself."""

import dataclasses
import math
from typing import Any

from experiments.options import ConfigError, option
from tff_attacks.learning.aggregator_names import BOUNDED, NAMES, NOISY


@dataclasses.dataclass
class DefenceOptions:
  """Options of the server; see `tff_attacks.learning.aggregation`."""

  aggregator: str = option(
    "mean",
    "How the server combines updates; nonempty_mean leaves out clients without samples. With noise "
    "it is privacy=clients.",
    choices=[name for name in NAMES if name not in NOISY],
  )
  byzantine: int = option(
    1, "How many clients of a round the server assumes to be malicious.", at_least=0
  )
  norm_bound: float | None = option(
    None,
    "Norm of an update above which norm_filter drops it and norm_clipping (dp) clips it; the one "
    "that adaptive_norm_clipping (adaptive_dp) starts from; the radius of centered_clipping. "
    "Those need one: metrics.csv of a run without attack says how long honest updates are.",
    above=0,
  )


def check(config: Any, clients_per_round: int) -> None:
  """Checks what can be checked without importing TensorFlow.

  Raises:
    ConfigError: If options contradict each other.
  """
  if config.byzantine > clients_per_round:
    raise ConfigError(f"byzantine: only {clients_per_round} clients take part in a round")
  if config.aggregator in BOUNDED and config.norm_bound is None:
    raise ConfigError(f"norm_bound: aggregator={config.aggregator} needs one")
  if config.norm_bound is not None and config.aggregator not in BOUNDED:
    raise ConfigError(f"norm_bound: aggregator={config.aggregator} has none, leave it out")


def assumptions(config: Any, clients_per_round: int) -> Any:
  """What the server of a run, or of a sweep, assumes of its clients: `aggregation.Assumptions`."""
  from tff_attacks.learning import aggregation  # TensorFlow takes seconds to import.

  bound = config.norm_bound or math.inf
  noise = config.noise_multiplier or 0.0
  return aggregation.Assumptions(clients_per_round, config.byzantine, bound, noise)
