import numpy as np
import pytest
from sklearn import metrics

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


def test_ema_ends_where_the_values_do():
  found = classification.exponential_moving_average([0.2, 0.5, np.nan])
  assert np.isnan(found).tolist() == [False, False, True]


def test_macro_scores_are_those_of_scikit_learn():
  """Class 3 is predicted but never true, class 2 the other way round."""
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 3, 300)
  predicted = np.where(rng.uniform(size=300) < 0.6, truth, rng.choice([0, 1, 3], 300))
  predicted[predicted == 2] = 0
  confusion = metrics.confusion_matrix(truth, predicted, labels=range(4))
  for predicted_too, labels in ((True, None), (False, range(3))):
    found = classification.macro_scores(confusion, predicted_too)
    options = {"labels": labels, "average": "macro", "zero_division": 0}
    assert found.precision == pytest.approx(metrics.precision_score(truth, predicted, **options))
    assert found.recall == pytest.approx(metrics.recall_score(truth, predicted, **options))
    assert found.f1 == pytest.approx(metrics.f1_score(truth, predicted, **options))


def test_auc_of_each_class():
  labels = np.array([0, 0, 1, 1, 1])
  probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.5, 0.5, 0], [0.2, 0.8, 0], [0, 0, 1]])
  found = classification.one_vs_rest_auc(labels, probabilities)
  # Of the six pairs of a 0 and a 1, class 0 orders five well; of class 1 three.
  assert found == {"0": pytest.approx(5 / 6), "1": pytest.approx(3 / 6)}
  assert classification.one_vs_rest_auc(labels[:2], probabilities[:2]) == {}
  assert classification.one_vs_rest_auc(labels, np.full_like(probabilities, np.nan)) == {}
