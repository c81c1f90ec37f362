"""The run: gradients of stacked images are inverted, and models asked what the pictures are."""

import itertools
import os
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
import tqdm

from experiments import adversarial_leakage_report as report
from experiments import adversarial_leakage_setup
from experiments.adversarial_leakage_config import AdversarialLeakageConfig
from experiments.adversarial_leakage_setup import Setup, classify
from tff_attacks import keras_state
from tff_attacks.data.datasets import Dataset, Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import functional, gradient_matching, labels, leakage, search
from tff_attacks.metrics import leakage as metrics
from tff_attacks.plots import adversarial as plots
from tff_attacks.simulation.results import Results, environment

_NOISE = 1000
_TENSORS = {"all": {}, "alike": {"alike": True}, "largest": {"largest": 10}}


class Attempt(NamedTuple):
  """One image, to be reconstructed in one way.

  Attributes:
    image: Its index in the test set.
    labels: `right`, the true one, or `wrong`.
    stack: Copies of it in the batch.
    total_variation: Weight of the smoothness prior.
    tensors: How gradients are compared.
  """

  image: int
  labels: str
  stack: int
  total_variation: float
  tensors: str


def run(config: AdversarialLeakageConfig, setup: Setup, results: Results) -> int:
  """Trains and attacks what is still to do, and returns the exit status."""
  print(f"Results: {results.folder}")
  models = {
    name: adversarial_leakage_setup.train(config, setup, name, results) for name in setup.networks
  }
  test = setup.dataset.test
  called = {name: classify(model, test.images) for name, model in models.items()}
  accuracy = {name: float(np.mean(calls == test.labels)) for name, calls in called.items()}
  print("Test accuracy: " + ", ".join(f"{name} {share:.3f}" for name, share in accuracy.items()))
  chosen = _choose(config, called[config.model] == test.labels)
  if not chosen.size:
    print(f"The target calls no test image {_CALLS[config.choose]}.")
    return 1

  kinds = ["right", *(["wrong"] if config.control else [])]
  attempts = [
    Attempt(*values)
    for values in itertools.product(
      chosen.tolist(), kinds, config.stacks, config.total_variations, config.tensors
    )
  ]
  done = set(_scores(results)["round"])
  attacks = _attacks(config, setup)
  noise = _calls_of_noise(config, models[config.model], setup)
  with tqdm.tqdm(
    total=len(attempts) * config.steps, initial=len(done) * config.steps, unit="step"
  ) as bar:
    for number, attempt in enumerate(attempts):
      if number in done:
        continue
      label = _label(config, attempt, setup.dataset, called[config.model])
      started = time.monotonic()
      attack = attacks[attempt.total_variation, attempt.tensors]
      observation = _observe(config, setup, models[config.model], attempt, label)
      seed = int(np.random.SeedSequence([config.seed, attempt.image]).generate_state(1)[0])
      found = attack(observation, seed, _watch(attempt, bar))
      row = {
        **attempt._asdict(),
        "true": test.labels[attempt.image],
        "called": called[config.model][attempt.image],
        "label": label,
        "noise": noise[label],
        **_judge(config, models, found.images, label),
        **{f"{name}_image": int(called[name][attempt.image] == label) for name in config.transfer},
        **_likeness(found.images, attempt, test),
        "loss": found.losses.min(),
        "seconds": time.monotonic() - started,
      }
      results.write_arrays(
        f"found_{number}",
        found=found.images,
        probabilities=_probabilities(models[config.model], found.images),
        true=test.images[attempt.image],
      )
      results.release("scores", row, number)
  return _finish(config, accuracy, results)


_CALLS = {"misclassified": "wrongly", "correct": "rightly"}


def _choose(config, right: np.ndarray) -> np.ndarray:
  """Indices of the test images to reconstruct."""
  wanted = np.flatnonzero(right if config.choose == "correct" else ~right)
  if wanted.size < config.images:
    print(f"The target calls only {wanted.size} test images {_CALLS[config.choose]}.")
  return np.random.default_rng(config.seed).permutation(wanted)[: config.images]


