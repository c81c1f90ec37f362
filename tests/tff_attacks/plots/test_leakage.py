"""Figures of a server's reconstructions, from result files made up here."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tff_attacks.plots import leakage


@pytest.mark.parametrize("count", [1, 45])
def test_the_best_come_first_with_their_psnr(axes_of, tmp_path, count):
  true = np.zeros([count, 2, 2, 3])
  # Half the range of pixels is 6.02 dB, a quarter of it 12.04 dB.
  found = np.linspace(1.0, 0.5, count)[:, None, None, None] + true
  np.savez(tmp_path / "victim_0.npz", found=found, true=true, any_scale=False)
  axes = axes_of(leakage.reconstructions, tmp_path, 0)
  texts = [axis.get_xlabel() for axis in axes if axis.get_xlabel()]
  assert len(texts) == min(count, 40)
  assert texts[0] == ("PSNR 6.0 dB" if count == 1 else "PSNR 12.0 dB")
  best = axes[min(count, 10)].images[0].get_array()
  np.testing.assert_allclose(best, (found[-1] + 1) / 2)
  if count == 1:  # The title of a figure of one column is inside it.
    figure = axes[0].figure
    title = figure._suptitle.get_window_extent()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1


def test_what_was_fitted_to_the_true_image_is_said_so(axes_of, tmp_path):
  images = np.zeros([1, 2, 2, 3])
  (tmp_path / "runs" / "one").mkdir(parents=True)
  for any_scale in (False, True):
    for path in (tmp_path, tmp_path / "runs" / "one"):
      np.savez(path / "victim_0.npz", found=images, true=images, any_scale=any_scale)
    axes = axes_of(leakage.reconstructions, tmp_path, 0)
    assert ("fitted" in axes[0].figure._suptitle.get_text()) == any_scale
    one = pd.DataFrame([{"run": "one", "attack": "dlg", "setting": "one_image", "seed": 0}])
    axes = axes_of(leakage.table, one, tmp_path)
    assert axes[0].get_ylabel() == ("dlg *" if any_scale else "dlg")
    assert ("*: sign" in axes[0].figure._suptitle.get_text()) == any_scale


def test_the_table_shows_the_best_and_the_median_of_each_attack_and_setting(axes_of, tmp_path):
  runs = [("dlg", "one_image", 1), ("dlg", "many_clients", 3), ("ggl", "one_image", 1)]
  rows = []
  for (attack, setting, count), seed in itertools.product(runs, (1, 0)):
    run = f"{attack}-{setting}-{seed}"
    rows.append({"run": run, "attack": attack, "setting": setting, "seed": seed})
    (tmp_path / "runs" / run).mkdir(parents=True)
    if attack == "ggl":  # It was not run.
      continue
    true = np.full([count, 2, 2, 3], -1.0)
    found = true + np.array([0.5, 2.0, 1.0])[:count, None, None, None] * (1 + seed)
    np.savez(tmp_path / "runs" / run / "victim_0.npz", found=found, true=true, any_scale=False)
  # A setting of a single attack has no column.
  rows = pd.DataFrame(rows)
  both = pd.concat([rows, rows[rows["setting"] == "one_image"].assign(setting="one_batch")])
  axes = axes_of(leakage.table, both, tmp_path)
  assert len(axes) == 4
  assert [axis.get_title() for axis in axes[:2]] == ["one\nimage", "one\nbatch"]
  assert axes[0].get_xlabel() == "12.0 dB"
  assert [text.get_text() for text in axes[2].texts] == ["none"]
  assert not axes[2].images
  many = axes_of(leakage.table, rows[rows["setting"] == "many_clients"], tmp_path)
  assert many[0].get_xlabel() == "12.0, 6.0 dB"
  pixels = many[0].images[0].get_array()
  assert pixels.shape == (8, 8, 3)
  assert pixels[5, 1].tolist() == [0.25] * 3
  assert pixels[5, 5].tolist() == [0.5] * 3


def test_a_clients_gan_by_setting_and_seed_beside_real_images(axes_of, tmp_path):
  rows = []
  for setting, seed in [("few_clients", 0), ("few_clients", 1), ("other_data", 1)]:
    run = f"{setting}-{seed}"
    rows.append({"run": run, "setting": setting, "seed": seed})
    (tmp_path / "runs" / run).mkdir(parents=True)
    images = {"generated": np.full([4, 2, 2, 1], seed), "real": np.full([4, 2, 2, 1], -1.0)}
    np.savez(tmp_path / "runs" / run / "reconstructions.npz", **images)
  axes = axes_of(leakage.dmgan, pd.DataFrame(rows), tmp_path)
  assert [axis.get_title() for axis in axes[:3]] == ["seed 0", "seed 1", "real"]
  assert [axis.get_ylabel() for axis in axes[::3]] == ["few\nclients", "other\ndata"]
  # That of the second setting's first seed is still to come.
  drawn = [axis.images[0].get_array()[1, 1].item() if axis.images else None for axis in axes]
  assert drawn == [0.5, 1.0, 0.0, None, 1.0, 0.0]
