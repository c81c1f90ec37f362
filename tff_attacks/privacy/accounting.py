"""What noise is worth: epsilon and delta, and what they mean, in words.

Two readings of DP-SGD. Batches are taken here from data that is shuffled in each epoch, so
each record is used once per epoch: what follows from that alone is `SHUFFLED`, and holds.
`POISSON` assumes that each batch holds each record independently, with probability
batch size / records: no batch here is drawn like that. Neighbours differ in one record,
whose gradients are zero in one of them; how many records there are is public.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import dp_accounting
from tensorflow_privacy.privacy.analysis import compute_dp_sgd_privacy_lib

SHUFFLED, POISSON = "shuffled", "poisson"

# Beyond, the Poisson divergences round to less than nothing.
_NOISE = (0.01, 1e3)


class Mechanism(NamedTuple):
  """What one client, or the server, does in a round.

  Attributes:
    noise_multiplier: Standard deviation of the noise over the clipping norm.
    epochs: How often a round uses each record; 1 for `clients`.
    records: Records of the client; clients for `clients`.
    batch_size: Records in a batch; all of them for `clients`.
    microbatch_size: Records whose gradients are averaged before they are clipped. Above 1
      a record may change a sum by twice the clipping norm: the mean of its microbatch
      may turn from one clipped gradient to its opposite.
  """

  noise_multiplier: float
  epochs: int
  records: int
  batch_size: int
  microbatch_size: int = 1


def epsilon(mechanism: Mechanism, rounds: int, delta: float, sampling: str = SHUFFLED) -> float:
  """The epsilon at `delta` after so many rounds in which the client takes part.

  An upper bound, by Renyi accounting as in TF Privacy. It tries no order below 1.1 and is loose
  where it is large (of the study's setting 7,468 `SHUFFLED`, where it is 7,215, and 19,121
  `POISSON`, where it is 7,386 at most).

  Args:
    mechanism: What is done in each round.
    rounds: How often.
    delta: Of (epsilon, delta)-differential privacy.
    sampling: `SHUFFLED` or `POISSON`.
  """
  if mechanism.noise_multiplier == 0:
    return math.inf
  accountant = dp_accounting.rdp.RdpAccountant()
  return float(accountant.compose(_event(mechanism, rounds, sampling)).get_epsilon(delta))


def noise_multiplier(
  mechanism: Mechanism, rounds: int, delta: float, target_epsilon: float, sampling: str = SHUFFLED
) -> float:
  """The least noise multiplier whose `epsilon`, an upper bound, is at most `target_epsilon`.

  Args:
    mechanism: What is done in each round; its own noise multiplier does not matter.
    rounds: How often.
    delta: Of (epsilon, delta)-differential privacy.
    target_epsilon: Of the same.
    sampling: `SHUFFLED` or `POISSON`.

  Raises:
    ValueError: If there is none within reason.
  """
  try:
    return float(
      dp_accounting.calibrate_dp_mechanism(
        dp_accounting.rdp.RdpAccountant,
        lambda z: _event(mechanism._replace(noise_multiplier=z), rounds, sampling),
        target_epsilon,
        delta,
        dp_accounting.ExplicitBracketInterval(*_NOISE),
        tol=1e-4,
      )
    )
  except (ValueError, dp_accounting.mechanism_calibration.NoOptimumFoundError) as error:
    raise ValueError(
      f"no noise multiplier from {_NOISE[0]:g} to {_NOISE[1]:g} has epsilon = {target_epsilon:g}"
    ) from error


def _event(mechanism: Mechanism, rounds: int, sampling: str) -> dp_accounting.DpEvent:
  sensitivity = 2 if mechanism.microbatch_size > 1 else 1
  event = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier / sensitivity)
  count = rounds * mechanism.epochs
  if sampling == POISSON:
    probability = min(mechanism.batch_size / mechanism.records, 1.0)
    event = dp_accounting.PoissonSampledDpEvent(probability, event)
    count = math.ceil(count / probability)
  return dp_accounting.SelfComposedDpEvent(event, count)


_SIMULATED = (
  "All this assumes noise that nobody else can know. Here it follows from the run's seed, which is "
  "public and passes through 32 bits, so that the run can be repeated: the run shows what such "
  "noise does to an attack, and protects nobody."
)


def record_statement(
  mechanism: Mechanism, rounds: int, delta: float, records: Sequence[int]
) -> str:
  """What DP-SGD at the clients guarantees after so many rounds, in words.

  Args:
    mechanism: Of the client with the largest epsilon.
    rounds: How often each takes part.
    delta: Of (epsilon, delta)-differential privacy.
    records: How many each client has.
  """
  theirs = compute_dp_sgd_privacy_lib.compute_dp_sgd_privacy_statement(
    mechanism.records,
    min(mechanism.batch_size, mechanism.records),
    rounds * mechanism.epochs,
    mechanism.noise_multiplier,
    delta,
    used_microbatching=mechanism.microbatch_size > 1,
  )
  # What it covers, and which of the two values is closer to the truth, is said here, of what this
  # program does.
  performed, _, example_level, *_ = theirs.partition("\n\n(*)")[0].split("\n\n")
  example_level = example_level.replace("add-or-remove-one adjacency", "zeroed-out adjacency")
  return _paragraphs(
    "Protected: each record of an honest client, against whoever sees what the client sends in "
    "any round: the server, the other clients and the adversary among them. Not protected: how "
    "many records a client has, and which classes, as far as many of its records show them; what "
    "stands in partition.json; the training losses in metrics.csv, summary.json, events and "
    "checkpoints, which get no noise; the scores of the reconstructions, which compare with the "
    "clients' images; a record whose gradient is not finite, which no clipping bounds (and which "
    "an adversary can bring about where the server does not bound its update). An adversary need "
    "not follow the rules.",
    "Batches are taken from data that is shuffled in each epoch: of the two values of epsilon "
    "below, the first one holds, for records that are replaced by one of gradient zero. The second "
    "would hold for Poisson sampling, which is not done. Both are bounds by Renyi accounting, "
    "loose where they are large." + _of_whom(mechanism.records, records),
    verdict(epsilon(mechanism, rounds, delta), "record") + _by_delta(delta, sum(records), "record"),
    _SIMULATED,
    performed,
    example_level.replace(" (*)", "    "),
    "No user-level guarantee is possible: how many records a user has is not bounded.",
  )


def client_statement(mechanism: Mechanism, rounds: int, delta: float, of: int | None = None) -> str:
  """What noise on the mean of clipped updates guarantees, in words.

  Args:
    mechanism: Of the server.
    rounds: In how many rounds the client takes part that does so most often.
    delta: Of (epsilon, delta)-differential privacy.
    of: How many rounds there are; None is as many.
  """
  value = epsilon(mechanism, rounds, delta)
  if of is None or rounds == of:
    taken = f"All {mechanism.records} clients take part in each of the {rounds} rounds, so"
  else:
    taken = (
      f"No one of the {mechanism.records} clients takes part in more than {rounds} of the {of} "
      "rounds. Who does follows from the seed, which is public, so"
    )
  return _paragraphs(
    "Protected: all that one client contributes, against whoever sees the global models: the "
    "other clients and the adversary among them. Not protected: anything from the server, which "
    "sees each update before the noise; what stands in partition.json and clients.csv; in "
    "metrics.csv, summary.json and events the training losses, the norms of the updates and how "
    "many were not finite; the checkpoints, and converged.npz where there is one; the scores of "
    "the reconstructions, which compare with the clients' images.",
    f"{taken} sampling protects nobody. Client-level DP (a client left out, the divisor staying) "
    f"at delta = {delta}, noise multiplier {mechanism.noise_multiplier:.4g}: epsilon {value:.3f}.",
    verdict(value, "client") + _by_delta(delta, mechanism.records, "client"),
    _SIMULATED,
  )


def no_guarantee(reason: str) -> str:
  """The statement where noise proves nothing.

  Args:
    reason: Why, as a part of a sentence.
  """
  return f"No guarantee of differential privacy: {reason}.\n"


def verdict(value: float, unit: str) -> str:
  """How much an epsilon protects (the tiers of "How to DP-fy ML", arXiv 2303.00654, 5.2).

  Args:
    value: Epsilon.
    unit: What is protected: a record, or a client.
  """
  if value <= 1:
    return f"Epsilon {value:.2f} is a strong guarantee."
  if value <= 10:
    return f"Epsilon {value:.2f} is a reasonable guarantee."
  said = f"{value:.2f}" if value < 100 else f"{value:,.0f}"
  return (
    f"Epsilon {said} is no meaningful guarantee: what is observed may be exp({said}) times as "
    f"probable with a {unit} as without it. Noise may still hinder an attack, but "
    "nothing is proven."
  )


def _of_whom(count: int, records: Sequence[int]) -> str:
  if min(records) == max(records):
    return ""
  return (
    f" Clients have {min(records)} to {max(records)} records; the values are the largest, those of "
    f"one with {count}."
  )


def _by_delta(delta: float, count: int, unit: str) -> str:
  """What delta allows whatever epsilon is, if that is much."""
  if delta * count < 0.01:
    return ""
  return (
    f" Whatever epsilon is, this delta alone allows one of the {count} {unit}s to be published "
    f"unchanged, with probability {delta * count:.2g}."
  )


def _paragraphs(*texts: str) -> str:
  """Wraps what is not wrapped yet."""
  return "\n\n".join(t if "\n" in t else textwrap.fill(t, 80) for t in texts).rstrip() + "\n"
