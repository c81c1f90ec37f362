"""Figures of the CRPA study over many runs, from a sweep's `summary.csv` alone.

AAA is the average attack accuracy: the share of class-G test images that the global
model calls T, averaged over all rounds.
"""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

from tff_attacks.metrics import classification
from tff_attacks.plots.common import grouped_bars, panels, save, show

AAA = "average_attack_accuracy"
ADDED = "added"
PAIR = ["reconstruct", "poison"]
_POISON = {
  "crpa": "CRPA: the GAN's images",
  "untrained": "of the untrained generator",
  "noise": "uniform noise",
  "other_class": "real, of another class",
  "real": "real images of G",
}


def read(folder: pathlib.Path) -> pd.DataFrame:
  """Reads the summary of a sweep.

  Raises:
    FileNotFoundError: If there is none.
  """
  return pd.read_csv(folder / "summary.csv", float_precision="round_trip")


def table(summary: pd.DataFrame, by: list[str]) -> pd.DataFrame:
  """Means and standard deviations over the seeds of AAA, beside AAA without attack."""
  attacked = _of_same_seeds(summary[summary["attack"] != "none"])
  groups = attacked.groupby(by, sort=False, dropna=False)
  return groups.agg(
    runs=(AAA, "size"),
    diverged=(AAA, lambda aaa: aaa.isna().sum()),
    aaa=(AAA, "mean"),
    aaa_std=(AAA, "std"),
    no_attack=("no_attack", "mean"),
    no_attack_std=("no_attack", "std"),
    test_accuracy=("mean_test_accuracy", "mean"),
    recognised=("recognised", "mean"),
    recognised_noise=("recognised_noise", "mean"),
    correlation=("correlation", "mean"),
    other_correlation=("other_correlation", "mean"),
  ).round(3)


def by_pair(summary: pd.DataFrame) -> pd.DataFrame:
  """Means over the seeds of each attacked pair, indexed by (G, T)."""
  attacked = _of_same_seeds(with_added(summary[summary["attack"] == "crpa"]))
  return attacked.groupby(PAIR)[[AAA, "no_attack", ADDED, "mean_test_accuracy"]].mean()


def with_added(attacked: pd.DataFrame) -> pd.DataFrame:
  """The runs, with what of their AAA is not there without attack."""
  return attacked.assign(**{ADDED: attacked[AAA] - attacked["no_attack"]})


def _of_same_seeds(attacked: pd.DataFrame) -> pd.DataFrame:
  """The runs, without the AAA of their controls where they diverged themselves."""
  return attacked.assign(no_attack=attacked["no_attack"].where(attacked[AAA].notna()))


def three_pairs(aaa: pd.Series) -> list[tuple[int, int]]:
  """The pairs with the lowest value, the one closest to the mean, and the highest."""
  return list(dict.fromkeys([aaa.idxmin(), (aaa - aaa.mean()).abs().idxmin(), aaa.idxmax()]))


def pair_name(pair: tuple[int, int]) -> str:
  """A pair as text."""
  return f"{pair[0]} → {pair[1]}"


