"""Figures of one CRPA run, from its result files alone."""

import pathlib

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.metrics import ConfusionMatrixDisplay

from tff_attacks.metrics import classification
from tff_attacks.plots import common


def draw_all(folder: pathlib.Path, reconstruct: int, poison: int) -> None:
  """Draws every figure of a results folder into its `images/`."""
  attack_accuracy(folder, reconstruct, poison)
  confusion_matrix(folder)
  if (folder / "reconstructions.npz").exists():
    common.reconstructions(folder, reconstruct)


def attack_accuracy(folder: pathlib.Path, reconstruct: int, poison: int) -> None:
  """Attack accuracy per round with its moving average (the CRPA study's Figure 3)."""
  metrics = pd.read_csv(folder / "metrics.csv")
  figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
  rounds = metrics["round"] + 1
  axes.plot(rounds, metrics["attack_accuracy"], color="0.6", marker=".", label="attack accuracy")
  axes.plot(rounds, metrics["attack_accuracy_ema"], "k-", linewidth=2, label="its EMA (0.01)")
  axes.plot(rounds, metrics["test_accuracy"], "C0--", label="test accuracy")
  average = metrics["average_attack_accuracy"].iloc[-1]
  axes.set(
    xlabel="round",
    ylabel="share of test images",
    ylim=(-0.02, 1.02),
    title=f"Class {reconstruct} called {poison} by the global model: AAA {average:.2f}",
  )
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
  common.save(figure, folder, "attack_accuracy")


def confusion_matrix(folder: pathlib.Path) -> None:
  """Confusion matrices: the last round's, and that with the highest attack accuracy."""
  metrics = pd.read_csv(folder / "metrics.csv")
  matrices = classification.read_confusion_matrices(folder / "confusion.csv")
  strongest = int(metrics["attack_accuracy"].fillna(-1).idxmax())
  figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
  for axis, row, name in (
    (axes[0], strongest, "highest attack accuracy"),
    (axes[1], len(metrics) - 1, "last round"),
  ):
    display = ConfusionMatrixDisplay(matrices[row])
    display.plot(ax=axis, cmap="Greys", colorbar=False)
    axis.set_title(f"Global model after round {row + 1} ({name})")
  common.save(figure, folder, "confusion_matrix")
