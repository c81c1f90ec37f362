import numpy as np
import pytest

from tff_attacks.metrics import classification


def test_accuracies():
  confusion = np.array([[1, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
  assert classification.accuracy(confusion) == pytest.approx(2 / 6)
  assert classification.attack_accuracy(confusion, 1, 2) == pytest.approx(2 / 3)
  assert classification.attack_accuracy(confusion, 0, 2) == 0


def test_aaa_is_the_plain_mean():
  assert classification.average_attack_accuracy([0, 1, 1, 0.5]) == pytest.approx(0.625)


def test_ema_equals_its_definition():
  values = np.random.default_rng(0).uniform(size=20)
  weights = 0.99 ** np.arange(20)[::-1]
  expected = (weights * values).sum() / weights.sum()
  assert classification.exponential_moving_average(values)[-1] == pytest.approx(expected)
  assert classification.exponential_moving_average(values)[0] == pytest.approx(values[0])
