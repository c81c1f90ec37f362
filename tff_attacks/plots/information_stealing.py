"""Figures of one run of GAN information stealing, from its result files alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker
from PIL import Image
from sklearn.metrics import auc, roc_curve

from tff_attacks.plots import common

_MOMENTS = {
  "initial": "before training",
  "reached": "when the attack's accuracy was reached",
  "final": "after the last round",
}
_STYLES = ("-", "--", ":", "-.")
_POINTS = 100
"""Of a curve, at which single rounds can still be told."""
_ROWS = 8
"""Of rounds whose images are shown."""


def draw_all(folder: pathlib.Path, target: int, started: int) -> None:
  """Draws every figure of a results folder into its `images/`.

  Args:
    folder: The results folder.
    target: Class that the adversary reconstructs.
    started: Round, from 0, in which the attack began; negative if it did not.
  """
  roc(folder)
  scores(folder, started)
  if started >= 0:
    distance(folder, target)
    progress(folder, target)
    common.reconstructions(folder, target)


def roc(folder: pathlib.Path) -> None:
  """ROC of each class against all others at several moments (the paper's Figure 6)."""
  files = {name: folder / f"scores_{name}.npz" for name in _MOMENTS}
  files = {name: path for name, path in files.items() if path.exists()}
  figure, axes = plt.subplots(
    1, len(files), figsize=(5.5 * len(files), 5.2), layout="constrained", squeeze=False
  )
  for axis, (name, path) in zip(axes.flat, files.items(), strict=True):
    with np.load(path) as arrays:
      labels, probabilities = arrays["labels"], arrays["probabilities"]
    classes = np.unique(labels)
    drawn = classes.size > 1 and np.isfinite(probabilities).all()
    for i, label in enumerate(classes if drawn else []):
      false, true, _ = roc_curve(labels == label, probabilities[:, label])
      axis.plot(
        false, true, color=plt.get_cmap("viridis")(i / classes.size),
        linestyle=_STYLES[i % len(_STYLES)], label=f"class {label}: AUC {auc(false, true):.3f}",
      )  # fmt: skip
    axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axis.set(
      xlabel="false positive rate", ylabel="true positive rate", title=_MOMENTS[name], aspect=1
    )
    if drawn:
      axis.legend(fontsize=8, loc="lower right")
  figure.suptitle("ROC of the global model on the test set, each class against all others")
  common.save(figure, folder, "roc")


def scores(folder: pathlib.Path, started: int) -> None:
  """Accuracy and macro scores per round, the attack marked (the paper's Figures 7 and 9)."""
  metrics = pd.read_csv(folder / "metrics.csv")
  rounds = metrics["round"] + 1
  window = len(metrics) // _POINTS or 1  # Of hundreds of rounds four curves would be a block.
  figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
  for (name, label), style in zip(
    {
      "test_accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1"
    }.items(),
    _STYLES, strict=True,
  ):  # fmt: skip
    values = metrics[name].rolling(window, center=True, min_periods=1).mean()
    axes.plot(rounds, values, linestyle=style, label=label)
  if started >= 0:
    axes.axvline(started + 1, color="0.3")
    axes.annotate(
      f"attack from round {started + 1} on", (started + 1, 0.02), xytext=(4, 0),
      textcoords="offset points", bbox={"color": "white", "pad": 1},
    )  # fmt: skip
  axes.set(
    xlabel="round",
    ylabel="score on the test set",
    ylim=(-0.02, 1.02),
    title="Global model; precision, recall and F1 are means over the classes"
    + (f"; all over {window} rounds" if window > 1 else ""),
  )
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
  common.save(figure, folder, "scores")


def distance(folder: pathlib.Path, target: int) -> None:
  """Distance of the reconstructions to the target class per round (the paper's Figure 8)."""
  quality = pd.read_csv(folder / "reconstruction.csv")
  figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
  axes.plot(quality["round"] + 1, quality["distance_rms"], "k-")
  finite = quality.dropna(subset="distance_rms")
  if len(finite):  # It may have diverged.
    lowest = finite.loc[finite["distance_rms"].idxmin()]
    axes.plot(lowest["round"] + 1, lowest["distance_rms"], "ko", markerfacecolor="white")
    axes.annotate(
      f"{lowest['distance_rms']:.3f}", (lowest["round"] + 1, lowest["distance_rms"]),
      xytext=(0, -8), textcoords="offset points", ha="center", va="top",
    )  # fmt: skip
  axes.set(
    xlabel="round",
    ylabel="root mean square difference of pixels in [0, 1]",
    title=f"Mean distance between reconstructions and real images of class {target}",
  )
  axes.set_ylim(bottom=0)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  common.save(figure, folder, "distance")


def progress(folder: pathlib.Path, target: int) -> None:
  """Reconstructions over the rounds, from the run's pictures (the paper's Figure 10)."""
  files = sorted((folder / "images").glob("round_*.png"))
  chosen = np.unique(np.linspace(0, len(files) - 1, min(_ROWS, len(files))).round().astype(int))
  figure, axes = plt.subplots(
    len(chosen), 1, figsize=(8, 0.9 * len(chosen) + 0.5), layout="constrained", squeeze=False
  )
  for axis, file in zip(axes[:, 0], (files[i] for i in chosen), strict=True):
    pixels = np.asarray(Image.open(file))
    axis.imshow(pixels[: len(pixels) // 2], cmap="gray", vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
    axis.set_ylabel(f"round {int(file.stem.removeprefix('round_'))}", rotation=0, ha="right")
  figure.suptitle(f"Reconstructions of class {target} from the same noise, round by round")
  common.save(figure, folder, "progress")
