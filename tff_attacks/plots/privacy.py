"""Figures of differential privacy against CRPA, from a sweep's `summary.csv` alone.

AAA is the average attack accuracy: the share of class-G test images that the global
model calls T, averaged over all rounds.
"""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from tff_attacks.plots import study
from tff_attacks.plots.common import grouped_bars, panels, save, show

_NAMES = {
  "none": "no privacy",
  "sgd": "published optimizer",
  "microbatches_clipped": "batches clipped",
  "microbatches": "as published",
  "microbatches_disobeyed": "as published, adversary clips only",
  "records_clipped": "records clipped",
  "records": "noise for records",
  "records_disobeyed": "noise for records, adversary clips only",
  "clients_clipped": "clients clipped",
  "clients": "noise for clients",
}
# Published is one size of it, a multiplier of 0.3.
_OF_ANY_SIZE = _NAMES | {"microbatches": "noise for batches"}
_ROWS = (
  ("aaa", "AAA, mean and standard\ndeviation over the seeds", (0, None)),
  ("test_accuracy", "test accuracy under attack,\nmean of all rounds", (0, 1)),
  ("correlation", "correlation of\nreconstructions with G", (-0.2, 1)),
)
_MARKERS = {"microbatches": "s", "records": "o", "clients": "^"}
_STYLES = {"microbatches": "--", "records": "-", "clients": ":"}


