"""Figures of adversarial images out of a leaked gradient, from result files alone."""

import pathlib
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from tff_attacks.metrics import adversarial as metrics
from tff_attacks.plots import common

_COLUMNS = 8
_KINDS = {
  "right": ("", "0.5", "gradient of the true label"),
  "wrong": ("///", "0.9", "gradient of a wrong label"),
}
"""Hatch, grey and name of each kind of label."""


def draw(folder: pathlib.Path) -> None:
  """Writes all figures of a results folder."""
  scores = pd.read_csv(folder / "scores.csv")
  rates(folder, scores)
  for kind, rows in scores.groupby("labels"):
    title = f"Reconstructions from the {_KINDS[kind][2]}"
    reconstructions(folder, rows, f"reconstructions_{kind}", title)
  failures(folder, scores[scores["labels"] == "right"])


def rates(folder: pathlib.Path, scores: pd.DataFrame) -> None:
  """Shares of copies and of images that are called by the gradient's label, by setting.

  With the 95% intervals, what noise reaches, and what independent copies would reach.
  """
  scores = scores.assign(setting=_names(scores))
  settings = list(dict.fromkeys(scores["setting"]))
  kinds = list(dict.fromkeys(scores["labels"]))
  width = 0.8 / len(kinds)
  figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), sharey=True, layout="constrained")
  for shift, kind in enumerate(kinds):
    groups = [rows for _, rows in scores[scores["labels"] == kind].groupby("setting", sort=False)]
    x = np.arange(len(groups)) + (shift - (len(kinds) - 1) / 2) * width
    stacks = [rows["stack"].iloc[0] for rows in groups]
    found = [
      metrics.rates(rows["hits"].to_numpy(), stack)
      for rows, stack in zip(groups, stacks, strict=True)
    ]
    noise = [rows["noise"].to_numpy() for rows in groups]
    _bars(
      axes[0], x, width, kind,
      [one.copies for one in found],
      [one.copies_interval for one in found],
      [share.mean() for share in noise],
    )  # fmt: skip
    _bars(
      axes[1], x, width, kind,
      [one.images for one in found],
      [one.images_interval for one in found],
      [(1 - (1 - share) ** stack).mean() for share, stack in zip(noise, stacks, strict=True)],
    )  # fmt: skip
    independent = [one.independent for one in found]
    axes[1].plot(x, independent, "_k", ms=14, mew=2, label="independent copies, 1 - (1 - a)^B")
  for axis, title in (
    (axes[0], "(a) reconstructions called by that label"),
    (axes[1], "(b) images with at least one such"),
  ):
    axis.set_xticks(range(len(settings)), settings)
    axis.set(title=title, ylim=(0, 1.05), xlabel="copies in the batch")
  axes[0].set_ylabel("share, with its 95% interval")
  handles, names = axes[1].get_legend_handles_labels()
  legend = dict(zip(names, handles, strict=True))
  figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, fontsize=8)
  common.save(figure, folder / "images", "rates")


def _bars(axis, x, width, kind, shares, intervals, noise) -> None:
  hatch, colour, name = _KINDS[kind]
  axis.bar(x, shares, width, color=colour, hatch=hatch, edgecolor="black", label=name)
  errors = np.abs(np.array(intervals).T - shares)
  axis.errorbar(x, shares, errors, fmt="none", ecolor="black", capsize=3)
  axis.plot(x, noise, "D", color="white", markeredgecolor="black", label="noise")


def reconstructions(folder: pathlib.Path, scores: pd.DataFrame, name: str, title: str) -> None:
  """Images above their reconstructions: of each setting the copy with the most of the label.

  Below each stands what the target calls it, and how sure it is: bold, if it is the label.
  """
  shown = list(dict.fromkeys(scores["image"]))[:_COLUMNS]
  scores = scores.assign(setting=_names(scores))
  settings = list(dict.fromkeys(scores["setting"]))
  figure, axes = plt.subplots(
    len(settings) + 1, len(shown), squeeze=False, layout="constrained",
    figsize=(1.25 * len(shown) + 0.6, 1.45 * (len(settings) + 1) + 0.4),
  )  # fmt: skip
  for axis in axes.flat:
    axis.set(xticks=[], yticks=[], frame_on=False)
  for row, label in enumerate(["image", *settings]):
    axes[row, 0].set_ylabel(label, fontsize=8)
  for column, image in enumerate(shown):
    for one in scores[scores["image"] == image].itertuples():
      with np.load(folder / f"found_{one.round}.npz") as arrays:
        found, true, sure = arrays["found"], arrays["true"], arrays["probabilities"]
      _show(axes[0, column], true, f"{one.true}, called {one.called}")
      best = sure[:, one.label].argmax()
      call = sure[best].argmax()
      axis = axes[1 + settings.index(one.setting), column]
      _show(axis, found[best], f"{call} ({sure[best, call]:.2f})", bold=call == one.label)
  figure.suptitle(title, fontsize=9)
  common.save(figure, folder / "images", name)


def failures(folder: pathlib.Path, scores: pd.DataFrame) -> None:
  """Images without any reconstruction that is called rightly, of the largest stack."""
  failed = scores[(scores["stack"] == scores["stack"].max()) & (scores["hits"] == 0)]
  if len(failed):
    reconstructions(folder, failed, "failures", "No copy is called rightly")


def _show(axis, image: np.ndarray, text: str, bold: bool = False) -> None:
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
