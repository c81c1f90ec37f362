"""Significance."""

import numpy as np
import pytest

from tff_attacks.metrics import significance


def test_paired_p_value():
  rng = np.random.default_rng(0)
  first = rng.uniform(size=20)
  assert significance.paired_p_value(first, first - 0.3) < 0.001
  assert significance.paired_p_value(first, rng.permutation(first)) > 0.05
  assert np.isnan(significance.paired_p_value(first, first))
  assert np.isnan(significance.paired_p_value(first[:1], first[:1] + 1))
  assert np.isnan(significance.paired_p_value(np.array([0.2, np.nan]), np.zeros(2)))
  # All 2^3 signs: two of them are as extreme.
  assert significance.paired_p_value(np.ones(3), np.zeros(3)) == pytest.approx(2 / 8)