def settings(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """AAA, accuracy and reconstruction of each pair under each privacy (the study's Figure 8)."""
  means = study.table(summary, [*study.PAIR, "alpha", "setting"])
  alphas = sorted(means.index.unique("alpha"))
  pairs = means.index.droplevel(["alpha", "setting"]).unique()
  kinds = [name for name in _NAMES if name in means.index.unique("setting")]
  figure, axes = plt.subplots(
    len(_ROWS), len(alphas), figsize=(2 + 5 * len(alphas), 9), layout="constrained",
    sharey="row", squeeze=False,
  )  # fmt: skip
  for column, alpha in enumerate(alphas):
    most = means.xs(alpha, level="alpha")["runs"].max()
    for i, kind in enumerate(kinds):
      rows = means.xs((alpha, kind), level=("alpha", "setting")).reindex(pairs)
      for axis, (name, _, _) in zip(axes[:, column], _ROWS, strict=True):
        errors = rows["aaa_std"] if name == "aaa" else None
        at = grouped_bars(axis, i, len(kinds), rows[name], errors, _NAMES[kind])
        for x, diverged, runs in zip(at, rows["diverged"], rows["runs"], strict=True):
          if not diverged > 0:
            continue
          _tell_at_top(axis, _of_runs(diverged, runs), x)
      tops = np.fmax(rows["aaa"], rows["no_attack"]).where(rows["diverged"] == 0)
      for x, top, runs in zip(at, tops, rows["runs"], strict=True):
        if runs < most and not np.isnan(top):
          axes[0, column].annotate(
            f"{runs:.0f} of {most:.0f} seeds", (x, top), xytext=(0, 5), textcoords="offset points",
            rotation=90, ha="center", va="bottom", fontsize=7,
          )  # fmt: skip
      axes[0, column].plot(at, rows["no_attack"], "wD", markeredgecolor="black", markersize=5)
    axes[0, column].set(title=f"alpha = {alpha:g}")
    axes[-1, column].set(
      xticks=range(len(pairs)),
      xticklabels=[study.pair_name(pair) for pair in pairs],
      xlabel="pair G → T",
    )
  for axis in axes[:-1].flat:
    axis.set(xticks=[])
  for axis, (_, label, limits) in zip(axes[:, 0], _ROWS, strict=True):
    axis.set(ylabel=label, ylim=limits)
  axes[0, 0].plot([], [], "wD", markeredgecolor="black", label="without any attack")
  handles, labels = axes[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=1 + 2 * len(alphas))
  figure.suptitle(f"{summary['dataset'].iloc[0]}: CRPA under differential privacy")
  save(figure, folder, "settings")


def _of_runs(diverged: float, runs: float) -> str:
  return "diverged" if diverged == runs else f"{diverged:.0f} of {runs:.0f} diverged"


def images(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """The final reconstructions of each pair under each privacy, above real images."""
  attacked = summary[summary["attack"] == "crpa"].sort_values("seed")
  kinds = [name for name in _NAMES if (attacked["setting"] == name).any()]
  cells = sorted(set(map(tuple, attacked[[*study.PAIR, "alpha"]].to_numpy())))
  size = (max(2.2 + 1.3 * len(cells), 5.5), 1 + 1.3 * len(kinds))  # As wide as its title.
  figure, axes = panels(len(kinds) + 1, len(cells), size)
  for axis, name in zip(axes[:, 0], [*map(_NAMES.get, kinds), "real G"], strict=True):
    axis.set_ylabel(name, rotation=0, ha="right", va="center")
  for column, (g, t, alpha) in enumerate(cells):
    axes[0, column].set_title(f"{study.pair_name((int(g), int(t)))}\nalpha = {alpha:g}")
    of_cell = attacked[(attacked[[*study.PAIR, "alpha"]] == (g, t, alpha)).all(axis=1)]
    for row, kind in enumerate(kinds):
      if not (runs := of_cell[of_cell["setting"] == kind]).empty:
        show(axes[row, column], folder / "runs" / runs["run"].iloc[0])
    show(axes[-1, column], folder / "runs" / of_cell["run"].iloc[0], "real")
  figure.suptitle("Reconstructions of class G after the last round (first seed)")
  save(figure, folder, "images_over_settings")


def frontier(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """Accuracy and AAA over epsilon, above the first pair's reconstructions under each noise.

  Without any run with noise there is no figure.
  """
  attacked = summary[summary["attack"] == "crpa"].sort_values(["noise_multiplier", "seed"])
  kinds = [name for name in _MARKERS if (attacked["setting"] == name).any()]
  if not kinds:
    return
  figure = plt.figure(figsize=(12, 4.5 + 1.5 * len(kinds)), layout="constrained")
  parts: Any = figure.subfigures(2, 1, height_ratios=(4, 1.5 * len(kinds)))
  curves, strips = parts
  axes = curves.subplots(1, 2)
  accuracy = "test accuracy under attack, mean of all rounds"
  _over_epsilon(axes[0], attacked, kinds, "mean_test_accuracy", accuracy)
  _over_epsilon(axes[1], attacked, kinds, study.AAA, "AAA")
  axes[1].plot([], [], "o", color="0.7", label="under noise, without any attack")
  axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
  noises = [0.0, *sorted(n for n in attacked["noise_multiplier"].dropna().unique() if n > 0)]
  first = attacked.iloc[0]
  of_pair = attacked[(attacked[study.PAIR] == first[study.PAIR]).all(axis=1)]
  _strips(strips.subplots(len(kinds), len(noises), squeeze=False), of_pair, kinds, noises, folder)
  pairs = attacked[study.PAIR].drop_duplicates()
  named = ", ".join(study.pair_name(pair) for pair in pairs.itertuples(index=False, name=None))
  figure.suptitle(
    f"{first['dataset']}, {named}: what noise costs; reconstructions of class "
    f"{first['reconstruct']} after the last round"
  )
  save(figure, folder, "frontier")


def _over_epsilon(
  axis: plt.Axes, attacked: pd.DataFrame, kinds: list[str], name: str, label: str
) -> None:
  """A value under each noise, and without noise; of AAA also what it is without attack.

  Means over the pairs and seeds, and the standard deviation over the seeds.
  """
  for kind in kinds:
    noised = attacked[(attacked["setting"] == kind) & (attacked["noise_multiplier"] > 0)]
    points = noised.groupby("noise_multiplier")
    of_seeds = noised.groupby(["noise_multiplier", "seed"])[[name, "epsilon", "no_attack"]].mean()
    over_seeds = of_seeds.groupby(level="noise_multiplier")
    means, spread = over_seeds.mean(), over_seeds[name].std()
    axis.errorbar(
      means["epsilon"], means[name], spread if spread.notna().any() else None, capsize=2,
      color="black", linestyle=_STYLES[kind], marker=_MARKERS[kind], markerfacecolor="white",
      label=_OF_ANY_SIZE[kind],
    )  # fmt: skip
    if name == study.AAA:
      axis.plot(means["epsilon"], means["no_attack"], _MARKERS[kind], color="0.7")
    gone = points[name].agg(lambda values: values.isna().sum())
    # Of AAA, what there is without any attack stands there.
    for noise in gone.index[gone > 0] if name != study.AAA else ():
      text = f"{_OF_ANY_SIZE[kind]}: {_of_runs(gone[noise], points.size()[noise])}"
      _tell(axis, text, means["epsilon"][noise], means[name][noise])
  for kind, style in (("none", "-"), ("sgd", "--")):
    free = attacked[attacked["setting"] == kind]
    if not free.empty:
      level = free[name].mean()
      if np.isnan(level):
        axis.plot([], [], " ", label=f"{_NAMES[kind]}: diverged")
        continue
      axis.axhline(level, color="0.6", linestyle=style, label=_NAMES[kind])
      if name == study.AAA:
        alone = free["no_attack"].where(free[name].notna()).mean()
        axis.axhline(alone, color="0.8", linestyle=style, label="the same without any attack")
  axis.set(xscale="log", xlabel="epsilon (of a record; triangles: of a client)", ylabel=label)
  axis.set_ylim(bottom=0)


def _tell(axis: plt.Axes, text: str, x: float, y: float) -> None:
  """Says how many diverged: below the mean of the others, or at the top if there is none."""
  if np.isnan(y):
    _tell_at_top(axis, text, x)
  else:
    axis.annotate(
      text, (x, y), xytext=(0, -12), textcoords="offset points", ha="center", fontsize=7
    )


def _tell_at_top(axis: plt.Axes, text: str, x: float) -> None:
  axis.annotate(
    text, (x, 0.98), xycoords=("data", "axes fraction"), ha="center", va="top", rotation=90,
    fontsize=7, bbox={"color": "white", "pad": 1},
  )  # fmt: skip


def _strips(
  axes: np.ndarray, runs: pd.DataFrame, kinds: list[str], noises: list[float], folder: pathlib.Path
) -> None:
  """Reconstructions of one pair, a row for each kind of noise and a column for each size."""
  for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
  for axis, noise in zip(axes[0], noises, strict=True):
    axis.set_title(f"multiplier {noise:g}" if noise else "clipped, no noise", fontsize=9)
  for row, kind in zip(axes, kinds, strict=True):
    row[0].set_ylabel(_OF_ANY_SIZE[kind])
    for axis, noise in zip(row, noises, strict=True):
      one = runs[(runs["setting"] == kind) & (runs["noise_multiplier"] == noise)]
      if one.empty:
        continue
      show(axis, folder / "runs" / one["run"].iloc[0])
      if noise:
        value = one["epsilon"].iloc[0]
        axis.set_xlabel(
          f"epsilon {value:,.0f}" if value >= 10 else f"epsilon {value:.2g}", fontsize=8
        )
