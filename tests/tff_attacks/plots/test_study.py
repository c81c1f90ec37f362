"""Figures of a sweep, from a summary made up here."""

import itertools

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tff_attacks.plots import study


def summary(attacks=("crpa",), alphas=(0.0,), pairs=((0, 1), (1, 0), (2, 1)), seeds=(0, 1)):
  rng = np.random.default_rng(0)
  rows = [
    {
      "run": f"{attack}-{g}-{t}-{alpha}-{seed}", "control": "none", "dataset": "mnist",
      "attack": attack, "reconstruct": g, "poison": t, "alpha": alpha, "seed": seed,
      "adversary_holds": "[0, 7, 3]",
      "average_attack_accuracy": rng.uniform(), "no_attack": rng.uniform() / 10,
      "mean_test_accuracy": 0.8, "recognised": 0.5, "correlation": 0.4,
      "recognised_noise": 0.1, "other_correlation": 0.2,
    }
    for attack, alpha, (g, t), seed in itertools.product(attacks, alphas, pairs, seeds)
  ]  # fmt: skip
  return pd.DataFrame(rows)


def test_table_gives_means_and_standard_deviations_over_the_seeds():
  runs = summary()
  first = runs[(runs["reconstruct"] == 0) & (runs["poison"] == 1)]["average_attack_accuracy"]
  row = study.table(runs, ["reconstruct", "poison"]).loc[(0, 1)]
  assert row["runs"] == 2
  assert row["aaa"] == pytest.approx(first.mean(), abs=1e-3)
  assert row["aaa_std"] == pytest.approx(first.std(), abs=1e-3)
  assert study.by_pair(runs).loc[(0, 1), "average_attack_accuracy"] == pytest.approx(first.mean())


def test_combinations_writes_every_value_into_its_cell(axes_of, tmp_path):
  runs = summary()
  with_attack, without, _ = axes_of(study.combinations, runs, tmp_path)
  means = study.by_pair(runs)
  for axes, column in ((with_attack, "average_attack_accuracy"), (without, "no_attack")):
    texts = {(t.get_position()[::-1], t.get_text()) for t in axes.texts}
    classes = [0, 1, 2]
    assert texts == {
      ((classes.index(g), [0, 1].index(t)), f"{value:.2f}")
      for (g, t), value in means[column].items()
    }
  Image.open(tmp_path / "images" / "combinations.png").verify()


def test_distributions_draws_each_mean(axes_of, tmp_path):
  runs = summary(alphas=(0.0, 0.1, 10.0))
  bars, mixes = axes_of(study.distributions, runs, tmp_path)
  # A pair after the other, each over all alphas.
  heights = [patch.get_height() for patch in bars.patches]
  expected = study.table(runs, ["reconstruct", "poison", "alpha"])["aaa"]
  pairs, alphas = ((0, 1), (1, 0), (2, 1)), (0.0, 0.1, 10.0)
  assert heights == pytest.approx([expected[g, t, alpha] for g, t in pairs for alpha in alphas])
  at = [round(patch.get_x() + patch.get_width() / 2) for patch in bars.patches]
  assert at == [0, 1, 2] * 3
  alone = study.table(runs, ["reconstruct", "poison", "alpha"])["no_attack"]
  diamonds = [line.get_ydata() for line in bars.lines if line.get_marker() == "D"]
  for (g, t), values in zip(pairs, diamonds, strict=False):
    assert values == pytest.approx([alone[g, t, alpha] for alpha in alphas])
  assert len(diamonds) == len(pairs) + 1  # And that of the legend.
  assert {round(patch.get_height(), 6) for patch in mixes.patches} == {0.7, 0.3}


