"""Leaves over many members at once: folds and maps."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.environments.tensorflow_frontend import (
  tensorflow_computation_context,
)

from tests.tff_attacks.runtime.leaves import FLOAT, INT, VECTOR, leaf_of


def check_fold(made, accumulator, members):
  accumulator = [tf.constant(a) for a in accumulator]
  members = [[tf.constant(m) for m in member] for member in members]
  expected = accumulator
  for member in members:
    expected = made([*expected, *member])
  found = made.fold(accumulator, members)
  assert len(found) == len(expected)
  for f, e in zip(found, expected, strict=True):
    np.testing.assert_array_equal(f, e)


COUNTS = [0, 1, 15, 16, 17, 40]


@pytest.mark.parametrize("count", COUNTS)
def test_fold(count):
  made = leaf_of(lambda a, x: a * 0.9 + x, FLOAT, FLOAT)
  values = np.random.default_rng(0).normal(size=[count, 1]).astype(FLOAT)
  check_fold(made, [np.float32(0)], values)


@pytest.mark.parametrize("count", COUNTS)
def test_fold_of_structs_with_resources(count):
  def function(a, x):
    total, number = a
    variable = tf.Variable(total, shape=[None])
    with tf.control_dependencies([variable.assign_add(x[0])]):
      return variable.read_value(), number + x[1]

  made = leaf_of(function, (VECTOR, INT), (VECTOR, INT))
  members = [(np.full(3, i, FLOAT), np.int32(i)) for i in range(count)]
  check_fold(made, (np.zeros(3, FLOAT), np.int32(0)), members)


@pytest.mark.parametrize("count", COUNTS)
def test_fold_whose_accumulator_grows(count):
  made = leaf_of(lambda a, x: tf.concat([a, [x]], 0), VECTOR, FLOAT)
  check_fold(made, [np.zeros([0], FLOAT)], [[np.float32(i)] for i in range(count)])


@pytest.mark.parametrize("count", COUNTS)
def test_fold_of_nothing(count):
  made = leaf_of(lambda a, x: (), tff.StructType([]), INT)
  check_fold(made, [], [[np.int32(i)] for i in range(count)])
  made = leaf_of(lambda a, x: a + 1, INT, tff.StructType([]))
  check_fold(made, [np.int32(0)], [[]] * count)


@pytest.mark.parametrize("count", COUNTS)
def test_fold_with_session_tokens(count):
  """Every member gets a token of its own, as in calls one by one."""

  def function(a, x):
    token = tensorflow_computation_context.get_session_token()
    return tf.concat([a, [tf.strings.join([token, tf.strings.as_string(x)])]], 0)

  made = leaf_of(function, tff.TensorType(np.str_, [None]), INT)
  members = [[tf.constant(i)] for i in range(count)]
  for _ in range(2):
    (found,) = made.fold([tf.constant([], tf.string)], members)
    assert len(set(found.numpy())) == count


def small(x, y):
  return tf.reduce_sum(x) * y, y + 1


def of_many_ops(x, y):
  for _ in range(100):
    x *= 1.01
  return tf.reduce_sum(x) * y, y + 1


def with_a_loop(x, y):
  return tf.while_loop(lambda i, _: i < 3, lambda i, x: (i + 1, x * y), [0, x])[1], y + 1


def with_a_variable(x, y):
  variable = tf.Variable(y)
  with tf.control_dependencies([variable.assign_add(1)]):
    return tf.reduce_sum(x) * y, variable.read_value()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
  ("function", "groups"),
  [(small, True), (of_many_ops, False), (with_a_loop, False), (with_a_variable, False)],
)
def test_map(count, function, groups):
  made = leaf_of(function, VECTOR, FLOAT)
  assert made.groups == groups
  members = [[tf.range(i, dtype=FLOAT), tf.constant(i, FLOAT)] for i in range(count)]
  found = made.map(members)
  assert len(found) == (count // 16 * 16 if groups else 0)
  for one, member in zip(found, members, strict=False):
    np.testing.assert_array_equal(one, made(member))


@pytest.mark.parametrize("count", COUNTS)
def test_map_of_nothing(count):
  full = count // 16 * 16
  assert leaf_of(lambda x: (), INT).map([[tf.constant(1)]] * count) == [[]] * full
  assert leaf_of(lambda: 1).map([[]] * count) == [[1]] * full


def test_random_draws_of_clients_are_not_grouped():
  """One draw each, as in calls one by one."""
  made = leaf_of(lambda x: tf.function(lambda: tf.random.uniform([], seed=1))() + x, FLOAT)
  assert not made.groups
  assert leaf_of(lambda x: tf.random.stateless_uniform([], [x, x]), INT).groups


def test_an_error_of_one_member_is_that_of_the_map():
  made = leaf_of(lambda x: tf.gather([1, 2], x), INT)
  assert made.groups
  with pytest.raises(tf.errors.InvalidArgumentError):
    made.map([[tf.constant(i % 2 if i < 20 else 7)] for i in range(40)])
