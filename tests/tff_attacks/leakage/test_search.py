import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from tff_attacks.leakage import search

START = [np.array([-1.2, 1.0, 0.5]), np.array([[2.0]])]


def rosenbrock(values):
  vector, other = values
  return (
    tf.reduce_sum(100 * (vector[1:] - vector[:-1] ** 2) ** 2 + (1 - vector[:-1]) ** 2)
    + other[0, 0] ** 2
  )


def test_lbfgs_finds_the_minimum_that_scipy_finds():
  (vector, other), losses = search.lbfgs(rosenbrock, START, steps=100)
  expected = optimize.minimize(optimize.rosen, START[0], jac=optimize.rosen_der).x
  np.testing.assert_allclose(vector, expected, atol=1e-2)
  assert abs(other[0, 0]) < 1e-2
  assert losses[-1] < 1e-4 * losses[0]
  assert len(losses) <= 100


def squares(values):
  return tf.add_n([tf.reduce_sum((value - 3.0) ** 2) for value in values])


def test_adam_keeps_signed_values_in_the_box_and_lets_others_leave():
  start = [np.zeros([2, 2]), np.zeros([2])]
  (images, other), losses = search.adam(squares, start, 400, 0.1, signed=[True, False])
  np.testing.assert_allclose(images, 1.0)
  np.testing.assert_allclose(other, 3.0, atol=0.05)
  assert len(losses) == 400
  (images, _), _ = search.adam(squares, start, 400, 0.1, signed=[True, False], box=None)
  np.testing.assert_allclose(images, 3.0, atol=0.05)


def test_a_step_of_signed_adam_does_not_depend_on_the_gradients_size():
  """One step of Adam is its learning rate; later ones too, if the gradient keeps its sign."""
  for scale in (1.0, 1e-4):
    (value,), _ = search.adam(
      lambda values, s=scale: s * tf.reduce_sum(values[0]), [np.zeros([3])], 2, 0.1, [True]
    )
    # The best of two is the second one's start.
    np.testing.assert_allclose(value, -0.1, rtol=1e-3)


def test_the_learning_rate_falls_thrice():
  seen = []
  search.adam(
    lambda values: tf.reduce_sum(values[0]),
    [np.zeros([1])],
    80,
    search.three_drops(1e-3, 80),
    [True],
    box=None,
    watch=lambda step, loss, values: seen.append(loss),
  )
  moves = -np.diff(seen)
  rates = moves[[0, len(moves) * 4 // 8, len(moves) * 6 // 8, len(moves) - 1]]
  np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-6], rtol=0.1)


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_an_interrupted_search_returns_its_best(method):
  def watch(step, loss, values):
    del loss, values
    if step == 3:
      raise KeyboardInterrupt

  options = {"learning_rate": 0.1, "signed": [False, False]} if method == "adam" else {}
  values, losses = getattr(search, method)(rosenbrock, START, steps=50, watch=watch, **options)
  assert len(losses) == 3
  assert float(rosenbrock([tf.constant(v, tf.float32) for v in values])) == pytest.approx(
    losses.min(), rel=1e-4
  )


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_a_loss_that_is_never_finite_is_an_error(method):
  options = {"learning_rate": 0.1, "signed": [False, False]} if method == "adam" else {}
  with pytest.raises(ValueError, match="the loss was finite in no step"):
    getattr(search, method)(lambda values: values[0][0] * float("nan"), START, steps=3, **options)


def test_the_best_is_kept_when_the_loss_rises():
  """With so large a learning rate the last step is not the best one."""
  (value,), losses = search.adam(
    lambda values: tf.reduce_sum(values[0] ** 2), [np.full([1], 0.5)], 4, 0.45, [True]
  )
  assert losses[-1] > losses.min()
  np.testing.assert_allclose(value**2, losses.min(), rtol=1e-5)