def test_controls_draws_each_attack_and_none(axes_of, tmp_path):
  runs = summary(attacks=("crpa", "noise"))
  (axes,) = axes_of(study.controls, runs, tmp_path)
  names = [text.get_text() for text in axes.get_legend().get_texts()]
  assert names == ["CRPA: the GAN's images", "uniform noise", "no attack"]
  means = study.table(runs, ["reconstruct", "poison", "attack"])
  pairs = means["aaa"].groupby(["reconstruct", "poison"]).max().sort_values(ascending=False).index
  expected = [means.loc[(*pair, attack), "aaa"] for attack in ("crpa", "noise") for pair in pairs]
  expected += [means.loc[(*pair, "crpa"), "no_attack"] for pair in pairs]
  assert [patch.get_height() for patch in axes.patches] == pytest.approx(expected)


def test_histogram_and_images(tmp_path):
  runs = summary(alphas=(0.0, 10.0))
  for run in runs["run"]:
    (tmp_path / "runs" / run).mkdir(parents=True)
    np.savez(
      tmp_path / "runs" / run / "reconstructions.npz",
      generated=np.zeros([6, 28, 28, 1]), real=np.ones([6, 28, 28, 1]),
    )  # fmt: skip
  study.histogram(runs, tmp_path)
  study.images(runs, tmp_path)
  Image.open(tmp_path / "images" / "histogram.png").verify()
  Image.open(tmp_path / "images" / "images_over_alpha.png").verify()


def test_rounds_draws_the_curves_of_three_pairs(axes_of, tmp_path):
  """The attack of the pair (g, t) reaches 1 in every second round; without it, nothing does."""
  runs = summary(pairs=((0, 1), (1, 0), (2, 1), (2, 0)), seeds=(0,))
  for name, g, t in [("none", 0, 0), *runs[["run", "reconstruct", "poison"]].to_numpy()]:
    clean, attacked = 5 * np.eye(3, dtype=int), 5 * np.eye(3, dtype=int)
    attacked[g] = 5 * np.eye(3, dtype=int)[t]
    (tmp_path / "runs" / name).mkdir(parents=True)
    pd.DataFrame({"confusion": [str(m.tolist()) for m in (clean, attacked) * 2]}).to_csv(
      tmp_path / "runs" / name / "confusion.csv", index=False
    )
  axes = axes_of(study.rounds, runs, tmp_path)
  aaa = runs.set_index(["reconstruct", "poison"])["average_attack_accuracy"]
  assert [axis.get_ylabel() for axis in axes] == [
    f"{g} called {t}" for g, t in study.three_pairs(aaa)
  ]
  assert len(axes) == 3
  for axis in axes:
    without, with_attack = axis.lines
    np.testing.assert_array_equal(without.get_ydata(), [0, 0, 0, 0])
    np.testing.assert_array_equal(with_attack.get_ydata(), [0, 1, 0, 1])
    assert "AAA 0.50, above 0.5 in 50%" in axis.get_legend().get_texts()[1].get_text()


def test_rounds_without_the_attack_are_no_figure(tmp_path):
  study.rounds(summary(attacks=("real",)), tmp_path)
  study.rounds(summary().assign(average_attack_accuracy=np.nan), tmp_path)  # All diverged.
  assert not (tmp_path / "images").exists()


def test_no_attack_is_of_the_same_seeds_as_the_attack():
  """A run that diverged must not leave its control behind."""
  runs = summary()
  gone = runs.index[(runs["attack"] == "crpa") & (runs["seed"] == runs["seed"].max())]
  runs.loc[gone, "average_attack_accuracy"] = np.nan
  left = runs[runs["seed"] < runs["seed"].max()]
  by = [*study.PAIR, "attack"]
  pd.testing.assert_frame_equal(study.by_pair(runs), study.by_pair(left))
  pd.testing.assert_series_equal(
    study.table(runs, by)["no_attack"], study.table(left, by)["no_attack"]
  )


def test_class_mixes_shows_each_seed(axes_of, tmp_path):
  runs = summary(alphas=(0.0, 10.0))
  _, mixes = axes_of(study.distributions, runs, tmp_path)
  # Two classes in each of 3 pairs x 2 alphas x 2 seeds.
  assert len(mixes.patches) == 24
  assert len({round(patch.get_x(), 6) for patch in mixes.patches}) == 12
