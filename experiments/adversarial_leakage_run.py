"""The run: gradients of stacked images are inverted, and models asked what the pictures are."""

import itertools
import os
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
import tqdm

from experiments import adversarial_leakage_report as report
from experiments import adversarial_leakage_setup, saved_config
from experiments import report as html
from experiments.adversarial_leakage_config import CALLS, GROWING, AdversarialLeakageConfig
from experiments.adversarial_leakage_setup import Setup, classify
from experiments.options import ConfigError
from tff_attacks import files
from tff_attacks.data.datasets import Dataset, Images
from tff_attacks.leakage import functional, gradient_matching, labels, leakage, search
from tff_attacks.metrics import adversarial
from tff_attacks.metrics import leakage as likeness
from tff_attacks.plots import adversarial as plots
from tff_attacks.runtime import gpus
from tff_attacks.simulation.results import Results, environment

_NOISE = 1000
_TENSORS: dict[str, dict[str, Any]] = {
  "all": {},
  "alike": {"alike": True},
  "largest": {"largest": 10},
}


class Attempt(NamedTuple):
  """One image, to be reconstructed in one way.

  Attributes:
    image: Its index in the test set.
    gradient: `true_label` or `wrong_label`.
    stack: Copies of it in the batch.
    total_variation: Weight of the smoothness prior.
    tensors: How gradients are compared.
  """

  image: int
  gradient: str
  stack: int
  total_variation: float
  tensors: str


class Asked(NamedTuple):
  """Trained models, and what they call what there is before any attack.

  Attributes:
    models: By name.
    target: The name of the one whose gradients leak.
    called: By name what each calls the test images, int `[n]`.
    noise: By name float `[C]`, the share of noise that each takes for each class.
  """

  models: dict[str, tf.keras.Model]
  target: str
  called: dict[str, np.ndarray]
  noise: dict[str, np.ndarray]


def run(config: AdversarialLeakageConfig, setup: Setup, results: Results) -> int:
  """Trains and attacks what is still to do, and returns the exit status."""
  print(f"Results: {results.folder}")
  dataset = setup.dataset
  asked = _ask(config, setup, results)
  right = {name: called == dataset.test.labels for name, called in asked.called.items()}
  accuracy = {name: float(np.mean(one)) for name, one in right.items()}
  print("Test accuracy: " + ", ".join(f"{name} {share:.3f}" for name, share in accuracy.items()))
  attempts = _attempts(config, right[config.model])
  attacks = _attacks(config, setup)
  done = _done(config, attempts, results.read("scores"))
  saved_config.keep_grown(config, GROWING)
  with tqdm.tqdm(
    total=len(attempts) * config.steps, initial=len(done) * config.steps, unit="step"
  ) as bar:
    for number, attempt in enumerate(attempts):
      if number in done:
        continue
      attack = attacks[attempt.total_variation, attempt.tensors]
      row, arrays = _invert(config, dataset, asked, attempt, attack, bar)
      if arrays:
        results.write_arrays(f"found_{number}", **arrays)
      results.release("scores", row, number)
      if number + 1 < len(attempts) and attempts[number + 1].image != attempt.image:
        _report(config, accuracy, results)
  return _finish(config, accuracy, results)


def _ask(config: AdversarialLeakageConfig, setup: Setup, results: Results) -> Asked:
  models = {
    name: adversarial_leakage_setup.train(config, setup, name, results) for name in setup.networks
  }
  called = {name: classify(model, setup.dataset.test.images) for name, model in models.items()}
  noise = {name: _calls_of_noise(config, model, setup) for name, model in models.items()}
  return Asked(models, config.model, called, noise)


