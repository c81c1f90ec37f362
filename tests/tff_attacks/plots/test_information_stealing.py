"""Figures of a run of information stealing, from result files made up here."""

import numpy as np
import pandas as pd

from tff_attacks.plots import information_stealing


def test_roc_of_each_moment_and_class(axes_of, tmp_path):
  labels = np.array([0, 0, 1, 1, 1])
  perfect = np.eye(3)[labels]
  halves = np.full([5, 3], 1 / 3)
  np.savez(tmp_path / "scores_initial.npz", labels=labels, probabilities=halves)
  np.savez(tmp_path / "scores_final.npz", labels=labels, probabilities=perfect)
  axes = axes_of(information_stealing.roc, tmp_path)
  assert [axis.get_title() for axis in axes] == ["before training", "after the last round"]
  for axis, auc in zip(axes, ("0.500", "1.000"), strict=True):
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == [f"class 0: AUC {auc}", f"class 1: AUC {auc}"]
  assert [0.0, 1.0] in axes[1].lines[0].get_xydata().tolist()


def test_a_model_that_diverged_has_no_curve_and_no_lowest_distance(axes_of, tmp_path):
  nothing = np.full([5, 3], np.nan)
  np.savez(tmp_path / "scores_final.npz", labels=np.array([0, 0, 1, 1, 1]), probabilities=nothing)
  (axis,) = axes_of(information_stealing.roc, tmp_path)
  assert len(axis.lines) == 1  # The diagonal.
  pd.DataFrame({"round": [3, 4], "distance_rms": np.nan}).to_csv(tmp_path / "reconstruction.csv")
  (axis,) = axes_of(information_stealing.distance, tmp_path, 3)
  assert len(axis.lines) == 1
  assert not axis.texts


def test_scores_with_the_moment_of_attack(axes_of, tmp_path):
  names = ("test_accuracy", "precision", "recall", "f1")
  rows = pd.DataFrame({name: [0.1 * i, 0.2 * i] for i, name in enumerate(names)})
  rows.assign(round=[0, 1]).to_csv(tmp_path / "metrics.csv", index=False)
  (axis,) = axes_of(information_stealing.scores, tmp_path, 1)
  for line, name in zip(axis.lines, names, strict=False):
    np.testing.assert_allclose(line.get_xydata(), np.c_[[1, 2], rows[name]])
  assert set(axis.lines[4].get_xdata()) == {2}


def test_distance_marks_the_lowest(axes_of, tmp_path):
  pd.DataFrame({"round": [4, 5, 6], "distance_rms": [0.4, 0.2, 0.3]}).to_csv(
    tmp_path / "reconstruction.csv", index=False
  )
  (axis,) = axes_of(information_stealing.distance, tmp_path, 1)
  np.testing.assert_allclose(axis.lines[0].get_xydata(), [[5, 0.4], [6, 0.2], [7, 0.3]])
  np.testing.assert_allclose(axis.lines[1].get_xydata(), [[6, 0.2]])
