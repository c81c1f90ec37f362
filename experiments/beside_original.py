"""This project and a checkout of the published Keras code, run on the same images."""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pandas as pd
import tqdm

from experiments import crpa_config, data, original_crpa, program, tables
from experiments.options import shared, validate
from tff_attacks.metrics.classification import LATE_ROUNDS
from tff_attacks.plots import study as plots

_CONFIGS = {"original_crpa": original_crpa.OriginalConfig, "crpa": crpa_config.CRPAConfig}
_NAMES = {"original_crpa": "published code", "crpa": "ours"}
_WINDOW = 5
_COSTS = ("seconds_per_round", "peak_memory_mb")
_OTHER_IMAGES = [
  "For T = 0 the attacks are not the same: the GAN of the published code trains on the images of "
  "client 0, though client 3 attacks; ours on those of client 3.",
  "",
]


def check(config: Any) -> None:
  """Checks a `compare.CompareConfig` before anything runs.

  Raises:
    ConfigError: If options, or the checkout, are not fit.
  """
  original, ours = (_CONFIGS[name](**_options(config, name)) for name in _CONFIGS)
  validate(original)
  crpa_config.check(ours)
  original_crpa.load_source(original)
  data.check(config)


def compare(config: Any, folder: pathlib.Path) -> list[str]:
  """Runs what is missing, in turn, and describes it as lines of Markdown."""
  seeds = range(config.seed, config.seed + config.repetitions)
  runs = {(name, seed): folder / f"{name}_seed{seed}" for seed in seeds for name in _CONFIGS}
  for (name, seed), path in tqdm.tqdm(runs.items(), unit="run"):
    if not (path / "summary.json").exists():
      _run(config, name, seed, path)
  measured = pd.DataFrame({key: _measure(path) for key, path in runs.items()}).T
  measured.index.names = ["code", "seed"]
  measured.to_csv(folder / "original.csv")
  means, stds = (getattr(measured.groupby("code"), f)() for f in ("mean", "std"))
  rows = []
  for column in measured:
    cells = [f"{means.loc[c, column]:.3f}" for c in _CONFIGS]
    if config.repetitions > 1:
      cells = [f"{means.loc[c, column]:.3f} +/- {stds.loc[c, column]:.3f}" for c in _CONFIGS]
    difference = abs(means[column].diff().iloc[-1])
    allowed = max(2 * stds[column].max(), 0.05)
    verdict = "yes" if difference <= allowed else "**no**"
    if column in _COSTS or config.repetitions < 2:
      verdict = ""
    rows.append((column.replace("_", " "), *cells, verdict))
  head = ("", "original", "ours", "within max(2 standard deviations, 0.05)?")
  pair = f"{config.reconstruct} -> {config.poison}"
  return [
    f"## Beside the published code: {config.dataset}, {pair}, {config.repetitions} runs each",
    "",
    *tables.markdown(head, rows),
    "",
    _curves(runs, folder),
    "",
    "Seconds of ours are training, aggregation and evaluation; those of the original hold its "
    "second evaluation and its figures, too.",
    "",
    *_OTHER_IMAGES * (config.poison == 0),
  ]


def _curves(runs: dict[tuple[str, int], pathlib.Path], folder: pathlib.Path) -> str:
  """Draws both curves of test accuracy and says how often they agree."""
  values: dict[str, list[pd.Series]] = {}
  for (name, _), path in runs.items():
    values.setdefault(name, []).append(pd.read_csv(path / "metrics.csv")["test_accuracy"])
  curves = {name: np.array(several) for name, several in values.items()}
  plots.accuracy_curves({_NAMES[name]: curve for name, curve in curves.items()}, folder)
  smooth = [
    pd.DataFrame(curve.T).rolling(_WINDOW, center=True, min_periods=1).mean().to_numpy()
    for curve in curves.values()
  ]
  means = [curve.mean(axis=1) for curve in smooth]
  stds = [curve.std(axis=1, ddof=min(1, curve.shape[1] - 1)) for curve in smooth]
  allowed = np.maximum(2 * np.maximum(*stds), 0.05)
  share = np.mean(np.abs(means[0] - means[1]) <= allowed)
  return (
    f"The accuracy curves (means of {_WINDOW} rounds, `images/accuracy_curves.png`) differ by at "
    f"most max(2 standard deviations, 0.05) in {share:.0%} of the rounds."
  )


def _options(config: Any, name: str) -> dict[str, Any]:
  """The options of a run of `original_crpa` or `crpa`, as far as `compare` has them."""
  options = shared(config, _CONFIGS[name])
  if name == "crpa":
    # As the published code does: one pass of the GAN, all test images.
    options |= {
      "preset": "small",
      "adversary": "original",
      "generator_steps": 0,
      "test_images": 0,
      "device": "CPU:0",  # The original is kept there.
    }
  return options


def _run(config: Any, name: str, seed: int, folder: pathlib.Path) -> None:
  """Runs one of them in a process of its own; ours goes on if it has begun."""
  options = _options(config, name) | {"seed": seed, "output_dir": str(folder)}
  if name == "crpa" and (folder / "config.yaml").exists():
    options = {"resume": str(folder)}
  elif folder.exists():
    shutil.rmtree(folder)
  program.call(name, options)


def _measure(folder: pathlib.Path) -> dict[str, float]:
  metrics = pd.read_csv(folder / "metrics.csv")
  summary = json.loads((folder / "summary.json").read_text())
  accuracy = metrics["test_accuracy"]
  return {
    "AAA": metrics["attack_accuracy"].mean(),
    "test_accuracy,_all_rounds": accuracy.mean(),
    f"test_accuracy,_last_{LATE_ROUNDS}_rounds": accuracy.tail(LATE_ROUNDS).mean(),
    "test_accuracy,_last_round": accuracy.iloc[-1],
    "seconds_per_round": metrics["seconds"].iloc[2:].median(),
    "peak_memory_mb": summary["peak_memory_mb"],
  }
