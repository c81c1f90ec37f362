"""Figures of sweeps over privacy, from a summary made up here."""

import itertools

import numpy as np
import pandas as pd
from PIL import Image

from tff_attacks.plots import privacy, study

PAIRS = ((4, 9), (9, 1))


def summary(settings, noises, alphas=(0.0,)):
  rng = np.random.default_rng(0)
  rows = []
  for setting, (g, t), alpha, seed in itertools.product(settings, PAIRS, alphas, (0, 1)):
    for noise in noises if setting in ("records", "clients", "microbatches") else (np.nan,):
      rows.append(
        {"run": f"{setting}-{g}-{t}-{noise}-{seed}-{alpha}", "dataset": "mnist", "attack": "crpa",
         "setting": setting, "reconstruct": g, "poison": t, "alpha": alpha, "seed": seed,
         "average_attack_accuracy": rng.uniform(), "no_attack": rng.uniform() / 10,
         "mean_test_accuracy": rng.uniform(), "recognised": 0.5, "correlation": rng.uniform(),
         "recognised_noise": 0.1, "other_correlation": 0.2,
         "noise_multiplier": noise, "epsilon": 10 / noise if noise else np.nan}
      )  # fmt: skip
  return pd.DataFrame(rows)


def test_settings_draws_each_mean(axes_of, tmp_path):
  runs = summary(("none", "sgd", "records"), (0.3,), alphas=(0.0, 10.0))
  axes = axes_of(privacy.settings, runs, tmp_path)
  means = study.table(runs, ["alpha", "setting", "reconstruct", "poison"])
  names = ("aaa", "aaa", "test_accuracy", "test_accuracy", "correlation", "correlation")
  for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
    heights = [patch.get_height() for patch in axis.patches]
    of_alpha = means.xs([0.0, 10.0][i % 2], level="alpha")[name]
    # A colour after the other, each over all pairs.
    expected = [of_alpha[kind, g, t] for kind in ("none", "sgd", "records") for g, t in PAIRS]
    np.testing.assert_allclose(heights, expected)
    at = [round(patch.get_x() + patch.get_width() / 2) for patch in axis.patches]
    assert at == [0, 1] * 3
  diamonds = [line.get_ydata() for line in axes[0].lines if line.get_marker() == "D"]
  for kind, values in zip(("none", "sgd", "records"), diamonds, strict=False):
    alone = means.xs(0.0, level="alpha")["no_attack"]
    np.testing.assert_allclose(values, [alone[kind, g, t] for g, t in PAIRS])
  assert len(diamonds) == 3 + 1  # And that of the legend.
  Image.open(tmp_path / "images" / "settings.png").verify()


def test_fewer_seeds_than_others_are_told(axes_of, tmp_path):
  runs = summary(("none", "records"), (0.3,))
  runs = runs[(runs["setting"] == "none") | (runs["seed"] == 0)]
  aaa, *others = axes_of(privacy.settings, runs, tmp_path)
  assert [text.get_text() for text in aaa.texts] == ["1 of 2 seeds"] * len(PAIRS)
  assert not any(axis.texts for axis in others)


def test_what_diverged_is_named(axes_of, tmp_path):
  runs = summary(("none", "sgd"), ())
  names = ["average_attack_accuracy", "mean_test_accuracy", "correlation"]
  runs.loc[runs["setting"] == "sgd", names] = np.nan
  axes = axes_of(privacy.settings, runs, tmp_path)
  for axis in axes:
    assert [text.get_text() for text in axis.texts] == ["diverged"] * len(PAIRS)


def test_a_run_that_is_missing_has_not_diverged(axes_of, tmp_path):
  runs = summary(("none", "records"), (0.3,))
  runs = runs[(runs["setting"] == "none") | (runs["reconstruct"] == PAIRS[0][0])]
  first = runs.index[runs["setting"] == "records"][0]
  runs.loc[first, ["average_attack_accuracy", "mean_test_accuracy", "correlation"]] = np.nan
  axes = axes_of(privacy.settings, runs, tmp_path)
  for axis in axes:
    assert [text.get_text() for text in axis.texts] == ["1 of 2 diverged"]


