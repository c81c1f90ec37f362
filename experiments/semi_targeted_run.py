"""The run of the semi-targeted attacks: federation, convergence, rounds and measurements."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from experiments import client_privacy, federated_run, program, semi_targeted_tables
from experiments import semi_targeted_setup as setup_lib
from experiments.runtime_options import Runtime
from experiments.semi_targeted_config import NO_TARGET, SemiTargetedConfig
from tff_attacks import keras_state
from tff_attacks.metrics import classification, semi_targeted
from tff_attacks.plots import semi_targeted as plots
from tff_attacks.simulation import checkpoints as checkpoints_lib
from tff_attacks.simulation import loop
from tff_attacks.simulation import results as results_lib

_SHOWN = 1000
_CHANCE = 1.5
"""A model below so many times the accuracy of chance, 1 / classes, has learned nothing."""


def run(
  config: SemiTargetedConfig, setup: setup_lib.Setup, runtime: Runtime, results: results_lib.Results
) -> int:
  """Runs the rounds that are still to do and returns the exit status."""
  print(f"Results: {results.folder}")
  path = results.folder / setup_lib.CONVERGED
  if not path.exists():
    start = setup.start or _converge(config, setup, results)
    if start is None:
      print("Interrupted before the attack. Go on with:")
      print(f"  python -m experiments.semi_targeted {program.argument('resume', results.folder)}")
      return program.INTERRUPTED
    results.write_arrays(path.stem, **start.arrays())
  start = setup_lib.Converged.read(path)
  federation = setup.compiled.federation
  parameters = dict.fromkeys(setup.adversaries, setup.parameters)
  clients = [
    start.resumed(federation.initial_client(config.seed, index, parameters.get(index)), index)
    for index in range(config.num_clients)
  ]
  first = _first_round(config, start)
  # A seed of its own, so that the noise does not repeat that of convergence. The state of the
  # aggregator (an adaptive norm, a centre) starts anew with the attack.
  server = federation.initial_server(start.weights, config.seed + 2**32)
  return federated_run.run(
    "semi_targeted",
    config,
    federation.process,
    server._replace(round=np.int32(first)),
    clients,
    setup.attack_data,
    runtime,
    Observer(config, setup, results, start),
    results,
    lambda round_number: setup.sample(first + round_number),
  )


def _first_round(config: SemiTargetedConfig, start: setup_lib.Converged) -> int:
  """Of the attack: shuffles and cohorts go on from where convergence ends at the latest."""
  return max(config.converge_rounds, start.rounds)


def has_converged(losses: Sequence[float], patience: int) -> bool:
  """Whether the lowest loss is `patience` rounds ago, or more."""
  return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def _converge(
  config: SemiTargetedConfig, setup: setup_lib.Setup, results: results_lib.Results
) -> setup_lib.Converged | None:
  """Trains without attack; None if interrupted.

  Raises:
    FloatingPointError: If the model diverges.
    UnreadableError: If what it would go on from is damaged.
  """
  folder = results.folder / "convergence"
  folder.mkdir(exist_ok=True)
  table = results_lib.Results(folder)
  checkpoints = checkpoints_lib.Checkpoints(folder / "checkpoints")
  federation = setup.compiled.federation
  weights = keras_state.initial_weights(setup.compiled.model_fn, config.seed)
  clients = [federation.initial_client(config.seed, i) for i in range(config.num_clients)]
  server = federation.initial_server(weights, config.seed)
  progress = loop.restore(checkpoints, server, clients)
  table.check("metrics", progress.rounds)
  losses = []
  if progress.rounds:
    losses = table.read("metrics")["test_loss"][: progress.rounds].tolist()

  def evaluate(played):
    loss, confusion = setup.compiled.evaluate(played.server.weights)
    if not np.isfinite(loss):
      round_number = len(losses) + 1
      raise FloatingPointError(
        f"the global model diverged in round {round_number}, without any attack; try a lower "
        "learning_rate"
      )
    losses.append(loss)
    return {"test_loss": loss, "test_accuracy": classification.accuracy(confusion)}

  def finished():
    return has_converged(losses, config.patience)

  progress = loop.simulate(
    federation.process,
    progress,
    setup.data,
    config.converge_rounds,
    evaluate,
    lambda played, metrics: table.release("metrics", metrics, played.number),
    checkpoints,
    config.checkpoint_every,
    setup.sample,
    finished,
  )
  if progress.interrupted:
    return None
  return setup_lib.Converged.of(progress, finished())


class Observer:
  """Measures each round and writes what it leaves behind."""

  def __init__(
    self,
    config: SemiTargetedConfig,
    setup: setup_lib.Setup,
    results: results_lib.Results,
    start: setup_lib.Converged,
  ):
    self._config = config
    self._setup = setup
    self._results = results
    self._malicious = set(setup.adversaries)
    self._targets = {source: int(setup.parameters.targets[source]) for source in config.sources}
    self._start = start
    first = _first_round(config, start)
    self._privacy = client_privacy.of(config, setup.sample, start.rounds, first)
    self._before = setup.compiled.evaluate(start.weights).confusion
    self._save_features(start.weights)

  def resume(self, completed_rounds: int) -> None:
    """Takes up the targets that were chosen last."""
    if completed_rounds:
      row = self._results.read("metrics").iloc[completed_rounds - 1]
      self._targets = {source: int(row[f"target_{source}"]) for source in self._targets}

  def evaluate(self, played: loop.Round) -> dict[str, float]:
    """Measures the global model, and what the server took from whom."""
    loss, confusion = self._setup.compiled.evaluate(played.server.weights)
    cohort, clients = played.cohort, played.clients
    self._confusion = confusion
    malicious = np.array([i in self._malicious for i in cohort])
    norms = np.array([float(clients[i].update_norm) for i in cohort])
    chosen = {
      source: [
        self._target(clients[i].attack, source) if i in self._malicious else NO_TARGET
        for i in cohort
      ]
      for source in self._targets
    }
    self._targets = {
      source: most_frequent(np.array(chosen[source]), target)
      for source, target in self._targets.items()
    }
    self._clients = {
      "client": list(cohort),
      "malicious": malicious.tolist(),
      "update_norm": norms.tolist(),
      **{f"target_{source}": taken for source, taken in chosen.items()},
    }
    return {
      "test_loss": loss,
      "test_accuracy": classification.accuracy(confusion),
      **accuracies(confusion, self._targets, self._num_classes),
      "malicious_clients": int(malicious.sum()),
      "honest_norm": _mean(norms[~malicious]),
      "malicious_norm": _mean(norms[malicious]),
      **self._privacy.epsilon(played.number + 1),
      **federated_run.rejected(played, malicious),
    }

  def on_round(self, played: loop.Round, metrics: dict[str, Any]) -> None:
    """Writes the round's metrics, and a list a column of those who took part."""
    number = played.number
    as_text = {name: json.dumps(values) for name, values in self._clients.items()}
    self._results.release("clients", as_text, number)
    self._results.release("confusion", {"confusion": self._confusion}, number)
    self._results.release("metrics", metrics, number)

  def _target(self, state: Any, source: int) -> int:
    """What an adversary chose; one that does not choose takes what the configuration says."""
    targets = getattr(state, "targets", None)
    return self._targets[source] if targets is None else int(np.asarray(targets)[0, source])

  def _save_features(self, weights: keras_state.ModelWeights) -> None:
    """Outputs of the last hidden layer on test images, when the attack begins."""
    model = self._setup.compiled.model_fn()
    keras_state.assign(model, weights)
    try:
      last = keras_state.last_layer(model)
    except ValueError as error:
      print(f"No picture of the last hidden layer: {error}")
      return
    test = self._setup.compiled.dataset.test
    hidden = tf.keras.Model(model.inputs, last.input)
    features = hidden.predict(test.images[:_SHOWN], verbose=0)
    features = features.reshape(len(features), -1)
    self._results.write_arrays("features", features=features, labels=test.labels[:_SHOWN])

  @property
  def _num_classes(self) -> int:
    return self._setup.compiled.dataset.num_classes

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Draws the figures and returns the summary."""
    del progress
    config, folder = self._config, self._results.folder
    metrics = self._results.read("metrics")
    best = best_round(metrics)
    its_targets = {source: int(best[f"target_{source}"]) for source in config.sources}
    plots.draw_all(folder, config.sources)
    if statement := self._privacy.statement(config.rounds):
      federated_run.release_privacy(folder, statement)
    return {
      **metrics.drop(columns="seconds").tail(1).to_dict("records")[0],
      "best_ata": best["ata"],
      **semi_targeted_tables.of_run(config),
      "its_mta": best["mta"],
      "its_targets": its_targets,
      "best_mta": metrics["mta"].max(),
      "best_max_ata": metrics["max_ata"].max(),
      "before_attack": {
        "test_accuracy": classification.accuracy(self._before),
        **accuracies(self._before, its_targets, self._num_classes),
      },
      "converged": self._start.converged,
      "rounds_before_attack": self._start.rounds,
      "malicious_clients_in_all": int(metrics["malicious_clients"].sum()),
      "adversaries": self._setup.adversaries,
      "seconds_per_round": float(metrics["seconds"].median()),
      "seed": config.seed,
    }

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""
    config, before = self._config, summary["before_attack"]
    start = f"After {summary['rounds_before_attack']} rounds"
    if not summary["converged"]:
      start += " (its loss was still falling)"
    elif before["mta"] < _CHANCE / self._num_classes:
      start += " (it has learned next to nothing)"
    if config.attack == "none":
      return f"{start} and {config.rounds} more, test accuracy was {summary['test_accuracy']:.2f}."
    names = ", ".join(f"{g} called {t}" for g, t in summary["its_targets"].items())
    if NO_TARGET in summary["its_targets"].values():
      return f"{start}, no compromised client was drawn that could choose a target."
    forgotten = "" if config.honest_sources else (
      " The model forgets the class by itself, too, as no honest client holds it any more: see "
      "attack=none."
    )  # fmt: skip
    return (
      f"{start}, {len(self._setup.adversaries)} of {config.num_clients} clients were compromised "
      f"and took part {summary['malicious_clients_in_all']} times in {config.rounds} rounds: the "
      f"share of class {names} (ATA) was {before['ata']:.2f} before and at most "
      f"{summary['best_ata']:.2f} then, where the accuracy on other classes (MTA) was "
      f"{summary['its_mta']:.2f} ({before['mta']:.2f} before).{forgotten}"
    )


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else np.nan


def most_frequent(targets: np.ndarray, otherwise: int) -> int:
  """The target that most adversaries chose, the lowest of several; or, if none chose, another."""
  chosen = targets[targets != NO_TARGET]
  return int(np.bincount(chosen).argmax()) if chosen.size else otherwise


def best_round(metrics: pd.DataFrame) -> pd.Series:
  """The row with the highest ATA, from the first round on in which somebody compromised takes part.

  Before it ADA has no target, and no ATA is the attack's doing. If nobody takes part at all, every
  round counts.
  """
  attacked = metrics[metrics["malicious_clients"].cumsum() > 0]
  counted = metrics if attacked.empty else attacked
  return counted.loc[counted["ata"].fillna(-1).idxmax()]


def accuracies(
  confusion: np.ndarray, targets: dict[int, int], num_classes: int
) -> dict[str, float]:
  """MTA, and for each source ATA and max-ATA, with their means over the sources.

  Args:
    confusion: int `[outputs, outputs]`.
    targets: Target by source, or `NO_TARGET`: ATA is then not a number.
    num_classes: C.
  """
  by_source: dict[str, float] = {}
  for source, target in targets.items():
    known = target != NO_TARGET
    highest, its_target = semi_targeted.max_adversary_task_accuracy(confusion, source, num_classes)
    by_source |= {
      f"target_{source}": target,
      f"ata_{source}": (
        classification.attack_accuracy(confusion, source, target) if known else np.nan
      ),
      f"max_ata_{source}": highest,
      f"max_target_{source}": its_target,
    }
  return {
    "mta": semi_targeted.main_task_accuracy(confusion, targets),
    "ata": float(np.mean([by_source[f"ata_{source}"] for source in targets])),
    "max_ata": float(np.mean([by_source[f"max_ata_{source}"] for source in targets])),
    **by_source,
  }