def _scores(results: Results) -> pd.DataFrame:
  """The attempts so far; `round` is the number of the attempt."""
  path = results.folder / "scores.csv"
  if not path.exists():
    return pd.DataFrame({"round": []})
  return pd.read_csv(path, float_precision="round_trip")


def _calls_of_noise(config, target: tf.keras.Model, setup: Setup) -> np.ndarray:
  """Share of noise, where searches start, that the target takes for each class."""
  shape = [_NOISE, *setup.dataset.image_shape]
  noise = np.random.default_rng(config.seed).standard_normal(shape).astype(np.float32)
  return np.bincount(classify(target, noise), minlength=setup.dataset.num_classes) / _NOISE


def _label(config, attempt: Attempt, dataset: Dataset, called: np.ndarray) -> int:
  """The label whose gradient is inverted."""
  true = int(dataset.test.labels[attempt.image])
  if attempt.labels == "right":
    return true
  others = set(range(dataset.num_classes)) - {true, int(called[attempt.image])}
  return int(np.random.default_rng([config.seed, attempt.image]).choice(sorted(others)))


def _attacks(config, setup: Setup) -> dict[tuple[float, str], leakage.Reconstruct]:
  """By smoothness and tensors: attempts that differ in neither share what an attack compiles."""
  return {
    (variation, tensors): gradient_matching.inverting_gradients(
      setup.networks[config.model].model_fn,
      labels.given,
      config.steps,
      total_variation=variation,
      box=config.box,
      **_TENSORS[tensors],
    )
    for variation, tensors in itertools.product(config.total_variations, config.tensors)
  }


def _observe(config, setup: Setup, target: tf.keras.Model, attempt: Attempt, label: int):
  """The mean gradient of the stacked image, and its label, which is known."""
  batch = Images(
    np.repeat(setup.dataset.test.images[[attempt.image]], attempt.stack, axis=0),
    np.full(attempt.stack, label, np.int32),
  )
  weights = ModelWeights(*tf.nest.map_structure(np.asarray, tuple(keras_state.read(target))))
  observation = leakage.observe_gradient(
    setup.networks[config.model].model_fn, functional.inference_gradient, weights, batch
  )
  return observation._replace(labels=batch.labels)


def _watch(attempt: Attempt, bar: tqdm.tqdm) -> search.Watch:
  before = bar.n

  def watch(step, loss, images):
    del images
    bar.set_postfix(stack=attempt.stack, loss=f"{loss:.3g}", refresh=False)
    bar.update(before + step - bar.n)

  return watch


def _judge(config, models, images: np.ndarray, label: int) -> dict[str, float]:
  """How many copies each model calls by the label, and how sure the target is of those."""
  probabilities = _probabilities(models[config.model], images)
  hit = probabilities.argmax(axis=1) == label
  in_range = np.clip(images, -1, 1)
  return {
    "hits": int(hit.sum()),
    "hits_in_range": int((classify(models[config.model], in_range) == label).sum()),
    "confidence": float(probabilities[hit, label].mean()) if hit.any() else np.nan,
    **{
      f"{name}_hits": int((classify(models[name], images) == label).sum())
      for name in config.transfer
    },
  }


def _probabilities(model, images: np.ndarray) -> np.ndarray:
  return np.exp(functional.log_probabilities(model, images))


def _likeness(images: np.ndarray, attempt: Attempt, test: Images) -> dict[str, float]:
  """Of copies, in range, to their image."""
  true = test.take(np.repeat(attempt.image, len(images)))
  scores = metrics.score(np.clip(images, -1, 1), true, test)
  return {name: getattr(scores, name) for name in ("psnr", "ssim", "identified")}


def _finish(config, accuracy: dict[str, float], results: Results) -> int:
  """Writes tables, pictures and the summary."""
  scores = _scores(results)
  table = report.settings(scores)
  text = "\n".join(report.describe(config, scores, accuracy))
  (results.folder / "report.md").write_text(text + "\n")
  plots.draw(results.folder)
  summary = {"accuracy": accuracy, "settings": table.to_dict("records"), "seed": config.seed}
  results.write_json("summary", summary | environment([os.getpid()]))
  print(text)
  print(f"Pictures: {results.images}")
  return 0
