"""The run of the semi-targeted attacks: federation, convergence, rounds and measurements."""

from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from experiments import federated_run, program
from experiments import semi_targeted_setup as setup_lib
from experiments.runtime_options import Runtime
from experiments.semi_targeted_config import SemiTargetedConfig
from tff_attacks import keras_state
from tff_attacks.metrics import classification, semi_targeted
from tff_attacks.plots import semi_targeted as plots
from tff_attacks.simulation import checkpoints as checkpoints_lib
from tff_attacks.simulation import loop
from tff_attacks.simulation import results as results_lib

prepare = setup_lib.prepare
_SHOWN = 1000


def run(
  config: SemiTargetedConfig, setup: setup_lib.Setup, runtime: Runtime, results: results_lib.Results
) -> int:
  """Runs the rounds that are still to do and returns the exit status."""
  print(f"Results: {results.folder}")
  path = results.folder / setup_lib.CONVERGED
  if not path.exists():
    weights = setup.weights or _converge(config, setup, results)
    if weights is None:
      print("Interrupted before the attack. Go on with:")
      print(f"  python -m experiments.semi_targeted resume={results.folder}")
      return program.INTERRUPTED
    setup_lib.write_weights(path, weights)
  weights = setup_lib.read_weights(path)
  clients = [
    setup.federation.initial_client(
      config.seed, index, setup.parameters if index in setup.adversaries else None
    )
    for index in range(config.num_clients)
  ]
  return federated_run.run(
    "semi_targeted",
    config,
    setup.federation.process,
    setup.federation.initial_server(weights, config.seed),
    clients,
    setup.data,
    runtime,
    Observer(config, setup, results, weights),
    results,
    # Not the cohorts of the rounds before.
    lambda round_number: setup.sample(config.converge_rounds + round_number),
  )


def _converge(
  config: SemiTargetedConfig, setup: setup_lib.Setup, results: results_lib.Results
) -> keras_state.ModelWeights | None:
  """Trains without attack; None if interrupted."""
  folder = results.folder / "convergence"
  folder.mkdir(exist_ok=True)
  table = results_lib.Results(folder)
  checkpoints = checkpoints_lib.Checkpoints(folder / "checkpoints")
  weights = keras_state.initial_weights(setup.model_fn, config.seed)
  clients = [setup.federation.initial_client(config.seed, i) for i in range(config.num_clients)]
  progress = loop.restore(
    checkpoints, setup.federation.initial_server(weights, config.seed), clients
  )
  losses = []
  if progress.rounds:
    losses = pd.read_csv(folder / "metrics.csv")["test_loss"][: progress.rounds].tolist()

  def evaluate(server, clients, outcome):
    del clients, outcome
    loss, confusion = setup.evaluate(server.weights)
    losses.append(loss)
    return {"test_loss": loss, "test_accuracy": classification.accuracy(confusion)}

  def finished():
    return len(losses) - 1 - int(np.argmin(losses)) >= config.patience if losses else False

  progress = loop.simulate(
    setup.federation.process,
    progress,
    setup.data,
    config.converge_rounds,
    evaluate,
    lambda round_number, server, clients, metrics: table.release("metrics", metrics, round_number),
    checkpoints,
    config.checkpoint_every,
    setup.sample,
    finished,
  )
  over = progress.rounds == config.converge_rounds or finished()
  return progress.server.weights if over else None