def with_images(folder, runs):
  for run in runs["run"]:
    (folder / "runs" / run).mkdir(parents=True)
    images = {name: np.zeros([6, 28, 28, 1]) for name in ("generated", "real")}
    np.savez(folder / "runs" / run / "reconstructions.npz", **images)


def test_images_draws_each_setting_above_real_ones(axes_of, tmp_path):
  runs = summary(("none", "records"), (0.3,), alphas=(0.0, 10.0))
  runs = runs[(runs["setting"] == "none") | (runs["alpha"] == 0.0)]
  with_images(tmp_path, runs)
  axes = axes_of(privacy.images, runs, tmp_path)
  drawn = np.reshape([len(axis.images) for axis in axes], (3, 4))
  assert drawn.tolist() == [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 1, 1]]
  names = [axis.get_ylabel() for axis in axes[::4]]
  assert names == ["no privacy", "noise for records", "real G"]
  Image.open(tmp_path / "images" / "images_over_settings.png").verify()


def test_frontier_names_what_diverged(axes_of, tmp_path):
  runs = summary(("none", "sgd", "records"), (0.5, 2.0))
  runs.loc[runs["setting"] == "sgd", ["average_attack_accuracy", "mean_test_accuracy"]] = np.nan
  of_noise = runs.index[runs["noise_multiplier"] == 2.0]
  runs.loc[of_noise[:3], ["average_attack_accuracy", "mean_test_accuracy"]] = np.nan
  runs.loc[runs["noise_multiplier"] == 0.5, "average_attack_accuracy"] = np.nan
  with_images(tmp_path, runs)
  axes = axes_of(privacy.frontier, runs, tmp_path)
  assert [[text.get_text() for text in axis.texts] for axis in axes[:2]] == [
    ["noise for records: 3 of 4 diverged"],
    [],
  ]
  # There stands what the model does by itself.
  (alone,) = [line for line in axes[1].lines if line.get_color() == "0.7" and len(line.get_xdata())]
  assert np.isfinite(alone.get_ydata()).tolist() == [True, True]
  names = [text.get_text() for text in axes[1].get_legend().get_texts()]
  assert "published optimizer: diverged" in names


def test_frontier_without_noise_is_no_figure(tmp_path):
  privacy.frontier(summary(("none", "sgd"), ()), tmp_path)
  assert not list(tmp_path.iterdir())


def test_frontier_shows_the_images_of_one_pair(axes_of, tmp_path):
  """A run that is still missing must not be replaced by another pair's."""
  runs = summary(("none", "records"), (0.5, 2.0))
  missing = (runs["noise_multiplier"] == 2.0) & (runs["reconstruct"] == PAIRS[0][0])
  runs = runs[~missing]
  with_images(tmp_path, runs)
  axes = axes_of(privacy.frontier, runs, tmp_path)
  assert [len(axis.images) for axis in axes[2:]] == [0, 1, 0]


def test_frontier_draws_accuracy_and_aaa_over_epsilon(axes_of, tmp_path):
  runs = summary(("none", "sgd", "records", "clients"), (0.5, 2.0, 0.0))
  with_images(tmp_path, runs)
  axes = axes_of(privacy.frontier, runs, tmp_path)
  records = runs[(runs["setting"] == "records") & (runs["noise_multiplier"] > 0)]
  for axis, name in zip(axes, ("mean_test_accuracy", "average_attack_accuracy"), strict=False):
    expected = records.groupby("noise_multiplier")[name].mean()
    np.testing.assert_allclose(axis.lines[0].get_xydata(), np.c_[[20.0, 5.0], expected])
    of_seeds = records.groupby(["noise_multiplier", "seed"])[name].mean()
    spread = of_seeds.groupby("noise_multiplier").std()
    (bars,) = axis.containers[0].lines[2]
    heights = [high - low for (_, low), (_, high) in bars.get_segments()]
    np.testing.assert_allclose(heights, 2 * spread)
  labels = [axis.get_ylabel() for axis in axes[:2]]
  assert labels == ["test accuracy under attack, mean of all rounds", "AAA"]
  Image.open(tmp_path / "images" / "frontier.png").verify()
