"""The round loop. It drives any federation and knows nothing of any one attack."""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_federated as tff
import tqdm

from tff_attacks.data.datasets import Images
from tff_attacks.learning.process import ClientState, ServerState
from tff_attacks.simulation import checkpoints as checkpoints_lib


class Round(NamedTuple):
  """A round that was played.

  Attributes:
    number: From 0.
    server: The server's state after it.
    clients: All clients' states after it, by index.
    cohort: The clients that took part, in the order of `measurements`.
    measurements: The aggregator's.
  """

  number: int
  server: ServerState
  clients: Sequence[ClientState]
  cohort: Sequence[int]
  measurements: Any


Evaluate = Callable[[Round], dict[str, Any]]
"""Round -> metrics, among them `test_accuracy`, which the server will send."""

Sample = Callable[[int], Sequence[int]]
"""Number of a round, from 0 -> the clients that take part in it."""

OnRound = Callable[[Round, dict[str, Any]], None]
"""(round, its metrics): writes what it leaves behind."""


class Progress(NamedTuple):
  """Where a simulation stands.

  Attributes:
    server: The server's state.
    clients: The clients' states, by index.
    rounds: Number of completed rounds.
    interrupted: Whether the user asked to stop.
  """

  server: ServerState
  clients: list[ClientState]
  rounds: int
  interrupted: bool = False


def restore(
  checkpoints: checkpoints_lib.Checkpoints, server: ServerState, clients: list[ClientState]
) -> Progress:
  """Returns the newest saved progress, or the start if nothing is saved.

  Raises:
    UnreadableError: If there are checkpoints, but none of them can be read.
  """
  latest = checkpoints.restore_latest((server, clients))
  if latest is None:
    return Progress(server, clients, 0)
  (server, clients), rounds = latest
  return Progress(server, clients, rounds)


def simulate(
  process: tff.templates.IterativeProcess,
  progress: Progress,
  data: Sequence[Images],
  num_rounds: int,
  evaluate: Evaluate,
  on_round: OnRound,
  checkpoints: checkpoints_lib.Checkpoints,
  checkpoint_every: int,
  sample: Sample | None = None,
  finished: Callable[[], bool] = lambda: False,
) -> Progress:
  """Runs rounds until `num_rounds` are complete, it is finished, or the user interrupts.

  Args:
    process: See `tff_attacks.learning.process`.
    progress: Where to start.
    data: Each client's data, read when the client takes part.
    num_rounds: Rounds in all, those before `progress` included.
    evaluate: Called after each round.
    on_round: Called after each evaluation.
    checkpoints: Where states are saved.
    checkpoint_every: Rounds between two saves; the last round is always saved.
    sample: Who takes part in a round; all clients if not given.
    finished: Asked after each round, whether more rounds are needed.

  Returns:
    The last state; `rounds` is below `num_rounds` if it was interrupted or is finished.
  """
  server, clients, first, _ = progress
  clients = list(clients)
  completed = first
  with (
    deferred_interrupt() as interrupted,
    tqdm.tqdm(total=num_rounds, initial=first, unit="round") as bar,
  ):
    for round_number in range(first, num_rounds):
      if finished():  # A resumed run may be so already.
        break
      start = time.monotonic()
      cohort = sample(round_number) if sample else range(len(clients))
      server, updated, measurements = process.next(
        server, [clients[i] for i in cohort], [data[i] for i in cohort]
      )
      for i, client in zip(cohort, updated, strict=True):
        clients[i] = client
      played = Round(round_number, server, clients, cohort, measurements)
      metrics = evaluate(played)
      server = server._replace(accuracy=np.float32(metrics["test_accuracy"]))
      metrics["seconds"] = round(time.monotonic() - start, 3)
      on_round(played, metrics)
      completed = round_number + 1
      bar.set_postfix({k: f"{v:.2f}" for k, v in metrics.items() if k.endswith("accuracy")})
      bar.update()
      done = interrupted or completed == num_rounds or finished()
      if done or completed % checkpoint_every == 0:
        checkpoints.save((server, clients), completed)
      if done:
        break
  return Progress(server, clients, completed, bool(interrupted))


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[list[int]]:
  """Collects SIGINT and SIGTERM instead of breaking off; a second one breaks off."""
  received: list[int] = []

  def handle(number, frame):
    del frame
    if received:
      raise KeyboardInterrupt
    received.append(number)
    logging.warning("Interrupted: stopping after this step.")

  signals = (signal.SIGINT, signal.SIGTERM)
  previous = [signal.signal(number, handle) for number in signals]
  try:
    yield received
  finally:
    for number, handler in zip(signals, previous, strict=True):
      signal.signal(number, handler)
