"""Figures of a CRPA run, from result files made up here."""

import numpy as np
import pandas as pd
import pytest

from tff_attacks.plots import crpa


@pytest.mark.parametrize(
  ("accuracies", "strongest"), [([0.1, 0.7, 0.2], 2), ([np.nan, 0.1, np.nan], 2), ([np.nan] * 3, 1)]
)
def test_the_round_of_the_strongest_attack(accuracies, strongest, axes_of, tmp_path):
  pd.DataFrame({"attack_accuracy": accuracies}).to_csv(tmp_path / "metrics.csv", index=False)
  matrices = [np.eye(2, dtype=int) * i for i in (1, 2, 3)]
  texts = [str(matrix.tolist()) for matrix in matrices]
  pd.DataFrame({"confusion": texts}).to_csv(tmp_path / "confusion.csv", index=False)
  axes = axes_of(crpa.confusion_matrix, tmp_path)
  titles = [axis.get_title() for axis in axes]
  assert titles[0] == f"Global model after round {strongest} (highest attack accuracy)"
  assert titles[1] == "Global model after round 3 (last round)"
  for axis, number in zip(axes, (strongest, 3), strict=True):
    np.testing.assert_array_equal(axis.images[0].get_array(), matrices[number - 1])


def test_attack_accuracy_draws_its_columns(axes_of, tmp_path):
  metrics = pd.DataFrame(
    {
      "round": [0, 1, 2], "attack_accuracy": [0.1, 0.6, 0.3], "test_accuracy": [0.5, 0.6, 0.7],
      "attack_accuracy_ema": [0.1, 0.35, 0.33], "average_attack_accuracy": [0.1, 0.35, 0.333],
    }
  )  # fmt: skip
  metrics.to_csv(tmp_path / "metrics.csv", index=False)
  (axes,) = axes_of(crpa.attack_accuracy, tmp_path, 4, 9)
  names = ("attack_accuracy", "attack_accuracy_ema", "test_accuracy")
  for line, name in zip(axes.lines, names, strict=True):
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(line.get_ydata(), metrics[name])
  assert axes.get_title() == "Class 4 called 9 by the global model: AAA 0.33"
