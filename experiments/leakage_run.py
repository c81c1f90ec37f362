"""The run of a reconstruction: rounds of training, then the attack on each victim."""

import collections
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tqdm

from experiments import (
  federated_run,
  leakage_attacks,
  leakage_generator,
  leakage_report,
  leakage_setup,
)
from experiments.leakage_config import ATTACKS, LeakageConfig, sought_images
from experiments.leakage_setup import Setup
from experiments.runtime_options import Runtime
from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.leakage import leakage, search
from tff_attacks.metrics import classification
from tff_attacks.metrics import leakage as metrics
from tff_attacks.plots import leakage as plots
from tff_attacks.simulation import evaluation, loop
from tff_attacks.simulation import results as results_lib

_SECONDS = 1.0
"""Between two looks at the images while they are searched for."""
_SECONDS_TO_PROJECT = 10.0
"""Of searching before it is said how long it would take: a machine may stand still for a moment."""


def run(config: LeakageConfig, setup: Setup, runtime: Runtime, results: results_lib.Results) -> int:
  """Runs the rounds and attacks that are still to do and returns the exit status."""
  print(f"Results: {results.folder}")
  weights = keras_state.initial_weights(setup.model_fn, config.seed)
  clients = [
    setup.federation.initial_client(config.seed, index) for index in range(config.num_clients)
  ]
  return federated_run.run(
    "leakage",
    config,
    setup.federation.process,
    setup.federation.initial_server(weights, config.seed),
    clients,
    runtime.place(setup.data),
    runtime,
    Observer(config, setup, results),
    results,
  )


class _TooLongError(Exception):
  """A search that would take longer than it may."""

  def __init__(self, seconds: float):
    super().__init__(f"it would take {seconds / 60:.0f} minutes")


class Observer:
  """Measures the rounds, then attacks and writes what it finds."""

  def __init__(self, config: LeakageConfig, setup: Setup, results: results_lib.Results):
    self._config = config
    self._setup = setup
    self._results = results
    self._evaluate = evaluation.build_evaluation(setup.model_fn, setup.loss_fn, setup.evaluated)

  def resume(self, completed_rounds: int) -> None:
    """All that it knows is in the files."""

  def evaluate(self, played: loop.Round) -> dict[str, float]:
    """Measures the global model."""
    loss, confusion = self._evaluate(played.server.weights)
    return {"test_loss": loss, "test_accuracy": classification.accuracy(confusion)}

  def on_round(self, played: loop.Round, metrics: dict[str, Any]) -> None:
    """Writes the round's metrics."""
    self._results.release("metrics", metrics, played.number)

  def finish(self, progress: loop.Progress) -> dict[str, object]:
    """Attacks the victims that were not attacked yet, and returns the summary.

    Raises:
      KeyboardInterrupt: If the user asked to stop; what was found by then is written.
    """
    config = self._config
    if progress.interrupted:
      raise KeyboardInterrupt
    generator, auxiliary = self._setup.generator, self._setup.auxiliary
    if generator is not None and auxiliary is not None:
      leakage_generator.train(config, generator, auxiliary, self._results)
    for victim in range(config.victims):
      scores = self._results.read("scores")
      if victim in scores["round"].tolist():
        continue
      if "not_run" in scores and scores["not_run"].notna().any():  # Nor would this one be.
        self._results.release("scores", {"not_run": scores["not_run"].dropna().iloc[0]}, victim)
        continue
      with loop.deferred_interrupt() as interrupted:
        self._attack(progress, victim, interrupted)
      if interrupted:
        raise KeyboardInterrupt
    scores = self._results.read("scores")
    loss, confusion = self._evaluate(progress.server.weights)
    return {
      "rounds": progress.rounds,
      "test_loss": loss,
      "test_accuracy": classification.accuracy(confusion),
      **scores.drop(columns="round").mean(numeric_only=True).to_dict(),
      **{name: scores[name].dropna().iloc[0] for name in ("not_run", "failed") if name in scores},
      "victims": len(scores),
      **leakage_report.of_run(config),
      **{
        f"{name}_victims": int(scores[name].notna().sum()) if name in scores else 0
        for name in ("failed", "not_run")
      },
      "seed": config.seed,
    }

  def _attack(self, progress: loop.Progress, victim: int, interrupted: Sequence[int]) -> None:
    config, setup = self._config, self._setup
    data = setup.data[victim]
    if config.mode == "gradient":
      data = data.take(np.arange(config.batch_size))
    observation = leakage_setup.observe(
      config, setup, progress.server, progress.clients[victim], data
    )
    if (images := sought_images(config)) is not None:
      observation = leakage.as_one_gradient(observation, images)
    if config.labels == "given":
      observation = observation._replace(labels=data.labels)
    any_scale = ATTACKS[config.attack].any_scale
    seed = int(np.random.SeedSequence([config.seed, victim]).generate_state(1)[0])
    start = time.monotonic()
    try:
      with tqdm.tqdm(total=leakage_attacks.search_steps(config), unit="step") as bar:
        watch = _watch(bar, data.images, interrupted, config.max_minutes, any_scale)
        found = setup.attack(observation, seed, watch)
    except _TooLongError as error:
      self._results.release("scores", {"not_run": str(error)}, victim)
      return
    except leakage.UnusableError as error:  # The client may have diverged.
      if not interrupted:  # Else a resumed run begins this victim anew.
        self._results.release("scores", {"failed": str(error)}, victim)
      return
    seconds = time.monotonic() - start
    compared = metrics.compare(found.images, data, setup.dataset.test, seed, any_scale)
    self._results.write_arrays(
      f"victim_{victim}",
      found=compared.matching.images,
      true=data.images[compared.matching.order],
      any_scale=np.array(any_scale),
      losses=found.losses,
    )
    plots.reconstructions(self._results.folder, victim)
    row = _row(found, compared, data, setup, seconds, bar.n)
    if interrupted:  # The best so far can be looked at; a resumed run begins this victim anew.
      print(f"After {row['steps']} steps: PSNR {row['psnr']:.1f} dB, SSIM {row['ssim']:.2f}.")
    else:
      self._results.release("scores", row, victim)

  def sentence(self, summary: dict[str, Any]) -> str:
    """What happened, in one sentence."""
    config = self._config
    if not config.victims:
      return f"Test accuracy after {summary['rounds']} rounds: {summary['test_accuracy']:.3f}."
    if "psnr" not in summary:
      name = "not_run" if "not_run" in summary else "failed"
      return f"{name.replace('_', ' ').capitalize()}: {summary[name]}."
    seen = "gradient of a batch" if config.mode == "gradient" else "update of a client"
    labels_right = "" if np.isnan(summary["label_accuracy"]) else (
      f", {summary['label_accuracy']:.0%} of the labels right (of a guess "
      f"{summary['guess_label_accuracy']:.0%})"
    )  # fmt: skip
    return (
      f"From the {seen} after {summary['rounds']} rounds (test accuracy "
      f"{summary['test_accuracy']:.2f}) {config.attack} reconstructed images with a PSNR of "
      f"{summary['psnr']:.1f} dB (a random image of the class has {summary['guess_psnr']:.1f}, the "
      f"mean image {summary['mean_psnr']:.1f}), SSIM {summary['ssim']:.2f} "
      f"({summary['guess_ssim']:.2f}, {summary['mean_ssim']:.2f}); "
      f"{summary['reconstructed']:g} of {summary['images']:g} were found, "
      f"{summary['copies'] / summary['reconstructed']:.0%} of them copies above "
      f"{metrics.COPY_DB} dB and {summary['identified']:.0%} nearer to their image than to any "
      f"other of its class{labels_right}."
    )


