"""From the first round to the summary: what every federated experiment does."""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow_federated as tff

from experiments import program, report
from experiments.runtime_options import Runtime
from tff_attacks import files
from tff_attacks.data.datasets import Images
from tff_attacks.learning.process import ClientState, ServerState
from tff_attacks.simulation import checkpoints as checkpoints_lib
from tff_attacks.simulation import loop
from tff_attacks.simulation import results as results_lib


class Observer(Protocol):
  """What an experiment measures."""

  def resume(self, completed_rounds: int) -> None:
    """Takes up the measurements of the rounds that are done already."""

  def evaluate(self, played: loop.Round) -> dict[str, float]:
    """Measures a round, see `loop.Evaluate`."""

  def on_round(self, played: loop.Round, metrics: dict[str, Any]) -> None:
    """Writes what a round leaves behind, see `loop.OnRound`."""

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Draws the figures and returns the summary."""

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""


def run(
  name: str,
  config: Any,
  process: tff.templates.IterativeProcess,
  server: ServerState,
  clients: list[ClientState],
  data: Sequence[Images],
  runtime: Runtime,
  observer: Observer,
  results: results_lib.Results,
  sample: loop.Sample | None = None,
) -> int:
  """Runs the rounds that are still to do and returns the exit status.

  An interrupt in the last round counts as one, too, so that a sweep begins no other run.

  Args:
    name: Of the script.
    config: With `rounds`, `checkpoint_every` and `runtime`.
    process: See `tff_attacks.learning.process`.
    server: The server's state before the first round.
    clients: The clients'.
    data: Theirs, placed where it is wanted.
    runtime: Where it runs.
    observer: What is measured.
    results: Where it is written.
    sample: Who takes part in a round; all clients if not given.

  Raises:
    UnreadableError: If none of the checkpoints to resume from can be read, or metrics.csv lacks
      rounds of theirs.
  """
  checkpoints = checkpoints_lib.Checkpoints(results.checkpoints)
  progress = loop.restore(checkpoints, server, clients)
  results.check("metrics", progress.rounds)
  observer.resume(progress.rounds)
  progress = loop.simulate(
    process,
    progress,
    data,
    config.rounds,
    observer.evaluate,
    observer.on_round,
    checkpoints,
    config.checkpoint_every,
    sample,
  )
  if progress.rounds < config.rounds:
    print(
      f"Interrupted after {progress.rounds} of {config.rounds} rounds. Go on with:\n"
      f"  python -m experiments.{name} {program.argument('resume', results.folder)}"
    )
    return program.INTERRUPTED
  summary = observer.finish(progress)
  summary |= {"runtime": config.runtime, "device": runtime.device}
  summary |= results_lib.environment(runtime.process_ids)
  summary["in_words"] = observer.sentence(summary)
  checkpoints.keep_newest()  # Some MB each, and a sweep has hundreds of runs.
  results.write_json("summary", summary)
  print(summary["in_words"])
  print(f"Report: {report.write(results.folder)}")
  return program.INTERRUPTED if progress.interrupted else 0


def release_privacy(folder: pathlib.Path, statement: str) -> None:
  """Keeps and says what a run's noise proves."""
  files.write_text(folder / "privacy.txt", statement)
  print(statement)


def rejected(played: loop.Round, malicious: np.ndarray) -> dict[str, int]:
  """Whom a server that refuses updates refused, or a robust rule did not keep.

  Args:
    played: A round.
    malicious: bool, for each client that took part whether it is.

  Returns:
    How many, by kind; nothing if the server refuses nobody.
  """
  if "not_finite" not in played.measurements:
    return {}
  not_finite = {"not_finite": int(played.measurements["not_finite"])}
  if "kept" not in played.measurements:
    return not_finite
  kept = np.asarray(played.measurements["kept"])
  return {
    "rejected_honest": int((~kept & ~malicious).sum()),
    "rejected_malicious": int((~kept & malicious).sum()),
    **not_finite,
  }
