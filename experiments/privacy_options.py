"""Differential privacy of an experiment: the options, and the guarantee they stand for."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.options import ConfigError, option

_LEAST_NOISE = 1e-6
"""Of less epsilon has no finite number."""


@dataclasses.dataclass
class PrivacyOptions:
  """Options of an experiment whose clients may train with differential privacy."""

  privacy: str = option(
    "none",
    "Differential privacy: none; DP-SGD at every client, clipping each record's gradient "
    "(records) or that of microbatches, as in the published code (microbatches); or clipped "
    "updates with noise on their mean, at the server (clients).",
    choices=("none", "microbatches", "records", "clients"),
  )
  l2_norm_clip: float = option(
    1.5, "Largest norm of a record's or microbatch's gradient, or of an update.", above=0
  )
  noise_multiplier: float | None = option(
    None, "Standard deviation of the noise over l2_norm_clip; 0 clips only.",
    at_least=0, at_most=1e3,
  )  # fmt: skip
  target_epsilon: float | None = option(
    None, "In the place of noise_multiplier: the least noise with this epsilon at the end.", above=0
  )
  adversary_noise: bool = option(
    True,
    "Whether adversaries add the noise of records or microbatches, too, as in the published code; "
    "without it they only clip.",
  )
  delta: float = option(1e-5, "Of (epsilon, delta); below 1 / records.", above=0)
  accounting: str = option(
    "shuffled",
    "What target_epsilon assumes: each record once per epoch, which holds (shuffled), or Poisson "
    "sampling, which is not done (poisson).",
    choices=("shuffled", "poisson"),
  )
  microbatches: int = option(1, "Of privacy=microbatches; divides batch_size.", at_least=1)
  clipping: str = option(
    "fixed",
    "Of privacy=clients; adaptive starts from l2_norm_clip and follows the median norm.",
    choices=("fixed", "adaptive"),
  )


class Privacy(NamedTuple):
  """What a run's privacy is, see `of`.

  Attributes:
    kind: As the option `privacy`.
    mechanisms: `accounting.Mechanism`s, one for each size of a client.
    records: How many each client has that has any.
    delta: At which epsilon is given.
    void: Why there is no guarantee at all; None if there is one.
  """

  kind: str
  mechanisms: Sequence[Any]
  records: Sequence[int]
  delta: float
  void: str | None

  @property
  def mechanism(self) -> Any:
    """One of them; they differ in the number of records alone."""
    return self.mechanisms[0]

  def epsilon(self, rounds: int) -> dict[str, float]:
    """Epsilon after so many rounds, in each reading that there is."""
    from tff_attacks.privacy import accounting

    if self.void:
      return {}
    values = {"epsilon": accounting.epsilon(self.mechanism, rounds, self.delta)}
    if self.kind != "clients":
      values["epsilon_poisson"] = max(self._poisson(m, rounds) for m in self.mechanisms)
    return values

  def _poisson(self, mechanism: Any, rounds: int) -> float:
    from tff_attacks.privacy import accounting

    return accounting.epsilon(mechanism, rounds, self.delta, accounting.POISSON)

  def verdict(self, rounds: int) -> str:
    """How much that protects, in a sentence."""
    from tff_attacks.privacy import accounting

    if self.void:
      return accounting.no_guarantee(self.void)
    unit = "client" if self.kind == "clients" else "record"
    return accounting.verdict(self.epsilon(rounds)["epsilon"], unit)

  def statement(self, rounds: int) -> str:
    """What is guaranteed after so many rounds, in words."""
    from tff_attacks.privacy import accounting

    if self.void:
      return accounting.no_guarantee(self.void)
    if self.kind == "clients":
      return accounting.client_statement(self.mechanism, rounds, self.delta)
    worst = max(self.mechanisms, key=lambda m: self._poisson(m, rounds))
    return accounting.record_statement(worst, rounds, self.delta, self.records)


def check(config: Any) -> None:
  """Checks what can be checked without data.

  Raises:
    ConfigError: If options contradict each other.
  """
  noise = (config.noise_multiplier, config.target_epsilon)
  if config.privacy == "none":
    if noise != (None, None):
      raise ConfigError(
        "noise_multiplier, target_epsilon: only with privacy=records, microbatches or clients"
      )
  elif sum(value is not None for value in noise) != 1:
    raise ConfigError("noise_multiplier: give it or target_epsilon, and one of them only")
  if config.noise_multiplier and config.noise_multiplier < _LEAST_NOISE:
    raise ConfigError(
      f"noise_multiplier: {config.noise_multiplier:g} is not allowed; allowed: 0, or from "
      f"{_LEAST_NOISE:g}"
    )
  if config.privacy == "microbatches" and config.batch_size % config.microbatches:
    raise ConfigError(
      f"microbatches: {config.microbatches} does not divide batch_size, {config.batch_size}"
    )
  if config.privacy != "microbatches" and config.microbatches > 1:
    raise ConfigError("microbatches: only with privacy=microbatches")
  if config.privacy != "clients" and config.clipping == "adaptive":
    raise ConfigError("clipping: adaptive only with privacy=clients")
  if config.privacy == "clients" and config.aggregator != "mean":
    raise ConfigError("aggregator: must be mean with privacy=clients, which bounds each client")
  if not config.adversary_noise and config.privacy not in ("records", "microbatches"):
    raise ConfigError("adversary_noise: only with privacy=records or microbatches")
  if config.accounting == "poisson":
    if config.target_epsilon is None:
      raise ConfigError("accounting: poisson is for target_epsilon; both values are always given")
    if config.privacy == "clients":
      raise ConfigError("accounting: poisson is for records; all clients take part in each round")
  if config.privacy != "none":
    _check_delta(config, config.num_clients if config.privacy == "clients" else 1)


def of(config: Any, records: Sequence[int]) -> Privacy:
  """The privacy of a run.

  Args:
    config: With `PrivacyOptions`, and the options of local training.
    records: How many each client has that has any.

  Raises:
    ConfigError: If delta is too large for so few records, or `target_epsilon` out of reach.
  """
  from tff_attacks.privacy import accounting

  at_clients = config.privacy != "clients"
  mechanisms = [
    accounting.Mechanism(
      noise_multiplier=config.noise_multiplier or 0.0,
      epochs=config.local_epochs if at_clients else 1,
      records=size,
      batch_size=config.batch_size if at_clients else config.num_clients,
      microbatch_size=_microbatch_size(config),
    )
    for size in (sorted(set(records)) if at_clients else [config.num_clients])
  ]
  if config.privacy != "none":
    _check_delta(config, mechanisms[-1].records)
  if config.target_epsilon is not None:
    goal = (config.rounds, config.delta, config.target_epsilon, config.accounting)
    try:
      noise = max(accounting.noise_multiplier(m, *goal) for m in mechanisms)
    except ValueError as error:
      raise ConfigError(f"target_epsilon: {error}") from error
    mechanisms = [m._replace(noise_multiplier=noise) for m in mechanisms]
  void = _void(config, mechanisms[0])
  return Privacy(config.privacy, mechanisms, records, config.delta, void)


def _microbatch_size(config: Any) -> int:
  return config.batch_size // config.microbatches if config.privacy == "microbatches" else 1


def _void(config: Any, mechanism: Any) -> str | None:
  if config.privacy == "none":
    return "none was asked for"
  if mechanism.noise_multiplier == 0:
    return "gradients or updates are clipped, but get no noise"
  if config.warm_up_epochs:
    return "warm_up_epochs trains on images of the clients' data set without noise"
  if config.attack in ("real", "other_class"):
    return f"with attack={config.attack} adversaries inject images that honest clients may hold"
  return None


def _check_delta(config: Any, records: int) -> None:
  if config.delta >= 1 / records:
    raise ConfigError(f"delta: {config.delta:g} is not allowed; allowed: below 1 / {records}")
