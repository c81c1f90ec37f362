"""The run of GAN information stealing: federation, rounds, measurements and summary."""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from experiments import data as data_lib
from experiments import federated_run, judging
from experiments.information_stealing_config import InformationStealingConfig
from experiments.options import bad_input
from experiments.runtime_options import Runtime
from models import registry
from tff_attacks import files, generation, keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import information_stealing
from tff_attacks.data import datasets, partition
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, local_training, process
from tff_attacks.metrics import classification, reconstruction
from tff_attacks.plots import common
from tff_attacks.plots import information_stealing as plots
from tff_attacks.simulation import evaluation, loop
from tff_attacks.simulation import results as results_lib

_JUDGED = 100
_REAL = 200


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: Training set, and the test images of the classes that honest users hold.
    data: Each user's images, the adversary's (none) last.
    model_fn: Builds the global model.
    generator: A generator to show images with.
    draw_noise: (number, seed) -> its noise.
    from_logits: Whether the global model's outputs are logits.
    loss_fn: (labels, model output) -> mean cross-entropy.
    parameters: The attack's.
    federation: The TFF process and the functions that make its states.
  """

  dataset: datasets.Dataset
  data: list[Images]
  model_fn: keras_state.ModelFn
  generator: tf.keras.Model
  draw_noise: Any
  from_logits: bool
  loss_fn: local_training.LossFn
  parameters: information_stealing.Parameters
  federation: process.Federation


@bad_input()
def prepare(config: InformationStealingConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data or models cannot be had as asked.
  """
  dataset = data_lib.load(config.dataset, config.data_dir, config.test_images)
  data = _distribute(config, dataset)
  model_fn, _, contract = registry.global_model(
    config.model, dataset.image_shape, dataset.num_classes
  )
  generator = registry.generator(config.generator, dataset.image_shape)
  if contract.num_outputs != dataset.num_classes + 1:
    raise ValueError(f"model: needs {dataset.num_classes + 1} outputs, one for generated images")
  noises = {
    "uniform": information_stealing.uniform_noise,
    "normal": information_stealing.normal_noise,
  }
  draw_noise = noises[config.noise](generator.noise_size)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  adam = functools.partial(local_training.build_optimizer, "adam", beta_1=0.5)
  parameters: Any = information_stealing.Parameters(
    target=config.target,
    generated_images=config.generated_images,
    drawn_images=config.samples_per_round,
    steps=config.generator_steps,
    generator_learning_rate=config.generator_learning_rate,
    total_variation=config.total_variation,
    start_accuracy=config.start_accuracy,
    latest_start=config.latest_start,
  )
  if config.attack == "none":
    attack, parameters = attack_lib.honest(), None
  else:
    attack = information_stealing.information_stealing(
      parameters,
      generator.model_fn,
      draw_noise,
      dataset.num_classes,
      adam(config.generator_learning_rate),
      loss_fn,
      config.generator_batch_size,
    )
  training = local_training.local_training(
    adam(config.learning_rate),
    local_training.plain_gradient(loss_fn),
    config.batch_size,
    config.local_epochs,
    samples_per_round=config.samples_per_round,
    keep_optimizer_state=config.keep_optimizer_state,
  )
  federation = process.build_federation(
    model_fn, training, attack, aggregation.build_aggregator(config.aggregator)
  )
  held = np.unique(np.concatenate([images.labels for images in data]))
  test = dataset.test.take(np.isin(dataset.test.labels, held))
  for label in held:
    if label not in test.labels:
      raise ValueError(f"test_images: no test image of class {label}")
  return Setup(
    dataset._replace(test=test), data, model_fn, generator.model, draw_noise,
    contract.from_logits,
    loss_fn, parameters, federation,
  )  # fmt: skip


def _distribute(config: InformationStealingConfig, dataset: datasets.Dataset) -> list[Images]:
  """One class for each honest user, or the victim's classes; none for the adversary."""
  count = dataset.num_classes
  table = partition.one_class(count, count, config.images_per_class)
  if config.victim_classes:
    table = table[config.victim_classes].sum(axis=0, keepdims=True)
  table = np.pad(table, [(0, 1), (0, 0)])
  rng = np.random.default_rng(config.seed)
  return [dataset.train.take(owned) for owned in partition.assign(dataset.train.labels, table, rng)]


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

  def __init__(self, config, setup: Setup, results: results_lib.Results, weights):
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

  def evaluate(self, server, clients, outcome) -> dict[str, float]:
    """Measures the global model."""
    del outcome
    loss, confusion = self._evaluate(server.weights)
    self._confusion = confusion
    accuracy = classification.accuracy(confusion)
    if accuracy > self._config.start_accuracy and not self._scores("reached").exists():
      self._save_scores("reached", server.weights)
    target = self._config.target
    honest = classification.macro_scores(confusion, predicted_too=False)
    return {
      "test_loss": loss,
      "test_accuracy": accuracy,
      **classification.macro_scores(confusion)._asdict(),
      # Without the additional class, which no test image has.
      **{f"honest_{name}": value for name, value in honest._asdict().items()},
      "target_recall": classification.attack_accuracy(confusion, target, target),
      "attack_started": self._started(clients),
      **{f"training_loss_{i}": float(client.loss) for i, client in enumerate(clients)},
    }

  def _started(self, clients) -> int:
    """The round, from 0, in which the attack began, or -1."""
    return int(clients[-1].attack.started[0]) if self._attacks else information_stealing.NOT_STARTED

  def on_round(self, round_number, server, clients, metrics) -> None:
    """Writes the round's metrics and what the adversary has reconstructed."""
    del server
    self._results.release("confusion", {"confusion": self._confusion}, round_number)
    self._results.release("metrics", metrics, round_number)
    if metrics["attack_started"] == information_stealing.NOT_STARTED:
      return
    images, train = self._generate(clients), self._setup.dataset.train
    quality = reconstruction.quality(
      images, train.images, train.labels, self._config.target, self._judge.classify
    )
    distances = reconstruction.euclidean_distance(images, self._real)
    self._results.release("reconstruction", quality._asdict() | distances._asdict(), round_number)
    since = round_number - metrics["attack_started"]
    if since % self._config.image_every == 0 or round_number + 1 == self._config.rounds:
      common.picture(images, self._results.images / f"round_{round_number + 1:04d}.png")

  def _generate(self, clients) -> np.ndarray:
    weights = clients[-1].attack.generator
    return generation.generate(self._setup.generator, weights, self._noise)

  def _scores(self, name: str):
    return self._results.folder / f"scores_{name}.npz"

  def _save_scores(self, name: str, weights) -> None:
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
