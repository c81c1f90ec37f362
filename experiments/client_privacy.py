"""What the server's noise is worth where a round takes a sample of the clients."""

import collections
from typing import NamedTuple

from experiments.semi_targeted_config import SemiTargetedConfig
from tff_attacks.learning import aggregator_names
from tff_attacks.privacy import accounting
from tff_attacks.simulation import loop


class ClientPrivacy(NamedTuple):
  """Differential privacy of clients, without any amplification by sampling.

  Attributes:
    mechanism: The server's; None if it adds no noise.
    sample: Round -> the clients that take part.
    before: How many rounds there were before the attack.
    first: Number of the attack's first round.
    delta: At which epsilon is given.
    void: Why there is no guarantee; empty if there is one.
  """

  mechanism: accounting.Mechanism | None
  sample: loop.Sample
  before: int
  first: int
  delta: float
  void: str

  def epsilon(self, rounds: int) -> dict[str, float]:
    """Epsilon after so many rounds of attack; nothing if there is none."""
    if self.mechanism is None or self.void:
      return {}
    return {"epsilon": accounting.epsilon(self.mechanism, self._most(rounds), self.delta)}

  def statement(self, rounds: int) -> str:
    """What is guaranteed after so many rounds of attack, in words; empty without noise."""
    if self.mechanism is None:
      return ""
    if self.void:
      return accounting.no_guarantee(self.void)
    return accounting.client_statement(
      self.mechanism, self._most(rounds), self.delta, of=self.before + rounds
    )

  def _most(self, rounds: int) -> int:
    """How often the client took part that did so most often."""
    numbers = (*range(self.before), *range(self.first, self.first + rounds))
    drawn = collections.Counter(client for number in numbers for client in self.sample(number))
    return max(drawn.values(), default=0)


def of(config: SemiTargetedConfig, sample: loop.Sample, before: int, first: int) -> ClientPrivacy:
  """The privacy of a run, see `ClientPrivacy`."""
  mechanism = accounting.Mechanism(
    noise_multiplier=config.noise_multiplier,
    epochs=1,
    records=config.num_clients,
    batch_size=config.num_clients,
  )
  noisy = config.aggregator in aggregator_names.NOISY
  void = ""
  if config.start_from is not None:
    void = "the weights that it starts from may be of a training without noise"
  elif config.attack != "none" and not config.honest_sources:
    void = "compromised clients get images of the sources that honest clients may hold"
  return ClientPrivacy(mechanism if noisy else None, sample, before, first, config.delta, void)
