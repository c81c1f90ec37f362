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


@pytest.mark.parametrize("seed", range(3))
def test_lbfgs_begins_anew_until_it_finds_nothing_lower(seed, monkeypatch):
  """On kinks SciPy's own ends early; each search starts from the best, the last one in vain."""
  rng = np.random.default_rng(seed)
  matrix, wanted = (rng.normal(size=size).astype(np.float32) for size in ([12, 12], [12]))
  start = rng.normal(size=12)
  minimize, starts, ends = optimize.minimize, [], []

  def one_search(objective, start, callback, **options):
    starts.append(objective(start)[0])
    result = minimize(objective, start, callback=callback, **options)
    ends.append(result.fun)
    return result

  monkeypatch.setattr(search.optimize, "minimize", one_search)
  found = search.lbfgs(
    lambda values: tf.reduce_sum(tf.abs(tf.linalg.matvec(matrix, values[0]) - wanted)),
    [start],
    steps=2000,
  )
  assert len(starts) >= 2
  np.testing.assert_allclose(starts[1:], np.minimum.accumulate(ends)[:-1], rtol=1e-5)
  assert min(ends) == pytest.approx(min(ends[:-1]), rel=1e-5)
  assert found.losses.min() == pytest.approx(min(ends), rel=1e-5)
  assert found.losses.size < 2000


def squares(values):
  return tf.add_n([tf.reduce_sum((value - 3.0) ** 2) for value in values])


def adam(learning_rate):
  return tf.keras.optimizers.legacy.Adam(learning_rate)


@pytest.mark.parametrize("signed", [True, False])
def test_the_first_value_stays_in_the_box_and_others_leave(signed):
  start = [np.full([2, 2], -9.0), np.zeros([2])]
  seen = []
  (images, other), losses = search.descend(
    squares, start, 400, adam(0.1), signed, box=(-1.0, 1.0),
    watch=lambda step, loss, images: seen.append(images()),
  )  # fmt: skip
  np.testing.assert_allclose(seen[0], -1.0)
  np.testing.assert_allclose(images, 1.0)
  np.testing.assert_allclose(other, 3.0, atol=0.05)
  assert len(losses) == 400
  (images, _), _ = search.descend(squares, start, 400, adam(0.1), signed)
  np.testing.assert_allclose(images, 3.0, atol=0.1)


def test_a_step_of_signed_adam_does_not_depend_on_the_gradients_size():
  """One step of Adam is its learning rate; later ones too, if the gradient keeps its sign."""
  for scale in (1.0, 1e-4):
    (value,), _ = search.descend(
      lambda values, s=scale: s * tf.reduce_sum(values[0]), [np.zeros([3])], 2, adam(0.1), True
    )
    # The best of two is the second one's start.
    np.testing.assert_allclose(value, -0.1, rtol=1e-3)


def test_the_learning_rate_falls_thrice():
  seen = []
  search.descend(
    lambda values: tf.reduce_sum(values[0]),
    [np.zeros([1])],
    80,
    adam(search.three_drops(1e-3, 80)),
    signed=True,
    watch=lambda step, loss, images: seen.append(loss),
  )
  moves = -np.diff(seen)
  rates = moves[[0, len(moves) * 4 // 8, len(moves) * 6 // 8, len(moves) - 1]]
  np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-6], rtol=0.1)


def descend(loss_fn, start, steps, watch=search.unwatched):
  return search.descend(loss_fn, start, steps, adam(0.1), watch=watch)


@pytest.mark.parametrize("method", [search.lbfgs, descend])
def test_a_stopped_search_returns_its_best(method):
  def watch(step, loss, images):
    del loss, images
    if step == 3:
      raise search.Stop

  values, losses = method(rosenbrock, START, steps=50, watch=watch)
  assert len(losses) == 3
  assert float(rosenbrock([tf.constant(v, tf.float32) for v in values])) == pytest.approx(
    losses.min(), rel=1e-4
  )


@pytest.mark.parametrize("method", [search.lbfgs, descend])
def test_a_loss_that_is_never_finite_is_an_error(method):
  with pytest.raises(ValueError, match="it took no step with a finite loss"):
    method(lambda values: values[0][0] * float("nan"), START, steps=3)


def test_nothing_follows_a_loss_that_is_not_finite():
  (value,), losses = descend(lambda values: tf.math.log(values[0][0] + 0.0), [np.array([0.25])], 50)
  assert np.isfinite(losses).tolist() == [True] * (len(losses) - 1) + [False]
  assert len(losses) < 10
  assert np.isfinite(value)


def test_the_best_is_kept_when_the_loss_rises():
  """With so large a learning rate the last step is not the best one."""
  (value,), losses = search.descend(
    lambda values: tf.reduce_sum(values[0] ** 2), [np.full([1], 0.5)], 4, adam(0.45), True
  )
  assert losses[-1] > losses.min()
  np.testing.assert_allclose(value**2, losses.min(), rtol=1e-5)


def sphere(population):
  """Its least value is at 0.5; it is not finite beyond 3."""
  losses = tf.reduce_sum((population - 0.5) ** 2, axis=1)
  return tf.where(tf.reduce_any(population > 3.0, axis=1), np.nan, losses)


def test_evolution_finds_the_minimum_without_gradients():
  (point,), losses = search.evolve(sphere, np.full([4], 2.0), 2000, seed=0)
  np.testing.assert_allclose(point, 0.5, atol=1e-2)
  assert losses.min() < 1e-3 * losses[0]


def test_evolution_keeps_to_its_evaluations():
  counted = []

  def count(population):
    tf.py_function(lambda p: counted.append(len(p)), [population], [])
    return sphere(population)

  search.evolve(count, np.zeros([4]), 50, seed=0)
  assert 42 < sum(counted) <= 50


def test_evolution_needs_a_generation():
  with pytest.raises(ValueError, match="evaluations: must be 8 or more, a generation"):
    search.evolve(sphere, np.zeros([4]), 5, seed=0)


def test_evolution_repeats():
  first, again, other = (search.evolve(sphere, np.zeros([4]), 60, s).values[0] for s in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-6


def test_a_stopped_evolution_returns_its_best():
  def watch(step, loss, images):
    del loss, images
    if step == 16:  # Evaluations, 8 in a generation.
      raise search.Stop

  _, losses = search.evolve(sphere, np.zeros([4]), 2000, seed=0, watch=watch)
  assert len(losses) == 2