def _attempts(config: AdversarialLeakageConfig, right: np.ndarray) -> list[Attempt]:
  """All of them, image by image, so that what is finished early can be compared."""
  wanted = np.flatnonzero(right if config.choose == "correct" else ~right)
  if 0 < wanted.size < config.images:
    print(f"The target calls only {wanted.size} test images {CALLS[config.choose]}.")
  images = np.random.default_rng(config.seed).permutation(wanted)[: config.images]
  gradients = ["true_label", *(["wrong_label"] if config.control else [])]
  settings = (config.stacks, config.total_variations, config.tensors)
  return [Attempt(*one) for one in itertools.product(images.tolist(), gradients, *settings)]


def _done(
  config: AdversarialLeakageConfig, attempts: list[Attempt], scores: pd.DataFrame
) -> set[int]:
  """Numbers of the attempts that are there already.

  Raises:
    ConfigError: If they are of other images: what a model calls an image on the verge may differ
      from one machine to another.
  """
  done = dict(zip(scores["round"], scores.get("image", []), strict=True))
  if any(number >= len(attempts) or attempts[number].image != i for number, i in done.items()):
    raise ConfigError(
      f"resume: here the target calls other images {CALLS[config.choose]}; go on where it began"
    )
  return set(done)


def _attacks(
  config: AdversarialLeakageConfig, setup: Setup
) -> dict[tuple[float, str], leakage.Reconstruct]:
  """By smoothness and tensors: what an attack compiles serves all attempts with these."""
  return {
    (variation, tensors): gradient_matching.inverting_gradients(
      setup.networks[config.model].model_fn,
      labels.given,
      config.steps,
      total_variation=variation,
      box=config.box,
      mean=setup.mean,
      std=setup.std,
      **_TENSORS[tensors],
    )
    for variation, tensors in itertools.product(config.total_variations, config.tensors)
  }


def _calls_of_noise(
  config: AdversarialLeakageConfig, model: tf.keras.Model, setup: Setup
) -> np.ndarray:
  """Share of noise, where searches start, that a model takes for each class."""
  shape = [_NOISE, *setup.dataset.image_shape]
  noise = np.random.default_rng(config.seed).standard_normal(shape).astype(np.float32)
  noise = noise * setup.std + setup.mean
  calls = classify(model, np.clip(noise, -1, 1) if config.box else noise)
  return np.bincount(calls[calls >= 0], minlength=setup.dataset.num_classes) / _NOISE


def _label(
  config: AdversarialLeakageConfig, attempt: Attempt, dataset: Dataset, called: int
) -> int:
  """The label whose gradient is inverted."""
  true = int(dataset.test.labels[attempt.image])
  if attempt.gradient == "true_label":
    return true
  others = set(range(dataset.num_classes)) - {true, int(called)}
  return int(np.random.default_rng([config.seed, attempt.image]).choice(sorted(others)))


