import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

from tff_attacks.metrics import semi_targeted


def outcomes():
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 5, 300)
  return truth, np.where(rng.random(300) < 0.6, truth, rng.integers(0, 5, 300))


def test_main_task_accuracy_is_scikit_learns_without_the_sources():
  truth, predicted = outcomes()
  matrix = confusion_matrix(truth, predicted)
  for sources in ([2], [0, 4]):
    others = ~np.isin(truth, sources)
    expected = accuracy_score(truth[others], predicted[others])
    assert semi_targeted.main_task_accuracy(matrix, sources) == pytest.approx(expected)


def test_max_adversary_task_accuracy_is_over_the_other_classes():
  truth, predicted = outcomes()
  matrix = confusion_matrix(truth, predicted)
  shares = [np.mean(predicted[truth == 2] == target) for target in range(5)]
  best = max((0, 1, 3, 4), key=lambda target: shares[target])
  found = semi_targeted.max_adversary_task_accuracy(matrix, 2, 5)
  assert found == (pytest.approx(shares[best]), best)
  nothing = semi_targeted.max_adversary_task_accuracy(np.zeros([5, 5], int), 2, 5)
  assert np.isnan(nothing[0])
  assert np.isnan(semi_targeted.main_task_accuracy(np.zeros([5, 5], int), [2]))
  # An output that is no class, as for generated images, is no target.
  matrix = np.pad(matrix, [(0, 1), (0, 1)])
  matrix[2, 5] = 10_000
  assert semi_targeted.max_adversary_task_accuracy(matrix, 2, 5)[1] == best
