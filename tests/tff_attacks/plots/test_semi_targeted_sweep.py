"""Figures of a sweep of semi-targeted attacks, from a summary made up here."""

import numpy as np
import pandas as pd

from tff_attacks.plots import semi_targeted_sweep

COMMON = {"dataset": "mnist", "sources": "[2]", "aggregator": "mean", "frequency": 0.01, "seed": 0}


def test_each_ata_stands_beside_that_without_attack(axes_of, tmp_path):
  """Of the targets of each round: two runs of the first attack, one of the second."""
  runs = pd.DataFrame(
    [
      COMMON | {"run": f"run{i}", "control": "none", "attack": attack, "no_attack": alone,
                "its_targets": f"[{target}]"}
      for i, (attack, target, alone) in enumerate(
        [("label_flipping", 0, 0.3), ("label_flipping", 1, 0.5), ("ada_full", 1, 0.5),
         ("ada_full", -1, np.nan)]  # Of the last one nobody compromised was ever drawn.
      )
    ]
  )  # fmt: skip
  for run, targets in zip(runs["run"], ([0, 0], [1, 1], [-1, 0], [-1, -1]), strict=True):
    (tmp_path / "runs" / run).mkdir(parents=True)
    metrics = pd.DataFrame({"round": [0, 1], "ata": [0.6, 0.8], "mta": 0.9, "target_2": targets})
    metrics.to_csv(tmp_path / "runs" / run / "metrics.csv")
  (tmp_path / "runs" / "none").mkdir()
  matrices = [[[9, 1, 0], [0, 9, 1], counts] for counts in ([1, 4, 5], [3, 5, 2])]
  pd.DataFrame({"confusion": map(str, matrices)}).to_csv(
    tmp_path / "runs" / "none" / "confusion.csv"
  )
  ata, _ = axes_of(semi_targeted_sweep.rounds, runs, tmp_path)
  drawn = [line.get_ydata() for line in ata.lines if len(line.get_ydata())]
  np.testing.assert_allclose(drawn, [[0.6, 0.8], [0.25, 0.4], [0.6, 0.8], [np.nan, 0.3]])


def test_choices_that_train_and_scale_did_not_try_count_among_all(axes_of, tmp_path):
  runs = pd.DataFrame(
    [COMMON | {"attack": "train_and_scale", "target": target, "best_ata": 0.5, "no_attack": 0.1,
               "choices": "[{}]"} for target in (3, 7)]
    + [COMMON | {"attack": "ada_full", "choices": '[{"9": 3, "7": 1}]'}]
  )  # fmt: skip
  upper, lower = axes_of(semi_targeted_sweep.targets, runs, tmp_path)
  np.testing.assert_equal(upper.lines[-1].get_ydata(), [0.1, 0.1, np.nan])
  assert [bar.get_height() for bar in lower.patches] == [0.0, 0.25, 0.75]
  # The other kind of ADA was not run.
  assert [text.get_text() for text in lower.get_legend().get_texts()] == ["ada full"]


def test_a_target_whose_run_failed_has_no_bar(axes_of, tmp_path):
  ran = [(0.01, 3, 0.2), (0.01, 7, 0.6), (0.1, 7, 0.9)]
  runs = pd.DataFrame(ran, columns=["frequency", "target", "best_ata"]).assign(
    attack="train_and_scale",
    choices="[{}]",
    no_attack=0.1,
    seed=0,
    dataset="mnist",
    sources="[2]",
    aggregator="mean",
  )
  axes = axes_of(semi_targeted_sweep.targets, runs, tmp_path)
  heights = [[bar.get_height() for bar in axis.patches] for axis in axes[:2]]
  np.testing.assert_allclose(heights, [[0.2, 0.6], [np.nan, 0.9]])
