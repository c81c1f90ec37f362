"""How well the global model classifies, and how far an attack has moved it."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

LATE_ROUNDS = 20
"""Rounds at the end of a run: a single one may be anywhere in the federation's swing."""


def read_confusion_matrices(path: pathlib.Path) -> np.ndarray:
  """Reads a run's `confusion.csv`: int `[rounds, outputs, outputs]`."""
  return np.array([json.loads(matrix) for matrix in pd.read_csv(path)["confusion"]])


def accuracy(confusion: np.ndarray) -> float:
  """The share of correct predictions; in `confusion`, row = true class, column = prediction.

  Without any prediction it is not a number, and so are all shares here.
  """
  return share(np.trace(confusion), confusion.sum())


def share(part: int, whole: int) -> float:
  """The quotient; of nothing it is not a number."""
  return float(part / whole) if whole else float("nan")


class MacroScores(NamedTuple):
  """Means over classes of scores of one class against all others."""

  precision: float
  recall: float
  f1: float


def macro_scores(confusion: np.ndarray, predicted_too: bool = True) -> MacroScores:
  """Macro precision, recall and F1; a score without any case is 0.

  Args:
    confusion: int `[outputs, outputs]`, row = true class, column = prediction.
    predicted_too: Whether a class counts that is predicted but never true, as by default
      in scikit-learn: a single image that is taken for it then costs every mean its share.
  """
  hits, true, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
  counts = (true > 0) | ((predicted > 0) & predicted_too)
  with np.errstate(invalid="ignore"):
    precision, recall = (np.nan_to_num(hits / n)[counts] for n in (predicted, true))
  f1 = 2 * hits[counts] / (true + predicted)[counts]
  return MacroScores(*(float(scores.mean()) for scores in (precision, recall, f1)))


def one_vs_rest_auc(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
  """Area under the ROC of each class that occurs against all others.

  There is none for a single class, nor of a model that diverged.

  Args:
    labels: int `[n]`.
    probabilities: float `[n, outputs]`.
  """
  classes = np.unique(labels)
  if classes.size < 2 or not np.isfinite(probabilities).all():
    return {}
  return {str(c): float(roc_auc_score(labels == c, probabilities[:, c])) for c in classes}


def attack_accuracy(confusion: np.ndarray, reconstruct: int, poison: int) -> float:
  """The share of class-G test images that the model calls T (the CRPA study, 5.2)."""
  row = confusion[reconstruct]
  return share(row[poison], row.sum())


def average_attack_accuracy(attack_accuracies: Sequence[float]) -> float:
  """AAA: the mean attack accuracy over all rounds, the first one included."""
  return float(np.mean(attack_accuracies))


def exponential_moving_average(values: Sequence[float], alpha: float = 0.01) -> np.ndarray:
  """Bias-corrected exponential moving average, as in the CRPA study's Figure 3 and its code.

  It is not a number where the value is none.
  """
  series = pd.Series(values, dtype=float)
  return series.ewm(alpha=alpha).mean().where(series.notna()).to_numpy()