def combinations(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """AAA of every pair, with and without attack, as matrices (the study's Figure 4)."""
  means = by_pair(summary)
  dataset, seeds = summary["dataset"].iloc[0], summary["seed"].nunique()
  figure, axes = plt.subplots(1, 2, figsize=(14, 7), layout="constrained")
  top = max(means[AAA].max(), means["no_attack"].max())
  for axis, column, name in (
    (axes[0], AAA, "with the attack"),
    (axes[1], "no_attack", "without any attack"),
  ):
    matrix = means[column].unstack()
    image = axis.imshow(matrix, cmap="Greys", vmin=0, vmax=top)
    for (row, col), value in np.ndenumerate(matrix.to_numpy()):
      if np.isfinite(value):
        color = "white" if value > 0.6 * top else "black"
        axis.text(col, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)
    axis.set(
      xticks=range(matrix.shape[1]),
      xticklabels=matrix.columns,
      yticks=range(matrix.shape[0]),
      yticklabels=matrix.index,
      xlabel="poisoned label T",
      ylabel="reconstructed class G",
      title=f"{dataset}, {name}: mean {matrix.stack().mean():.2f}",
    )
  figure.colorbar(image, ax=axes, label=f"AAA, mean of {seeds} seed(s)")
  save(figure, folder, "combinations")


def histogram(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """Distribution of AAA over the pairs, with its density (the study's Figure 5).

  Fewer than three pairs have none, and no figure.
  """
  means = by_pair(summary)
  if len(means) < 3:
    return
  figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
  bins = np.linspace(0, max(means[AAA].max(), means["no_attack"].max()) + 0.02, 25)
  grid_ = np.linspace(0, bins[-1], 200)
  for column, name, color, style, bars in (
    (AAA, "with the attack", "0.2", "-", "0.6"),
    ("no_attack", "without any attack", "0.45", "--", "0.45"),
  ):
    values = means[column].dropna()
    axes.hist(
      values, bins, density=True, label=name, color=bars,
      histtype="bar" if column == AAA else "step",  # Both lie over each other.
    )  # fmt: skip
    if values.std() > 0:
      axes.plot(grid_, stats.gaussian_kde(values)(grid_), color=color, linestyle=style)
    axes.axvline(values.mean(), color=color, linestyle=":", linewidth=2)
  axes.set(
    xlabel="AAA (dotted: mean)",
    ylabel="density over the pairs",
    title=f"{summary['dataset'].iloc[0]}: AAA of {len(means)} pairs",
  )
  axes.legend()
  save(figure, folder, "histogram")


def rounds(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """Attack accuracy per round with and without attack, of three pairs and their first seed.

  Without any run of the attack that did not diverge there is no figure.
  """
  runs = summary[summary["attack"] == "crpa"].dropna(subset=AAA)
  runs = runs.sort_values("seed").drop_duplicates(PAIR)
  if runs.empty:
    return
  runs = runs.set_index(PAIR)
  pairs = three_pairs(runs[AAA])
  figure, axes = plt.subplots(
    len(pairs), 1, figsize=(9, 0.8 + 2.2 * len(pairs)), layout="constrained", squeeze=False,
    sharex=True, sharey=True,
  )  # fmt: skip
  for axis, pair in zip(axes[:, 0], pairs, strict=True):
    for name, column, style in (
      ("without any attack", "control", {"color": "0.55", "linestyle": "--"}),
      ("with the attack", "run", {"color": "0.0", "linewidth": 1}),
    ):
      path = folder / "runs" / str(runs.loc[pair, column]) / "confusion.csv"
      if not path.exists():
        continue
      matrices = classification.read_confusion_matrices(path)
      accuracy = np.array([classification.attack_accuracy(m, *pair) for m in matrices])
      label = f"{name}: AAA {accuracy.mean():.2f}, above 0.5 in {(accuracy > 0.5).mean():.0%}"
      axis.plot(np.arange(1, len(accuracy) + 1), accuracy, label=label, **style)
    axis.set(ylabel=f"{pair[0]} called {pair[1]}", ylim=(-0.02, 1.02))
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=2, frameon=False)
  axes[-1, 0].set(xlabel="round")
  dataset = summary["dataset"].iloc[0]
  figure.suptitle(f"{dataset}: share of class-G test images that the global model calls T")
  save(figure, folder, "rounds")


def distributions(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """AAA of each pair over the concentration alpha (the study's Figure 6)."""
  means = table(summary, [*PAIR, "alpha"])
  alphas = sorted(summary["alpha"].unique())
  pairs = means.index.droplevel("alpha").unique()
  figure, axes = plt.subplots(
    2, 1, figsize=(11, 8), layout="constrained", height_ratios=(3, 1.2 * len(pairs) / 3)
  )
  for i, pair in enumerate(pairs):
    rows = means.sort_index().xs(pair).reindex(alphas)
    accuracies = f"{rows['test_accuracy'].min():.2f} to {rows['test_accuracy'].max():.2f}"
    name = f"{pair_name(pair)} (test accuracy {accuracies})"
    at = grouped_bars(axes[0], i, len(pairs), rows["aaa"], rows["aaa_std"], name)
    axes[0].plot(at, rows["no_attack"], "wD", markeredgecolor="black", markersize=5)
  axes[0].plot([], [], "wD", markeredgecolor="black", label="the same without any attack")
  axes[0].set(
    xticks=range(len(alphas)),
    xticklabels=alphas,
    xlabel="Dirichlet concentration alpha (0: one class per client)",
    ylabel="AAA"
    + (", mean and standard deviation" if means["aaa_std"].notna().any() else "")
    + "\n(logarithmic above 0.02)",
    title=f"{summary['dataset'].iloc[0]}: AAA over the distribution of classes",
  )
  # What is left of it where classes are balanced can be read, too.
  axes[0].set_yscale("symlog", linthresh=0.02)
  ticks = [0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
  axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
  axes[0].legend()
  _class_mixes(axes[1], summary[summary["attack"] == "crpa"], alphas, pairs)
  save(figure, folder, "distributions")


def _class_mixes(
  axes: plt.Axes, attacked: pd.DataFrame, alphas: list[float], pairs: pd.Index
) -> None:
  """What the adversaries hold: below each bar a column of stacked classes for each seed."""
  seeds = sorted(attacked["seed"].unique())
  width = 0.8 / len(pairs) / len(seeds)
  for row in attacked.to_dict("records"):
    pair = pairs.get_loc((row["reconstruct"], row["poison"]))
    column = pair * len(seeds) + seeds.index(row["seed"])
    at = alphas.index(row["alpha"]) - 0.4 + (column + 0.5) * width
    held = np.array(json.loads(row["adversary_holds"]), float)
    shares = held / max(held.sum(), 1)
    bottoms = np.cumsum(shares) - shares
    for label in np.flatnonzero(held):
      shade = 0.95 - 0.6 * label / len(held)
      axes.bar(at, shares[label], width, bottoms[label], color=str(shade), edgecolor="black")
      if shares[label] > 0.08:
        middle = bottoms[label] + shares[label] / 2
        axes.text(at, middle, str(label), ha="center", va="center", fontsize=6)
  axes.set(
    xticks=range(len(alphas)),
    xticklabels=alphas,
    xlabel="Dirichlet concentration alpha",
    ylabel="share of its data",
    title="Classes that the adversary holds, in the order of the bars"
    + (f", each with {len(seeds)} seeds" if len(seeds) > 1 else ""),
  )


def images(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """The final reconstructions of each pair over alpha, beside real ones (Figure 7)."""
  attacked = summary[summary["attack"] == "crpa"].sort_values("seed")
  alphas = sorted(attacked["alpha"].unique())
  pairs = list(dict.fromkeys(map(tuple, attacked[PAIR].to_numpy())))
  size = (max(1.5 * (len(alphas) + 1), 6), 1.7 * len(pairs) + 0.4)
  figure, axes = panels(len(pairs), len(alphas) + 1, size)
  for row, pair in enumerate(pairs):
    axes[row, 0].set_ylabel(pair_name(pair))
    for column, alpha in enumerate(alphas):
      runs = attacked[(attacked[PAIR] == pair).all(axis=1) & (attacked["alpha"] == alpha)]
      if row == 0:
        axes[row, column].set_title(f"alpha = {alpha:g}")
      if runs.empty:
        continue
      show(axes[row, column], folder / "runs" / runs["run"].iloc[0])
      show(axes[row, -1], folder / "runs" / runs["run"].iloc[0], "real")
  axes[0, -1].set_title("real G")
  figure.suptitle("Reconstructions of class G after the last round (first seed)")
  save(figure, folder, "images_over_alpha")


def controls(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """AAA of each pair under the attack and its controls."""
  means = table(summary, [*PAIR, "attack"])
  pairs = means["aaa"].groupby(PAIR).max().sort_values(ascending=False).index
  attacks = list(dict.fromkeys(means.index.get_level_values("attack")))
  figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
  for i, attack in enumerate([*attacks, "no attack"]):
    if attack == "no attack":
      rows = means.groupby(PAIR, sort=False)[["no_attack", "no_attack_std"]].first()
      heights, errors = rows["no_attack"], rows["no_attack_std"]
    else:
      rows = means.xs(attack, level="attack")
      heights, errors = rows["aaa"], rows["aaa_std"]
    heights, errors = heights.reindex(pairs), errors.reindex(pairs)
    name = _POISON.get(attack, attack.replace("_", " "))
    grouped_bars(axes, i, len(attacks) + 1, heights, errors, name)
  axes.set(
    xticks=range(len(pairs)),
    xticklabels=[pair_name(pair) for pair in pairs],
    xlabel="pair G → T",
    ylabel=f"AAA, mean and standard deviation over {summary['seed'].nunique()} seed(s)",
    title=f"{summary['dataset'].iloc[0]}: what the poisoning images are",
  )
  axes.set_ylim(bottom=0)
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
  save(figure, folder, "controls")


def accuracy_curves(curves: dict[str, np.ndarray], folder: pathlib.Path) -> None:
  """Test accuracy per round of several programs, each `[seeds, rounds]`: mean and range."""
  figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
  for (name, values), color, style in zip(curves.items(), ("0.0", "C0"), ("-", "--"), strict=True):
    rounds = np.arange(1, values.shape[1] + 1)
    axes.plot(rounds, values.mean(axis=0), style, color=color, label=name)
    axes.fill_between(rounds, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15)
  axes.set(
    xlabel="round",
    ylabel="test accuracy",
    title=f"Mean and range of {values.shape[0]} run(s)",
  )
  axes.legend()
  save(figure, folder, "accuracy_curves")
