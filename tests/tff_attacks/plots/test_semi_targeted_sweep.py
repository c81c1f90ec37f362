"""Figures of a sweep of semi-targeted attacks, from a summary made up here."""

import numpy as np
import pandas as pd

from tff_attacks.plots import semi_targeted_sweep


def test_a_target_whose_run_failed_has_no_bar(axes_of, folder):
  ran = [(0.01, 3, 0.2), (0.01, 7, 0.6), (0.1, 7, 0.9)]
  runs = pd.DataFrame(ran, columns=["frequency", "target", "best_ata"]).assign(
    attack="train_and_scale", choices="[{}]", dataset="mnist", sources="[2]", aggregator="mean"
  )
  axes = axes_of(semi_targeted_sweep.targets, runs, folder)
  heights = [[bar.get_height() for bar in axis.patches] for axis in axes[:2]]
  np.testing.assert_allclose(heights, [[0.2, 0.6], [np.nan, 0.9]])