class Observer:
  """Measures each round and writes what it leaves behind."""

  def __init__(self, config, setup: setup_lib.Setup, results: results_lib.Results, weights):
    self._config = config
    self._setup = setup
    self._results = results
    self._malicious = set(setup.adversaries)
    chosen = -1 if config.attack.startswith("ada") else config.target
    self._targets = dict.fromkeys(config.sources, chosen)
    self._start = setup.evaluate(weights)
    self._save_features(weights)

  def resume(self, completed_rounds: int) -> None:
    """Takes up the targets that were chosen last."""
    if completed_rounds:
      row = pd.read_csv(self._results.folder / "metrics.csv").iloc[completed_rounds - 1]
      self._targets = {source: int(row[f"target_{source}"]) for source in self._targets}

  def evaluate(self, server, clients, outcome) -> dict[str, float]:
    """Measures the global model, and what the server took from whom."""
    loss, confusion = self._setup.evaluate(server.weights)
    self._confusion = confusion
    malicious = [i for i in outcome.cohort if i in self._malicious]
    for client in malicious:
      chosen = np.asarray(clients[client].attack.targets)[0]
      self._targets = {source: int(chosen[source]) for source in self._targets}
    norms = {
      name: np.mean([float(clients[i].update_norm) for i in who]) if who else np.nan
      for name, who in (
        ("honest_norm", [i for i in outcome.cohort if i not in self._malicious]),
        ("malicious_norm", malicious),
      )
    }
    return {
      "test_loss": loss,
      "test_accuracy": classification.accuracy(confusion),
      **accuracies(confusion, self._targets),
      "malicious_clients": len(malicious),
      **norms,
      **self._rejected(outcome),
    }

  def _rejected(self, outcome) -> dict[str, int]:
    """Whom a robust rule did not keep."""
    if "kept" not in outcome.measurements:
      return {}
    kept = np.asarray(outcome.measurements["kept"])
    malicious = np.array([i in self._malicious for i in outcome.cohort])
    return {
      "rejected_honest": int((~kept & ~malicious).sum()),
      "rejected_malicious": int((~kept & malicious).sum()),
      "not_finite": int(outcome.measurements["not_finite"]),
    }

  def on_round(self, round_number, server, clients, metrics) -> None:
    """Writes the round's metrics."""
    del server, clients
    self._results.release("confusion", {"confusion": self._confusion}, round_number)
    self._results.release("metrics", metrics, round_number)

  def _save_features(self, weights) -> None:
    """Outputs of the last hidden layer on test images, when the attack begins."""
    model = self._setup.model_fn()
    keras_state.assign(model, weights)
    test = self._setup.dataset.test
    hidden = tf.keras.Model(model.inputs, model.layers[-1].input)
    features = hidden.predict(test.images[:_SHOWN], verbose=0)
    np.savez_compressed(
      self._results.folder / "features.npz",
      features=features.reshape(len(features), -1),
      labels=test.labels[:_SHOWN],
    )

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Draws the figures and returns the summary."""
    del progress
    config, folder = self._config, self._results.folder
    metrics = pd.read_csv(folder / "metrics.csv", float_precision="round_trip")
    best = metrics["ata"].fillna(-1).idxmax()
    start = accuracies(self._start.confusion, self._targets)
    plots.draw_all(folder, config.sources)
    return {
      **metrics.iloc[-1].drop("seconds").to_dict(),
      "best_ata": metrics["ata"].max(),
      "its_mta": metrics["mta"][best],
      "best_max_ata": metrics["max_ata"].max(),
      "before_attack": {"test_accuracy": classification.accuracy(self._start.confusion), **start},
      "malicious_clients_in_all": int(metrics["malicious_clients"].sum()),
      "adversaries": self._setup.adversaries,
      "seconds_per_round": float(metrics["seconds"].median()),
      "seed": config.seed,
    }

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""
    config, before = self._config, summary["before_attack"]
    if config.attack == "none":
      return f"Without any attack, test accuracy ended at {summary['test_accuracy']:.2f}."
    if not summary["malicious_clients_in_all"]:
      return "No compromised client was drawn in any round: more rounds, or a higher frequency."
    names = ", ".join(f"{source} called {target}" for source, target in self._targets.items())
    return (
      f"{len(self._setup.adversaries)} of {config.num_clients} clients were compromised and "
      f"took part {summary['malicious_clients_in_all']} times in {config.rounds} rounds, to have "
      f"{names}: ATA rose from {before['ata']:.2f} to at most "
      f"{summary['best_ata']:.2f}, where MTA was "
      f"{summary['its_mta']:.2f} ({before['mta']:.2f} before)."
    )


def accuracies(confusion: np.ndarray, targets: dict[int, int]) -> dict[str, float]:
  """MTA, and for each source ATA and max-ATA, with their means over the sources.

  Args:
    confusion: int `[outputs, outputs]`.
    targets: Target by source; -1 as long as none is chosen, ATA is then not a number.
  """
  by_source = {}
  for source, target in targets.items():
    highest, its_target = semi_targeted.max_adversary_task_accuracy(confusion, source)
    by_source |= {
      f"target_{source}": target,
      f"ata_{source}": np.nan
      if target < 0
      else semi_targeted.adversary_task_accuracy(confusion, source, target),
      f"max_ata_{source}": highest,
      f"max_target_{source}": its_target,
    }
  return {
    "mta": semi_targeted.main_task_accuracy(confusion, targets),
    "ata": float(np.mean([by_source[f"ata_{s}"] for s in targets])),
    "max_ata": float(np.mean([by_source[f"max_ata_{s}"] for s in targets])),
    **by_source,
  }
