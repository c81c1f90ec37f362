"""The CRPA run itself: rounds, measurements, pictures and the summary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from experiments import crpa_setup, federated_run, judging, published
from experiments.crpa_config import CRPAConfig
from experiments.runtime_options import Runtime
from tff_attacks import generation
from tff_attacks.data import partition
from tff_attacks.learning.process import ClientState
from tff_attacks.metrics import classification, reconstruction
from tff_attacks.plots import common
from tff_attacks.plots import crpa as plots
from tff_attacks.simulation import loop
from tff_attacks.simulation import results as results_lib

_JUDGED = 100


def run(
  config: CRPAConfig,
  setup: crpa_setup.Setup,
  runtime: Runtime,
  results: results_lib.Results,
) -> int:
  """Runs the rounds that are still to do and returns the exit status."""
  print(f"Results: {results.folder}")
  split = setup.split
  results.write_json(
    "partition",
    {
      "adversaries": split.adversaries,
      "adversary_holds": split.table[split.adversary].tolist(),
      "draws": split.draws,
      "table": split.table.tolist(),
    },
  )
  if config.privacy != "none":
    print(f"Of all {config.rounds} rounds: {setup.privacy.verdict(config.rounds).strip()}")
  server, clients = crpa_setup.initial_states(config, setup)
  return federated_run.run(
    "crpa",
    config,
    setup.compiled.federation.process,
    server,
    clients,
    runtime.place(setup.data),
    runtime,
    Observer(config, setup, results),
    results,
  )


class Observer:
  """Measures each round and writes what it leaves behind."""

  def __init__(self, config: CRPAConfig, setup: crpa_setup.Setup, results: results_lib.Results):
    self._config = config
    self._setup = setup
    self._results = results
    self._attack_accuracies: list[float] = []
    self._dataset = setup.compiled.dataset
    if config.attack == "crpa":
      self._generator = setup.compiled.generator
      self._noise = tf.random.stateless_normal(
        [_JUDGED, *self._generator.input_shape[1:]], seed=[config.seed, 1]
      )
      self._judge = judging.judge(config.dataset, config.data_dir, config.test_images, config.seed)

  def resume(self, completed_rounds: int) -> None:
    """Takes up the measurements of the rounds that are done already."""
    if completed_rounds:
      metrics = self._results.read("metrics")
      self._attack_accuracies = metrics["attack_accuracy"][:completed_rounds].tolist()

  def evaluate(self, played: loop.Round) -> dict[str, float]:
    """Measures the global model."""
    config = self._config
    loss, confusion = self._setup.compiled.evaluate(played.server.weights)
    attack_accuracy = classification.attack_accuracy(confusion, config.reconstruct, config.poison)
    self._attack_accuracies.append(attack_accuracy)
    history = self._attack_accuracies
    self._confusion = confusion
    return {
      "test_loss": loss,
      "test_accuracy": classification.accuracy(confusion),
      "attack_accuracy": attack_accuracy,
      "average_attack_accuracy": classification.average_attack_accuracy(history),
      "attack_accuracy_ema": classification.exponential_moving_average(history)[-1],
      **self._setup.privacy.epsilon(len(history)),
      "update_norm": float(np.mean([client.update_norm for client in played.clients])),
      **self._rejected(played),
      **{f"training_loss_{i}": float(client.loss) for i, client in enumerate(played.clients)},
    }

  def _rejected(self, played: loop.Round) -> dict[str, int]:
    adversaries = self._setup.split.adversaries if self._config.attack != "none" else []
    return federated_run.rejected(played, np.isin(played.cohort, adversaries))

  def on_round(self, played: loop.Round, metrics: dict[str, Any]) -> None:
    """Writes the round's metrics and, now and then, a picture with its scores."""
    number = played.number
    self._results.release("confusion", {"confusion": self._confusion}, number)
    self._results.release("metrics", metrics, number)
    last = number + 1 == self._config.rounds
    if self._config.attack == "crpa" and (last or (number + 1) % self._config.image_every == 0):
      self._show(number, played.clients)

  def _show(self, round_number: int, clients: Sequence[ClientState]) -> None:
    images = self._generate(clients)
    train = self._dataset.train
    quality = reconstruction.quality(
      images, train.images, train.labels, self._config.reconstruct, self._judge.classify
    )
    self._results.release("reconstruction", quality._asdict(), round_number)
    common.picture(images, self._results.images / f"round_{round_number + 1:04d}.png")

  def _generate(self, clients: Sequence[ClientState]) -> np.ndarray:
    weights = clients[self._setup.split.adversary].attack.generator
    return generation.generate(self._generator, weights, self._noise)

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Draws the figures and returns the summary."""
    config, dataset = self._config, self._dataset
    folder = self._results.folder
    metrics = self._results.read("metrics")
    summary = {
      **metrics.drop(columns="seconds").tail(1).to_dict("records")[0],
      "round": config.rounds - 1,
      "best_test_accuracy": metrics["test_accuracy"].max(),
      "best_attack_accuracy": metrics["attack_accuracy"].max(),
      "diverged_round": _first(~np.isfinite(metrics["test_loss"])),
      "seconds_per_round": float(metrics["seconds"].median()),
      "seed": config.seed,
      "published_average_attack_accuracy": published.average_attack_accuracy(config),
    }
    if config.privacy != "none":
      federated_run.release_privacy(folder, self._setup.privacy.statement(config.rounds))
      summary["noise_multiplier"] = self._setup.privacy.mechanism.noise_multiplier
    if config.attack != "none":
      adversary = progress.clients[self._setup.split.adversary]
      summary["attack_started"] = bool(adversary.attack.started[0])
    if config.attack == "crpa":
      test = dataset.test
      self._results.write_arrays(
        "reconstructions",
        generated=self._generate(progress.clients),
        real=test.images[test.labels == config.reconstruct][:_JUDGED],
      )
      quality = self._results.read("reconstruction").iloc[-1].drop("round")
      summary["reconstruction"] = quality.to_dict() | self._judge.about(config.reconstruct)
    plots.draw_all(folder, config.reconstruct, config.poison)
    return summary

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""
    return sentence(self._config, self._setup.split, summary)


def _first(rounds: pd.Series) -> int | None:
  """Number, from 1, of the first round of which something is true; None if there is none."""
  return int(rounds.idxmax()) + 1 if rounds.any() else None


def sentence(config: CRPAConfig, split: partition.Split, summary: dict) -> str:
  """What happened, in one sentence."""
  source, target = config.reconstruct, config.poison
  if summary["diverged_round"]:
    return (
      f"The global model diverged in round {summary['diverged_round']}: its loss is no finite "
      "number, and nothing is measured from there on."
    )
  value = summary.get("published_average_attack_accuracy")
  theirs = "" if value is None else f", in the study {value:.2f}"
  called = (
    f"the global model called up to {summary['best_attack_accuracy']:.0%} of the test images of "
    f"class {source} a {target} (AAA {summary['average_attack_accuracy']:.2f}{theirs}, test "
    f"accuracy at best {summary['best_test_accuracy']:.2f}, at the end "
    f"{summary['test_accuracy']:.2f})"
  )
  if config.attack == "none":
    return f"Without any attack, {called}."
  if not summary["attack_started"]:
    return f"The attack never started, and {called}."
  if config.attack != "crpa":
    return f"With {config.poison_images} injected images ({config.attack}), {called}."
  held = split.table[split.adversary, source]
  quality = summary["reconstruction"]
  success = reconstruction.succeeded(
    *(quality[name] for name in ("recognised", "correlation", "other_correlation"))
  )
  return (
    f"Client {split.adversary}, which {f'held {held} images' if held else 'never held any image'} "
    f"of class {source}, {'' if success else 'tried to '}reconstruct{'ed' if success else ''} it: "
    f"an independent classifier recognises {quality['recognised']:.0%} of its images (of noise "
    f"{quality['recognised_noise']:.0%}), their mean correlates {quality['correlation']:.2f} with "
    f"the class (with any other at most {quality['other_correlation']:.2f}), diversity "
    f"{quality['diversity']:.2f}; meanwhile " + called + "."
  )
