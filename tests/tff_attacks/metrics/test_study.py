"""Statistics over pairs, against SciPy and closed forms."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tff_attacks.metrics import study

PAIRS = pd.MultiIndex.from_tuples(
  itertools.permutations(range(10), 2), names=["reconstruct", "poison"]
)


def test_agreement_is_over_the_common_pairs():
  rng = np.random.default_rng(0)
  first = pd.Series(rng.uniform(size=90), PAIRS)
  second = first[10:] + rng.normal(scale=0.1, size=80)
  found = study.agreement(first, second)
  one, other = first[10:].to_numpy(), second.to_numpy()
  assert found.pairs == 80
  assert found.pearson == pytest.approx(np.corrcoef(one, other)[0, 1])
  assert found.spearman == pytest.approx(stats.spearmanr(one, other)[0])
  assert found.mean_absolute_difference == pytest.approx(np.mean(np.abs(one - other)))


def test_agreement_of_two_pairs_has_no_correlation():
  values = pd.Series([0.1, 0.4], PAIRS[:2])
  found = study.agreement(values, values + 0.1)
  assert np.isnan([found.pearson, found.spearman]).all()
  assert found.mean_absolute_difference == pytest.approx(0.1)


def test_the_share_of_a_pattern_is_that_of_the_analysis_of_variance():
  values = pd.Series(np.random.default_rng(1).uniform(size=90), PAIRS)
  found = study.pattern(values, "poison", permutations=99)
  groups = [group.to_numpy() for _, group in values.groupby("poison")]
  f = stats.f_oneway(*groups).statistic
  assert f == pytest.approx((found.share / 9) / ((1 - found.share) / 80))


def test_p_values_of_noise_are_uniform_and_of_a_pattern_small():
  rng = np.random.default_rng(2)
  noise = [
    study.pattern(pd.Series(rng.normal(size=90), PAIRS), "poison", 199).p_value for _ in range(60)
  ]
  assert stats.kstest(noise, "uniform").pvalue > 0.001
  column = pd.Series(PAIRS.get_level_values("poison") + rng.normal(size=90), PAIRS)
  assert study.pattern(column, "poison", 199).p_value == 1 / 200
  assert study.pattern(column, "reconstruct", 199).p_value > 0.01


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_values_that_do_not_vary_have_no_pattern(value):
  values = pd.Series(0.5, PAIRS)
  values.iloc[3] = value
  assert np.isnan(study.pattern(values, "poison", 99)).all()


def test_spread_over_noise():
  values = pd.DataFrame([[0.0, 0.2], [1.0, 1.2], [0.5, 0.7]])
  assert study.spread_over_noise(values) == pytest.approx(1.0 / np.sqrt(0.02))