def _invert(
  config: AdversarialLeakageConfig,
  dataset: Dataset,
  asked: Asked,
  attempt: Attempt,
  attack: leakage.Reconstruct,
  bar: tqdm.tqdm,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Inverts one gradient and asks all models: the attempt's row, and its arrays."""
  test, target = dataset.test, asked.models[asked.target]
  called = {name: calls[attempt.image] for name, calls in asked.called.items()}
  label = _label(config, attempt, dataset, called[asked.target])
  row = {
    **attempt._asdict(),
    "true": test.labels[attempt.image],
    "called": called.pop(asked.target),
    "label": label,
    "noise": asked.noise[asked.target][label],
    **{f"{name}_noise": asked.noise[name][label] for name in called},
    **{f"{name}_image": int(call == label) for name, call in called.items()},
  }
  started = time.monotonic()
  seed = int(np.random.SeedSequence([config.seed, attempt.image]).generate_state(1)[0])
  try:
    found = attack(_observe(target, test, attempt, label), seed, _watch(attempt, bar))
  except leakage.UnusableError as error:  # A target may be so sure that there is no gradient.
    return row | {"failed": str(error)}, {}
  seconds = time.monotonic() - started
  probabilities = np.exp(functional.log_probabilities(target, found.images))
  hit = probabilities.argmax(axis=1) == label
  row |= _calls(asked, found.images, probabilities, hit, row)
  row["hits_norm"] = _norm_of_hits(target, found.images, hit, label)
  row |= _likeness(found.images, hit, attempt, test)
  row |= {"loss": found.losses.min(), "seconds": seconds}
  image = test.images[attempt.image]
  return row, {"found": found.images, "probabilities": probabilities, "true": image}


def _observe(
  target: tf.keras.Model, test: Images, attempt: Attempt, label: int
) -> leakage.Observation:
  """The mean gradient of the stacked image, and its label, which is known."""
  stacked = Images(
    np.repeat(test.images[[attempt.image]], attempt.stack, axis=0),
    np.full(attempt.stack, label, np.int32),
  )
  observation = leakage.observe_gradient(target, functional.inference_gradient, stacked)
  return observation._replace(labels=stacked.labels)


def _watch(attempt: Attempt, bar: tqdm.tqdm) -> search.Watch:
  before = bar.n

  def watch(step, loss, images):
    del images
    bar.set_postfix(stack=attempt.stack, loss=f"{loss:.3g}", refresh=False)
    bar.update(before + step - bar.n)

  return watch


def _calls(
  asked: Asked, images: np.ndarray, probabilities: np.ndarray, hit: np.ndarray, row: dict[str, Any]
) -> dict[str, float]:
  """What the models call the copies."""
  label = row["label"]
  in_range = classify(asked.models[asked.target], np.clip(images, -1, 1))
  others = {name: model for name, model in asked.models.items() if name != asked.target}
  return {
    "hits": int(hit.sum()),
    "hits_in_range": int((in_range == label).sum()),
    "true_hits": int((probabilities.argmax(axis=1) == row["true"]).sum()),
    "confidence": _mean(probabilities[hit, label]),
    **{f"{n}_hits": int((classify(m, images) == label).sum()) for n, m in others.items()},
  }


def _norm_of_hits(target: tf.keras.Model, images: np.ndarray, hit: np.ndarray, label: int) -> float:
  """The share that copies called by the label have in the sum of the norms of all gradients."""
  soft_label = tf.one_hot([label], target.output_shape[-1])
  gradients = [functional.gradients(target, image[np.newaxis], soft_label) for image in images]
  norms = np.array([tf.linalg.global_norm(gradient) for gradient in gradients])
  return float(norms[hit].sum() / (norms.sum() or 1.0))


def _likeness(
  images: np.ndarray, hit: np.ndarray, attempt: Attempt, test: Images
) -> dict[str, float]:
  """Of the copies to their image."""
  own = test.take(np.repeat(attempt.image, len(images)))
  scores, psnr = likeness.score(images, own, test), likeness.psnr_of_each(images, own.images)
  return {
    "hits_psnr": _mean(psnr[hit]),
    "others_psnr": _mean(psnr[~hit]),
    "ssim": scores.ssim,
    "identified": scores.identified,
  }


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else np.nan


def _report(config: AdversarialLeakageConfig, accuracy: dict[str, float], results: Results) -> str:
  scores = results.read("scores")
  text = "\n".join(report.describe(config, scores, accuracy)) if "hits" in scores else ""
  files.write_text(results.folder / "report.md", text + "\n")
  return text


def _finish(config: AdversarialLeakageConfig, accuracy: dict[str, float], results: Results) -> int:
  """Writes pictures and the summary, and says what was found."""
  scores = results.read("scores")
  if "hits" not in scores:
    failed = scores["failed"].iloc[0] if len(scores) else f"no image that is {config.choose}"
    print(f"Nothing could be reconstructed: {failed}.")
    return 1
  plots.draw(results.folder)
  settings = adversarial.settings(scores.dropna(subset="hits")).to_dict("records")
  summary = {"accuracy": accuracy, "settings": settings, "seed": config.seed}
  summary |= {"device": gpus.default_device(), **environment([os.getpid()])}
  results.write_json("summary", summary)
  print(_report(config, accuracy, results))
  print(f"Report: {html.write(results.folder)}")
  return 0
