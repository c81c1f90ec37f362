"""What several figures need: bars, panels and grids of images, and files to write them to."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from tff_attacks import files

_GREYS = ("0.35", "0.55", "0.75", "0.9", "0.45", "0.65")
_HATCHES = (
  "",
  "//",
  "..",
  "xx",
  "\\\\",
)  # One fewer than the greys: 30 bars before two look alike.


def save(figure: plt.Figure, folder: pathlib.Path, name: str) -> None:
  """Writes a figure to `images/` of a results folder, and closes it."""
  (folder / "images").mkdir(exist_ok=True)
  with files.atomic_write(folder / "images" / f"{name}.png") as path:
    figure.savefig(path, dpi=120)
  plt.close(figure)


def grouped_bars(
  axis: plt.Axes,
  bar: int,
  bars: int,
  heights: pd.Series,
  errors: pd.Series | None = None,
  label: str = "",
) -> np.ndarray:
  """Draws one of the bars that each group has; the groups stand at 0, 1, ...

  Args:
    axis: What to draw on.
    bar: Which one.
    bars: How many a group has.
    heights: Its heights, for each group.
    errors: And their errors; NaN is none.
    label: Its name in the legend.

  Returns:
    Where it stands, for each group.
  """
  width = 0.8 / bars
  at = np.arange(len(heights)) + (bar - (bars - 1) / 2) * width
  axis.bar(
    at, heights, width, yerr=None if errors is None else errors.fillna(0), label=label, capsize=2,
    color=_GREYS[bar % len(_GREYS)], hatch=_HATCHES[bar % len(_HATCHES)], edgecolor="black",
  )  # fmt: skip
  return at


def panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[plt.Figure, np.ndarray]:
  """A figure of so many inches, and its axes `[rows, columns]`, for images."""
  figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
  for axis in axes.flat:
    axis.set(xticks=[], yticks=[], frame_on=False)
  return figure, axes


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
  save(figure, folder, "reconstructions")


def show(axis: plt.Axes, run: pathlib.Path, name: str = "generated") -> None:
  """Draws four of a run's final reconstructions, or of the `real` images beside them."""
  with np.load(run / "reconstructions.npz") as arrays:
    images = arrays[name][:4]
  if np.isfinite(images).all():
    axis.imshow(grid(images, 2), cmap="gray", vmin=0, vmax=1)
  else:
    axis.text(0.5, 0.5, "diverged", ha="center", va="center", transform=axis.transAxes, fontsize=8)


def picture(images: np.ndarray, path: pathlib.Path) -> None:
  """Writes the first 24 images, float in [-1, 1], as two rows of a picture of their size."""
  pixels = (grid(images[:24], columns=12) * 255).astype(np.uint8)
  with files.atomic_write(path) as temporary:
    Image.fromarray(pixels.squeeze()).save(temporary)


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Puts images side by side, two pixels apart.

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
