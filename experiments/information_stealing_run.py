"""The run of GAN information stealing: rounds, measurements and summary."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from experiments import federated_run, judging
from experiments.information_stealing_config import InformationStealingConfig
from experiments.information_stealing_setup import Setup
from experiments.runtime_options import Runtime
from tff_attacks import files, generation, keras_state
from tff_attacks.attacks import information_stealing
from tff_attacks.learning.process import ClientState
from tff_attacks.metrics import classification, reconstruction
from tff_attacks.plots import common
from tff_attacks.plots import information_stealing as plots
from tff_attacks.simulation import evaluation, loop
from tff_attacks.simulation import results as results_lib

_REFERENCE = pathlib.Path(__file__).parent / "reference" / "information_stealing.csv"
_JUDGED = 100
_REAL = 200


def run(
  config: InformationStealingConfig,
  setup: Setup,
  runtime: Runtime,
  results: results_lib.Results,
) -> int:
  """Runs the rounds that are still to do and returns the exit status."""
  print(f"Results: {results.folder}")
  weights = keras_state.initial_weights(setup.model_fn, config.seed)
  adversary = len(setup.data) - 1
  clients = [
    setup.federation.initial_client(
      config.seed, index, setup.parameters if index == adversary else None
    )
    for index in range(len(setup.data))
  ]
  observer = Observer(config, setup, results, weights)
  return federated_run.run(
    "information_stealing",
    config,
    setup.federation.process,
    setup.federation.initial_server(weights, config.seed),
    clients,
    runtime.place(setup.data),
    runtime,
    observer,
    results,
  )


class Observer:
  """Measures each round and writes what it leaves behind."""

  def __init__(
    self,
    config: InformationStealingConfig,
    setup: Setup,
    results: results_lib.Results,
    weights: keras_state.ModelWeights,
  ):
    self._config = config
    self._setup = setup
    self._results = results
    test = setup.dataset.test
    self._evaluate = evaluation.build_evaluation(setup.model_fn, setup.loss_fn, test)
    self._predict = evaluation.build_prediction(setup.model_fn, test.images)
    self._save_scores("initial", weights)
    self._attacks = config.attack != "none"
    if self._attacks:
      self._noise = setup.draw_noise(_JUDGED, tf.constant([config.seed, 1]))
      self._judge = judging.judge(config.dataset, config.data_dir, config.test_images, config.seed)
      held = [own.images[own.labels == config.target] for own in setup.data]
      self._real = np.concatenate(held)[:_REAL]

  def resume(self, completed_rounds: int) -> None:
    """All that it knows is in the files."""

  def evaluate(self, played: loop.Round) -> dict[str, float]:
    """Measures the global model."""
    loss, confusion = self._evaluate(played.server.weights)
    self._confusion = confusion
    accuracy = classification.accuracy(confusion)
    if accuracy > self._config.start_accuracy and not self._scores("reached").exists():
      self._save_scores("reached", played.server.weights)
    target = self._config.target
    honest = classification.macro_scores(confusion, predicted_too=False)
    return {
      "test_loss": loss,
      "test_accuracy": accuracy,
      **classification.macro_scores(confusion)._asdict(),
      # Without the additional class, which no test image has.
      **{f"honest_{name}": value for name, value in honest._asdict().items()},
      "target_recall": classification.attack_accuracy(confusion, target, target),
      "attack_started": self._started(played.clients),
      **{f"training_loss_{i}": float(client.loss) for i, client in enumerate(played.clients)},
    }

  def _started(self, clients: Sequence[ClientState]) -> int:
    """The round, from 0, in which the attack began, or -1."""
    return int(clients[-1].attack.started[0]) if self._attacks else information_stealing.NOT_STARTED

  def on_round(self, played: loop.Round, metrics: dict[str, Any]) -> None:
    """Writes the round's metrics and what the adversary has reconstructed."""
    number = played.number
    self._results.release("confusion", {"confusion": self._confusion}, number)
    self._results.release("metrics", metrics, number)
    if metrics["attack_started"] == information_stealing.NOT_STARTED:
      return
    images, train = self._generate(played.clients), self._setup.dataset.train
    quality = reconstruction.quality(
      images, train.images, train.labels, self._config.target, self._judge.classify
    )
    distances = reconstruction.euclidean_distance(images, self._real)
    self._results.release("reconstruction", quality._asdict() | distances._asdict(), number)
    since = number - metrics["attack_started"]
    if since % self._config.image_every == 0 or number + 1 == self._config.rounds:
      common.picture(images, self._results.images / f"round_{number + 1:04d}.png")

  def _generate(self, clients: Sequence[ClientState]) -> np.ndarray:
    weights = clients[-1].attack.generator
    return generation.generate(self._setup.generator, weights, self._noise)

  def _scores(self, name: str) -> pathlib.Path:
    return self._results.folder / f"scores_{name}.npz"

  def _save_scores(self, name: str, weights: keras_state.ModelWeights) -> None:
    """Keeps the outputs for the test set, of which the ROC curves are drawn."""
    outputs = self._predict(weights)
    probabilities = tf.nn.softmax(outputs).numpy() if self._setup.from_logits else outputs
    labels = self._setup.dataset.test.labels
    self._results.write_arrays(f"scores_{name}", labels=labels, probabilities=probabilities)

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Draws the figures and returns the summary."""
    config, folder = self._config, self._results.folder
    self._save_scores("final", progress.server.weights)
    metrics = self._results.read("metrics")
    reached = metrics["test_accuracy"] > config.start_accuracy
    summary = {
      **metrics.drop(columns="seconds").tail(1).to_dict("records")[0],
      "threshold_round": int(reached.idxmax()) if reached.any() else None,
      "best_test_accuracy": metrics["test_accuracy"].max(),
      "seconds_per_round": float(metrics["seconds"].median()),
      "auc": {
        name: classification.one_vs_rest_auc(**files.read_npz(self._scores(name)))
        for name in ("initial", "reached", "final")
        if self._scores(name).exists()
      },
      "seed": config.seed,
    }
    started = int(summary["attack_started"])
    if started != information_stealing.NOT_STARTED:
      before, after = metrics[metrics["round"] < started], metrics[metrics["round"] >= started]
      names = ["test_accuracy", "target_recall"]
      names += [f"{of}{name}" for of in ("", "honest_") for name in ("precision", "recall", "f1")]
      summary["before_attack"] = before[names].tail(10).mean().to_dict()
      summary["after_attack"] = after[names].tail(10).mean().to_dict()
      quality = self._results.read("reconstruction").drop(columns="round")
      summary["reconstruction"] = quality.iloc[-1].to_dict()
      summary["reconstruction"]["first_distance"] = quality["distance_rms"].iloc[0]
      summary["reconstruction"]["lowest_distance"] = quality["distance_rms"].min()
      summary["reconstruction"]["best_recognised"] = quality["recognised"].max()
      summary["reconstruction"]["mean_recognised"] = quality["recognised"].mean()
      summary["reconstruction"] |= self._judge.about(config.target)
      test = self._setup.dataset.test
      self._results.write_arrays(
        "reconstructions",
        generated=self._generate(progress.clients),
        real=test.images[test.labels == config.target][:_JUDGED],
      )
    plots.draw_all(folder, config.target, started)
    if config.preset == "paper" and config.attack != "none":
      summary["published"] = _published(config.dataset, config.target)
    return summary

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""
    config, started = self._config, summary["attack_started"]
    if started == information_stealing.NOT_STARTED:
      return (
        f"Without any attack, test accuracy ended at {summary['test_accuracy']:.2f}"
        if config.attack == "none"
        else f"The attack never started: test accuracy was at best "
        f"{summary['best_test_accuracy']:.2f}"
      ) + "."
    why = f"test accuracy was above {config.start_accuracy}"
    if summary["threshold_round"] is None or summary["threshold_round"] >= started:
      why = f"latest_start had come, though test accuracy had not reached {config.start_accuracy}"
    quality, before, after = (
      summary[name] for name in ("reconstruction", "before_attack", "after_attack")
    )
    return (
      f"A client without data attacked from round {int(started) + 1} on, when {why}: of its images "
      f"of class {config.target} an independent classifier recognises "
      f"{quality['recognised']:.0%} (in the mean of all rounds {quality['mean_recognised']:.0%}, "
      f"of noise {quality['recognised_noise']:.0%}), their mean "
      f"correlates {quality['correlation']:.2f} with the class (with any other at most "
      f"{quality['other_correlation']:.2f}), and the root mean square distance of "
      "their pixels to it went from "
      f"{quality['first_distance']:.2f} to {quality['distance_rms']:.2f}; test accuracy was "
      f"{before['test_accuracy']:.2f} before and {after['test_accuracy']:.2f} at the end, macro F1 "
      f"{before['f1']:.2f} and {after['f1']:.2f}."
    )


def _published(dataset: str, target: int) -> dict[str, float]:
  values = pd.read_csv(_REFERENCE).set_index(["dataset", "target"])
  return values.loc[dataset, target].to_dict() if (dataset, target) in values.index else {}
