"""Figures of one CRPA run, from its result files alone."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import ConfusionMatrixDisplay

from tff_attacks.metrics import classification


def draw_all(folder: pathlib.Path, reconstruct: int, poison: int) -> None:
  """Draws every figure of a results folder into its `images/`."""
  attack_accuracy(folder, reconstruct, poison)
  confusion_matrix(folder)
  if (folder / "reconstructions.npz").exists():
    reconstructions(folder, reconstruct)


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
  _save(figure, folder, "attack_accuracy")


def confusion_matrix(folder: pathlib.Path) -> None:
  """Confusion matrices: the last round's, and that with the highest attack accuracy."""
  metrics = pd.read_csv(folder / "metrics.csv")
  matrices = classification.read_confusion_matrices(folder / "confusion.csv")
  strongest = int(metrics["attack_accuracy"].idxmax())
  figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
  for axis, row, name in (
    (axes[0], strongest, "strongest attack"),
    (axes[1], len(metrics) - 1, "last round"),
  ):
    display = ConfusionMatrixDisplay(matrices[row])
    display.plot(ax=axis, cmap="Greys", colorbar=False)
    axis.set_title(f"Global model after round {row + 1} ({name})")
  _save(figure, folder, "confusion_matrix")


def reconstructions(folder: pathlib.Path, reconstruct: int) -> None:
  """The adversary's reconstructions above real images of the class it never saw."""
  with np.load(folder / "reconstructions.npz") as arrays:
    generated, real = arrays["generated"], arrays["real"]
  columns = 12
  figure, axes = plt.subplots(2, 1, figsize=(10, 4.6), layout="constrained")
  for axis, images, name in (
    (axes[0], generated, f"Reconstructions of class {reconstruct} by the adversary"),
    (axes[1], real, f"Real images of class {reconstruct}"),
  ):
    axis.imshow(grid(images[: 2 * columns], columns), cmap="gray", vmin=0, vmax=1)
    axis.set_title(name)
    axis.axis("off")
  _save(figure, folder, "reconstructions")


def picture(images: np.ndarray, path: pathlib.Path) -> None:
  """Writes the first 24 images, float in [-1, 1], as two rows of a picture of their size."""
  pixels = (grid(images[:24], columns=12) * 255).astype(np.uint8)
  Image.fromarray(pixels.squeeze()).save(path)


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Puts images side by side, a pixel apart.

  Args:
    images: float `[n, height, width, channels]` in [-1, 1].
    columns: Images in a row; the last row is filled up with white.

  Returns:
    float `[rows * (height + 2), columns * (width + 2), channels]` in [0, 1].
  """
  missing = -len(images) % columns
  images = np.pad(images, [(0, missing), (1, 1), (1, 1), (0, 0)], constant_values=1.0)
  n, height, width, channels = images.shape
  rows = images.reshape(n // columns, columns, height, width, channels)
  rows = rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, channels)
  return np.clip((rows + 1) / 2, 0, 1)


def _save(figure, folder: pathlib.Path, name: str) -> None:
  figure.savefig(folder / "images" / f"{name}.png", dpi=120)
  plt.close(figure)
