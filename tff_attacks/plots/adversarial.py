"""Figures of adversarial images out of a leaked gradient, from result files alone."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from tff_attacks.metrics import adversarial as metrics
from tff_attacks.plots import common

_COLUMNS = 8
_TITLE_WIDTH = 3.2
"""Inches that the longest line above the images takes."""
_GRADIENTS = {
  "true_label": ("", "0.5", "gradient of the true label"),
  "wrong_label": ("///", "0.9", "gradient of a wrong label"),
}
"""Hatch, grey and name of each."""


def draw(folder: pathlib.Path) -> None:
  """Writes all figures of a results folder."""
  scores = pd.read_csv(folder / "scores.csv").dropna(subset="hits")
  scores["setting"] = _names(scores)
  rates(folder, scores)
  for gradient, rows in scores.groupby("gradient"):
    title = f"Reconstructions from the {_GRADIENTS[gradient][2]}"
    reconstructions(folder, rows, f"reconstructions_{gradient}", title)
  true = scores[scores["gradient"] == "true_label"]
  if len(true):
    copies(folder, true)
  failed = true[true["hits"] == 0]
  if len(failed):
    largest = failed[failed["stack"] == failed["stack"].max()]
    reconstructions(folder, largest, "failures", "No copy is called rightly")


def rates(folder: pathlib.Path, scores: pd.DataFrame) -> None:
  """Shares of copies and of images that are called by the gradient's label, by setting.

  With the 95% intervals, what noise reaches, and what independent copies would reach.

  Args:
    folder: The results folder.
    scores: A row an attempt.
  """
  table = metrics.settings(scores)
  table["setting"] = _names(table)
  names = list(dict.fromkeys(table["setting"]))
  gradients = list(dict.fromkeys(table["gradient"]))
  width = 0.8 / len(gradients)
  figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, layout="constrained")
  for shift, gradient in enumerate(gradients):
    rows = table[table["gradient"] == gradient]
    x = np.array([names.index(name) for name in rows["setting"]])
    x = x + (shift - (len(gradients) - 1) / 2) * width
    for axis, name in zip(axes, ("copies", "images"), strict=True):
      _bars(axis, x, width, rows, name)
    label = "independent copies, 1 - (1 - a)^B"
    axes[1].plot(x, rows["images_independent"], "_k", ms=14, mew=2, label=label)
  for axis, title in (
    (axes[0], "(a) reconstructions called by that label"),
    (axes[1], "(b) images with at least one such"),
  ):
    axis.set_xticks(range(len(names)), names)
    axis.set(title=title, ylim=(0, 1.05), xlabel="copies in the batch")
  axes[0].set_ylabel("share, with its 95% interval")
  handles, labels = axes[1].get_legend_handles_labels()
  legend = dict(zip(labels, handles, strict=True))
  figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, fontsize=8)
  common.save(figure, folder, "rates")


def _bars(axis: plt.Axes, x: np.ndarray, width: float, rows: pd.DataFrame, name: str) -> None:
  hatch, colour, label = _GRADIENTS[rows["gradient"].iloc[0]]
  shares = rows[name]
  axis.bar(x, shares, width, color=colour, hatch=hatch, edgecolor="black", label=label)
  errors = np.abs(np.stack([rows[f"{name}_low"], rows[f"{name}_high"]]) - shares.to_numpy())
  axis.errorbar(x, shares, errors, fmt="none", ecolor="black", capsize=3)
  axis.plot(
    x, rows[f"{name}_noise"], "D", label="noise", color="white", markeredgecolor="black",
    clip_on=False, zorder=3,
  )  # fmt: skip


def reconstructions(folder: pathlib.Path, scores: pd.DataFrame, name: str, title: str) -> None:
  """Images above their reconstructions: of each setting the copy with the most of the label.

  Below each stands what the target calls it, and how sure it is: bold, if it is the label.
  """
  shown = list(dict.fromkeys(scores["image"]))[:_COLUMNS]
  settings = list(dict.fromkeys(scores["setting"]))
  figure, axes = _panels(len(settings) + 1, len(shown))
  for row, label in enumerate(["image", *(f"stack {setting}" for setting in settings)]):
    axes[row, 0].set_ylabel(label, fontsize=8)
  for column, image in enumerate(shown):
    for one in scores[scores["image"] == image].itertuples():
      best = axes[1 + settings.index(one.setting), column]
      _show_copies(folder, one, axes[0, column], [best])
  figure.suptitle(f"{title}:\nof each stack the copy with the most of the label", fontsize=8)
  common.save(figure, folder, name)


def copies(folder: pathlib.Path, scores: pd.DataFrame) -> None:
  """A row an image: it, and all copies of its largest stack, by how much they have of the label.

  Args:
    folder: The results folder.
    scores: A row an attempt; of several settings the first is shown.
  """
  largest = scores[scores["stack"] == scores["stack"].max()]
  setting = largest["setting"].iloc[0]
  largest = largest[largest["setting"] == setting]
  shown = largest.drop_duplicates("image").head(_COLUMNS)
  columns = int(largest["stack"].max()) + 1
  figure, axes = _panels(len(shown), columns)
  for row, one in zip(axes, shown.itertuples(), strict=True):
    _show_copies(folder, one, row[0], row[1:])
  figure.suptitle(
    f"Images, and the copies from the gradient of their stack ({setting})", fontsize=8
  )
  common.save(figure, folder, "copies")


def _panels(rows: int, columns: int) -> tuple[plt.Figure, np.ndarray]:
  """A figure and its axes `[rows, columns]`, for an image with a line below it each."""
  return common.panels(rows, columns, (max(1.25 * columns + 0.6, _TITLE_WIDTH), 1.45 * rows + 0.4))


def _show_copies(
  folder: pathlib.Path, one: Any, image_axis: plt.Axes, copy_axes: Sequence[plt.Axes]
) -> None:
  """An attempt's image, and as many copies as there are axes: the one with the most last."""
  with np.load(folder / f"found_{one.round}.npz") as arrays:
    found, true, sure = arrays["found"], arrays["true"], arrays["probabilities"]
  _show(image_axis, true, f"{one.true}, called {one.called}")
  order = sure[:, one.label].argsort()[-len(copy_axes) :]
  for axis, copy in zip(copy_axes, order, strict=True):
    call = sure[copy].argmax()
    _show(axis, found[copy], f"{call} ({sure[copy, call]:.2f})", bold=call == one.label)


def _show(axis: plt.Axes, image: np.ndarray, text: str, bold: bool = False) -> None:
  axis.imshow(np.clip((image + 1) / 2, 0, 1), cmap="gray", vmin=0, vmax=1)
  axis.set_xlabel(text, fontsize=8, fontweight="bold" if bold else "normal")


def _names(scores: pd.DataFrame) -> Sequence[str]:
  """What tells a row's setting from the others, the stack first."""
  parts = [scores["stack"].astype(str)]
  if scores["total_variation"].nunique() > 1:
    parts.append("TV " + scores["total_variation"].map("{:g}".format))
  if scores["tensors"].nunique() > 1:
    parts.append(scores["tensors"])
  return [", ".join(row) for row in zip(*parts, strict=True)]
