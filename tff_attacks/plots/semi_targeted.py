"""Figures of one semi-targeted attack, from its result files alone."""

import json
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn import decomposition

from tff_attacks.plots import common


def draw_all(folder: pathlib.Path, sources: list[int]) -> None:
  """Draws every figure of a results folder into its `images/`."""
  accuracies(folder)
  norms(folder)
  if (folder / "features.npz").exists():
    features(folder, sources)


def accuracies(folder: pathlib.Path) -> None:
  """ATA and MTA per round (as in the ADA paper's Figure 3)."""
  metrics = pd.read_csv(folder / "metrics.csv")
  rounds = metrics["round"] + 1
  figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
  axes.plot(rounds, metrics["mta"], "k--", label="MTA: accuracy on other classes")
  axes.plot(
    rounds, metrics["max_ata"], color="0.7", linewidth=4, label="max-ATA: of any other class"
  )
  axes.plot(rounds, metrics["ata"], "k-", linewidth=1, label="ATA: source called target")
  for number in rounds[metrics["malicious_clients"] > 0]:
    axes.axvline(number, 0, 0.03, color="0.3")
  axes.plot(
    [], [], color="0.3", marker="|", linestyle="none", label="compromised clients took part"
  )
  axes.set(
    xlabel="round after convergence", ylabel="share of test images", ylim=(-0.02, 1.02),
    title="The global model, round by round",
  )  # fmt: skip
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
  common.save(figure, folder, "accuracies")


def norms(folder: pathlib.Path) -> None:
  """Norms of honest and malicious updates per round (as in the ADA paper's Figure 4)."""
  figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
  client_norms(axes, folder)
  axes.set(ylabel="norm of the update", title="What clients sent")
  axes.set_ylim(bottom=0)
  axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
  common.save(figure, folder, "norms")


def client_norms(axes: plt.Axes, folder: pathlib.Path) -> None:
  """The norm of every update per round; those that are not finite are not seen."""
  clients = pd.read_csv(folder / "clients.csv")
  columns = ["malicious", "update_norm"]
  clients[columns] = clients[columns].map(json.loads)
  clients = clients.explode(columns)
  for malicious, style, size, label in (
    (False, "k.", 3, "honest"),
    (True, "kx", 7, "compromised"),
  ):
    some = clients[clients["malicious"] == malicious]
    axes.plot(some["round"] + 1, some["update_norm"], style, markersize=size, label=label)
  axes.set(xlabel="round after convergence")


def features(folder: pathlib.Path, sources: list[int]) -> None:
  """The last hidden layer in two principal components (the ADA paper's Figure 2)."""
  with np.load(folder / "features.npz") as arrays:
    values, labels = arrays["features"], arrays["labels"]
  components = decomposition.PCA(2, svd_solver="full")
  points = components.fit_transform(values)
  share = components.explained_variance_ratio_.sum()
  figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
  classes = np.unique(labels)
  for i, label in enumerate(classes):
    chosen = points[labels == label]
    x, y = chosen.T
    axes.scatter(x, y, s=6, color=plt.get_cmap("viridis")(i / classes.size), alpha=0.5)
    axes.annotate(
      str(label), chosen.mean(axis=0), ha="center", va="center", fontsize=13, fontweight="bold",
      bbox={"boxstyle": "circle", "facecolor": "white",
            "edgecolor": "black" if label in sources else "0.8"},
    )  # fmt: skip
  axes.set(
    xlabel="first principal component", ylabel="second principal component",
    title=f"Last hidden layer on test images at the attack's start\n(source classes circled in "
    f"black; {share:.0%} of the variance)",
  )  # fmt: skip
  common.save(figure, folder, "features")
