"""Figures of many semi-targeted attacks beside each other, from a sweep's result files alone."""

import json
import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from tff_attacks.metrics import classification
from tff_attacks.metrics import semi_targeted as metrics_lib
from tff_attacks.plots import common, semi_targeted

_STYLES: dict[str, dict[str, Any]] = {
  "label_flipping": {"color": "0.6", "linestyle": "-"},
  "train_and_scale": {"color": "0.6", "linestyle": "--"},
  "model_replacement": {"color": "0.6", "linestyle": ":"},
  "ada_full": {"color": "0.35", "linestyle": "-", "linewidth": 3},  # Often the other's path.
  "ada_partial": {"color": "0", "linestyle": "--"},
}


def draw_all(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """Draws the figures of a sweep into its `images/`, of its first aggregator alone."""
  attacked = summary[summary["attack"] != "none"]
  runs = attacked[attacked["aggregator"] == attacked["aggregator"].iloc[0]]
  most = runs[runs["frequency"] == runs["frequency"].max()]
  rounds(most, folder)
  norms(most, folder)
  targets(runs, folder)


def rounds(runs: pd.DataFrame, folder: pathlib.Path) -> None:
  """ATA and MTA per round, means over targets and seeds (the ADA paper's Figure 3).

  Beside each ATA thinly that of the same targets without any attack.

  Args:
    runs: Of one frequency and one aggregator, a row each.
    folder: The sweep's.
  """
  figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
  for attack, some in runs.groupby("attack", sort=False):
    style = _STYLES.get(attack, {})
    metrics = pd.concat([pd.read_csv(folder / "runs" / run / "metrics.csv") for run in some["run"]])
    means = metrics.groupby("round")[["ata", "mta"]].mean()
    for axis, column in zip(axes, means, strict=True):
      axis.plot(means.index + 1, means[column], label=attack.replace("_", " "), **style)
    if (alone := _unattacked(some, folder)) is not None:
      axes[0].plot(means.index + 1, alone, **style | {"linewidth": 0.7, "marker": ".", "ms": 3})
  axes[0].set(ylabel="ATA: share of source images called the target", ylim=(0, None))
  axes[1].set(ylabel="MTA: accuracy on other classes")
  for axis in axes:
    axis.set(xlabel="round after convergence")
  axes[0].plot([], [], "k.-", linewidth=0.7, ms=3, label="the same targets without any attack")
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
  figure.suptitle(
    f"{_setting(runs)}: {_share(runs)} of the clients compromised, "
    f"mean curves of targets and {runs['seed'].nunique()} seed(s)"
  )
  common.save(figure, folder, "rounds")


def _unattacked(runs: pd.DataFrame, folder: pathlib.Path) -> np.ndarray | None:
  """ATA of each round's targets in the controls, mean over the runs; None without any."""
  values = []
  for one in runs.dropna(subset="no_attack").to_dict("records"):
    path = folder / "runs" / one["control"] / "confusion.csv"
    matrices = classification.read_confusion_matrices(path)
    sources = json.loads(one["sources"])
    metrics = pd.read_csv(folder / "runs" / one["run"] / "metrics.csv")
    targets = metrics[[f"target_{source}" for source in sources]].astype(int).to_numpy()
    values.append(
      [
        _ata(matrix, dict(zip(sources, taken, strict=True)))
        for matrix, taken in zip(matrices, targets, strict=True)
      ]
    )
  return pd.DataFrame(values).mean().to_numpy() if values else None


def _ata(confusion: np.ndarray, targets: dict[int, int]) -> float:
  """Not a number as long as a source has no target."""
  if min(targets.values()) < 0:
    return float("nan")
  return float(metrics_lib.adversary_task_accuracies([confusion], targets)[0])


def norms(runs: pd.DataFrame, folder: pathlib.Path) -> None:
  """Norms of updates with and without scaling, a run each (the ADA paper's Figure 4)."""
  shown = runs[runs["attack"].isin(["label_flipping", "train_and_scale"])]
  shown = shown.drop_duplicates("attack")
  if shown.empty:
    return
  figure, axes = plt.subplots(
    1, len(shown), figsize=(6 * len(shown), 4.5), sharey=True, squeeze=False, layout="constrained"
  )
  for axis, one in zip(axes[0], shown.to_dict("records"), strict=True):
    semi_targeted.client_norms(axis, folder / "runs" / one["run"])
    axis.set(title=f"{one['attack'].replace('_', ' ')}, target {one['target']:g}")
  axes[0, 0].set(ylabel="norm of the update")
  axes[0, 0].set_ylim(bottom=0)
  axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
  figure.suptitle(
    f"{_setting(runs)}: what clients sent, {_share(shown)} of them compromised, "
    f"seed {shown['seed'].iloc[0]}"
  )
  common.save(figure, folder, "norms")


def targets(runs: pd.DataFrame, folder: pathlib.Path) -> None:
  """How far train-and-scale gets with each target, and how often ADA chooses it.

  Diamonds: how far the model gets by itself.
  """
  fixed = runs[runs["attack"] == "train_and_scale"]
  if fixed["target"].nunique() < 2 or any(len(json.loads(c)) != 1 for c in runs["choices"]):
    return
  frequencies = sorted(fixed["frequency"].unique())
  figure, axes = plt.subplots(
    2, len(frequencies), figsize=(4.5 * len(frequencies), 6), sharex=True, sharey="row",
    squeeze=False, layout="constrained",
  )  # fmt: skip
  chosen = [json.loads(text)[0] for text in runs["choices"]]
  labels = sorted({*fixed["target"].astype(int), *(int(label) for one in chosen for label in one)})
  for (upper, lower), frequency in zip(axes.T, frequencies, strict=True):
    these = fixed[fixed["frequency"] == frequency]
    by_target = these.groupby("target")
    ata, alone = by_target["best_ata"], by_target["no_attack"].mean().reindex(labels)
    mean, spread = (one.reindex(labels) for one in (ata.mean(), ata.std()))
    upper.bar(range(len(labels)), mean, yerr=spread, color="0.7", capsize=3)
    upper.plot(range(len(labels)), alone, "wD", markeredgecolor="black", label="without any attack")
    upper.set(title=f"{_share(these)} compromised, {these['seed'].nunique()} seed(s)")
    for i, attack in enumerate(("ada_full", "ada_partial")):
      some = runs[(runs["attack"] == attack) & (runs["frequency"] == frequency)]
      if some.empty:
        continue
      counts = pd.DataFrame([json.loads(text)[0] for text in some["choices"]]).sum()
      shares = counts / max(counts.sum(), 1)
      shares = shares.reindex([str(label) for label in labels], fill_value=0)
      lower.bar(
        [x + 0.4 * i - 0.2 for x in range(len(labels))], shares, 0.4,
        color=("0.2", "0.6")[i], label=attack.replace("_", " "),
      )  # fmt: skip
    lower.set(xlabel="target", xticks=range(len(labels)), xticklabels=labels, ylim=(0, 1))
  axes[0, 0].set(
    ylabel="highest ATA, train and scale\n(mean and standard deviation)", ylim=(0, None)
  )
  axes[1, 0].set(ylabel="share of ADA's choices")
  axes[0, 0].legend()
  if axes[1, 0].get_legend_handles_labels()[0]:
    axes[1, 0].legend()
  figure.suptitle(f"{_setting(runs)}:\nwhich target is best, and which ADA takes")
  common.save(figure, folder, "targets")


def _setting(runs: pd.DataFrame) -> str:
  one = runs.iloc[0]
  return f"{one['dataset']}, source {one['sources']}, aggregator={one['aggregator']}"


def _share(runs: pd.DataFrame) -> str:
  return f"{100 * runs['frequency'].iloc[0]:g}%"
