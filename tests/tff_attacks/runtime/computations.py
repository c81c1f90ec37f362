"""Small TFF computations, and how results of two runtimes are compared."""

import collections
import contextlib
from typing import Any, NamedTuple

import attrs
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff


class Pair(NamedTuple):
  first: Any
  second: Any


class Unsorted(NamedTuple):
  b: Any
  a: Any


@attrs.define
class Fields:
  b: Any
  a: Any


def at_clients(type_spec):
  return tff.FederatedType(type_spec, tff.CLIENTS)


def at_server(type_spec):
  return tff.FederatedType(type_spec, tff.SERVER)


INT, FLOAT = np.int32, np.float32
INTS, FLOATS = at_clients(INT), at_clients(FLOAT)
VECTOR = tff.TensorType(FLOAT, [None])
NAMED = collections.OrderedDict(b=INT, a=INT)
"""Sorted otherwise than declared, as `tf.data` and `tf.nest` sort names."""


@contextlib.contextmanager
def installed(context):
  with tff.framework.get_context_stack().install(context):
    yield


def check_same(found, expected):
  """Asserts equality, of Python and NumPy types as well."""
  if isinstance(expected, tf.data.Dataset):
    assert found.element_spec == expected.element_spec
    found, expected = list(found), list(expected)
  elif isinstance(expected, tf.Tensor):
    found, expected = found.numpy(), expected.numpy()
  assert type(found) is type(expected)
  if attrs.has(type(expected)):
    found, expected = (attrs.asdict(x, recurse=False) for x in (found, expected))
  if isinstance(expected, dict):
    assert list(found) == list(expected)
    found, expected = list(found.values()), list(expected.values())
  if isinstance(expected, list | tuple):
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
      check_same(f, e)
  else:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def check_agrees(context, computation, arguments):
  """Runs a computation in the worker, which is installed, and in the context."""
  expected = computation(*arguments)
  with installed(context):
    check_same(computation(*arguments), expected)


# Computations are made in the tests: a case is how, and arguments.


def federated(function, *types):
  return lambda: tff.federated_computation(function, *types)


def tensorflow(function, *types):
  return lambda: tff.tensorflow.computation(function, *types)


def identity(type_spec):
  """Through TensorFlow."""
  return tensorflow(lambda x: tf.nest.map_structure(tf.identity, x), type_spec)


def same(type_spec):
  """Through building blocks alone."""
  return federated(lambda x: x, type_spec)


increment = tff.tensorflow.computation(lambda x: x + 1, INT)
add = tff.tensorflow.computation(lambda x, y: x + y, INT, INT)
half = tff.tensorflow.computation(lambda x: tf.cast(x, FLOAT) / 2, INT)


def eval_at(placement):
  return federated(lambda: tff.federated_eval(tff.tensorflow.computation(lambda: 3), placement))


def aggregate_digits(values):
  """Depends on the order of the clients."""
  accumulate = tff.tensorflow.computation(
    lambda a, x: Pair(a.first * 10 + x, a.second + 1), Pair(INT, INT), INT
  )
  merge = tff.tensorflow.computation(lambda a, b: a, Pair(INT, INT), Pair(INT, INT))
  report = tff.tensorflow.computation(
    lambda a: collections.OrderedDict(digits=a.first, count=a.second), Pair(INT, INT)
  )
  return tff.federated_aggregate(values, Pair(0, 0), accumulate, merge, report)


def select_rows(select):
  def run(keys, table):
    sums = tff.tensorflow.computation(
      lambda rows: rows.reduce(tf.zeros([2]), lambda s, row: s * 2 + row),
      tff.SequenceType(tff.TensorType(FLOAT, [2])),
    )
    gather = tff.tensorflow.computation(
      lambda table, key: tf.gather(table, key), tff.TensorType(FLOAT, [3, 2]), INT
    )
    rows = select(keys, tff.federated_value(3, tff.SERVER), table, gather)
    return tff.federated_map(sums, rows)

  table = at_server(tff.TensorType(FLOAT, [3, 2]))
  return lambda n: federated(run, at_clients(tff.TensorType(INT, [n])), table)


TABLE = np.arange(6, dtype=FLOAT).reshape(3, 2)
rows = select_rows(tff.federated_select)


@tff.federated_computation(INTS)
def pass_clients(values):
  return values


DIGITS = tff.tensorflow.computation(
  lambda data: data.reduce(0, lambda s, e: s * 100 + e["b"] * 10 + e["a"]),
  tff.SequenceType(NAMED),
)


@tff.tensorflow.computation(tff.TensorType(FLOAT, [8, 8]), INT)
def train(matrix, seed):
  """A variable, a loop and draws: what clients do."""
  state = tf.Variable(matrix)

  @tf.function
  def loop():
    for step in tf.range(5):
      noise = tf.random.stateless_normal([8, 8], [seed, step])
      state.assign(tf.tanh(state @ matrix + noise))
    return state.read_value()

  return loop()


@tff.federated_computation(at_server(tff.TensorType(FLOAT, [8, 8])), INTS)
def round_of_training(matrix, seeds):
  return tff.federated_mean(tff.federated_map(train, (tff.federated_broadcast(matrix), seeds)))


MATRIX = np.random.default_rng(0).normal(size=[8, 8]).astype(FLOAT)


@tff.tensorflow.computation(INT)
def count_to(limit):
  variable = tf.Variable(limit * 0)

  @tf.function
  def count():
    for _ in tf.range(limit):
      variable.assign_add(1)
    return variable.read_value()

  return count()


@tff.federated_computation(INTS)
def count_at_clients(limits):
  return tff.federated_map(count_to, limits)
