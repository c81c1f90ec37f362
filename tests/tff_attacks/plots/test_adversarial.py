"""Figures of adversarial images, from scores made up here."""

import numpy as np
import pandas as pd

from tff_attacks.plots import adversarial


def scores(gradient, stack, hits):
  count = len(hits)
  return pd.DataFrame({
    "round": range(count), "image": range(count), "gradient": gradient, "stack": stack,
    "total_variation": 0.1, "tensors": "all", "hits": hits, "hits_in_range": hits,
    "true_hits": hits, "noise": 0.1, "hits_norm": 0.5, "confidence": 0.9, "hits_psnr": 8.0,
    "others_psnr": 9.0, "ssim": 0.0, "identified": 0.0, "seconds": 1.0, "setting": str(stack),
    "true": 3, "called": 4, "label": 3,
  })  # fmt: skip


def test_each_bar_stands_at_its_setting(axes_of, tmp_path):
  """Though one gradient lacks a stack."""
  rows = [scores("wrong_label", stack, [1, 0]) for stack in (2, 1)] + [scores("true_label", 1, [1])]
  axis = axes_of(adversarial.rates, tmp_path, pd.concat(rows))[0]
  assert [label.get_text() for label in axis.get_xticklabels()] == ["2", "1"]
  middles = [patch.get_x() + patch.get_width() / 2 for patch in axis.patches]
  assert np.round(middles).tolist() == [0, 1, 1]


def test_failures_are_of_the_largest_stack_that_has_any(monkeypatch, tmp_path):
  rows = pd.concat([scores("true_label", 1, [0, 0]), scores("true_label", 2, [0, 1])])
  rows = pd.concat([rows, scores("true_label", 4, [1, 1])])
  rows.drop(columns="setting").to_csv(tmp_path / "scores.csv", index=False)
  drawn = {}
  for name in ("rates", "copies"):
    monkeypatch.setattr(adversarial, name, lambda *_: None)
  monkeypatch.setattr(
    adversarial, "reconstructions", lambda folder, rows, name, title: drawn.update({name: rows})
  )
  adversarial.draw(tmp_path)
  assert drawn["failures"][["stack", "image"]].to_numpy().tolist() == [[2, 0]]


def test_copies_stand_by_how_much_they_have_of_the_label(axes_of, tmp_path):
  """The image first; of the largest stack alone."""
  rows = pd.concat([scores("true_label", 1, [1]), scores("true_label", 3, [2]).assign(round=7)])
  sure = np.full([3, 10], 0.02)
  sure[[0, 1, 2], [3, 5, 3]] = [0.9, 0.7, 0.6]
  found = np.stack([np.full([4, 4, 1], value) for value in (0.1, 0.2, 0.3)])
  np.savez(tmp_path / "found_7.npz", found=found, true=np.zeros([4, 4, 1]), probabilities=sure)
  axes = axes_of(adversarial.copies, tmp_path, rows)
  assert [axis.get_xlabel() for axis in axes] == ["3, called 4", "5 (0.70)", "3 (0.60)", "3 (0.90)"]
  shown = [axis.images[0].get_array().mean() for axis in axes]
  np.testing.assert_allclose(shown, [0.5, 0.6, 0.65, 0.55])