def _row(
  found: leakage.Reconstruction,
  compared: metrics.Comparison,
  data: Images,
  setup: Setup,
  seconds: float,
  steps: int,
) -> dict[str, float]:
  """A victim in scores.csv."""
  accuracy = guess_accuracy = np.nan
  if (found.labels != leakage.UNKNOWN).all():
    classes = setup.dataset.num_classes
    counts = np.bincount(found.labels, minlength=classes)
    accuracy = metrics.label_accuracy(counts, data.labels)
    guess_accuracy = metrics.guess_label_accuracy(len(found.labels), data.labels, classes)
  nulls = {"guess": compared.guess, "mean": compared.mean}
  return {
    **compared.found._asdict(),
    **{f"{n}_{name}": v for n, scores in nulls.items() for name, v in scores._asdict().items()},
    "label_accuracy": accuracy,
    "guess_label_accuracy": guess_accuracy,
    "reconstructed": len(found.images),
    "copies": compared.found.copied * len(found.images),
    "images": len(data.images),
    "seconds": seconds,
    "steps": steps,
  }


def _watch(
  bar: tqdm.tqdm,
  true: np.ndarray,
  interrupted: Sequence[int],
  max_minutes: float | None,
  any_scale: bool,
) -> Callable[[int, float, Callable], None]:
  """Shows the loss and, now and then, the PSNR; ends the search when the user asks for it.

  Raises:
    _TooLongError: If it is projected to be.
  """
  start = looked = time.monotonic()
  searched = 0.0  # Seconds, without the first ones: the first steps compile.
  looks: collections.deque[tuple[float, int]] = collections.deque()

  def watch(step, loss, images):
    nonlocal looked, searched
    bar.update(step - bar.n)
    now = time.monotonic()
    if now - looked > _SECONDS:
      order, found = metrics.match(images(), true, any_scale)
      psnr = metrics.psnr_of_each(found, true[order]).mean()
      bar.set_postfix(loss=f"{loss:.3g}", psnr=f"{psnr:.1f} dB")
      searched += now - looked if looks else 0
      looks.append((searched, step))
      # How fast it is of late: a search may have phases of different speed.
      while len(looks) > 2 and searched - looks[1][0] > _SECONDS_TO_PROJECT:
        looks.popleft()
      seconds, steps = searched - looks[0][0], step - looks[0][1]
      if max_minutes and seconds > _SECONDS_TO_PROJECT and bar.total:
        left = seconds / steps * (bar.total - step)
        if now - start + left > 60 * max_minutes:
          raise _TooLongError(now - start + left)
      looked = time.monotonic()
    if interrupted:
      raise search.Stop

  return watch
