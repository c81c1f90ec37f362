import numpy as np
import pytest
from sklearn import metrics

from tests import tiny
from tff_attacks import keras_state
from tff_attacks.metrics import classification
from tff_attacks.simulation import evaluation


def test_equals_keras_and_scikit_learn_over_several_batches():
  test = tiny.images(0, 1203)
  weights = keras_state.initial_weights(tiny.global_model, 0)
  result = evaluation.build_evaluation(tiny.global_model, tiny.LOSS_FN, test)(weights)
  model = tiny.global_model()
  keras_state.assign(model, weights)
  outputs = model.predict(test.images, verbose=0)
  np.testing.assert_allclose(result.loss, tiny.LOSS_FN(test.labels, outputs), rtol=1e-5)
  expected = metrics.confusion_matrix(test.labels, outputs.argmax(axis=1), labels=range(4))
  np.testing.assert_array_equal(result.confusion, expected)


def test_a_model_that_diverged_predicts_nothing():
  test = tiny.images(0, 700)
  weights = keras_state.initial_weights(tiny.global_model, 0)
  diverged = weights._replace(trainable=[np.full_like(w, np.nan) for w in weights.trainable])
  result = evaluation.build_evaluation(tiny.global_model, tiny.LOSS_FN, test)(diverged)
  assert np.isnan(result.loss)
  np.testing.assert_array_equal(result.confusion, np.zeros([4, 4]))
  assert np.isnan(classification.accuracy(result.confusion))
  assert np.isnan(classification.attack_accuracy(result.confusion, 1, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_output_that_is_no_finite_number_spoils_the_prediction(value):
  weights = keras_state.initial_weights(tiny.global_model, 0)
  weights.trainable[-1][1] = value
  evaluate = evaluation.build_evaluation(tiny.global_model, tiny.LOSS_FN, tiny.images(0, 20))
  np.testing.assert_array_equal(evaluate(weights).confusion, np.zeros([4, 4]))
