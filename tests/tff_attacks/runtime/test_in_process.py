"""The runtime in this process against the stock one.

Where the stock runtime is wrong or cannot do something, the tests say what is right.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import gc
import logging
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import attrs
import hypothesis
import ml_dtypes
import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import strategies as st

from tff_attacks.runtime import in_process, leaf, worker


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


@pytest.fixture(scope="module")
def context():
  return in_process.InProcessContext()


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

FEDERATED = {
  "map": (federated(lambda x: tff.federated_map(increment, x), INTS), [1, 2, 3]),
  "map at server": (federated(lambda x: tff.federated_map(increment, x), at_server(INT)), 1),
  "map to a struct": (
    federated(
      lambda x: tff.federated_map(tff.tensorflow.computation(lambda v: Pair(v, (v, {})), INT), x),
      INTS,
    ),
    [1, 2],
  ),
  "map all equal": (
    federated(
      lambda x, y: (tff.federated_map(increment, tff.federated_broadcast(x)), y),
      at_server(INT),
      INTS,
    ),
    1,
    [1, 2],
  ),
  "map of a building block": (
    federated(
      lambda x: tff.federated_map(tff.federated_computation(lambda v: (v, increment(v)), INT), x),
      INTS,
    ),
    [1, 2],
  ),
  "broadcast": (
    federated(lambda x, y: (tff.federated_broadcast(x), y), at_server(INT), INTS),
    1,
    [1, 2],
  ),
  "value at clients": (
    federated(lambda y: (tff.federated_value(7, tff.CLIENTS), y), INTS),
    [1, 2],
  ),
  "value at server": (federated(lambda: tff.federated_value(7, tff.SERVER)),),
  "value of a struct": (
    federated(lambda: tff.federated_value(collections.OrderedDict(b=1.5, a=True), tff.SERVER)),
  ),
  "value of an array": (
    federated(lambda: tff.federated_value(np.array([1, 2], np.int64), tff.SERVER)),
  ),
  "value of a string": (federated(lambda: tff.federated_value("abc", tff.SERVER)),),
  "eval at clients": (
    federated(
      lambda y: (tff.federated_eval(tff.tensorflow.computation(lambda: 3), tff.CLIENTS), y), INTS
    ),
    [1, 2],
  ),
  "eval at server": (eval_at(tff.SERVER),),
  "aggregate": (federated(aggregate_digits, INTS), [3, 1, 2]),
  "aggregate, one client": (federated(aggregate_digits, INTS), [3]),
  "aggregate, no client": (federated(aggregate_digits, INTS), []),
  "aggregate, many clients": (federated(aggregate_digits, INTS), list(range(37))),
  "sum": (federated(tff.federated_sum, INTS), [1, 2, 3]),
  "sum, no client": (federated(tff.federated_sum, INTS), []),
  "sum, many clients": (
    federated(tff.federated_sum, FLOATS),
    list(np.random.default_rng(0).normal(size=53).astype(FLOAT)),
  ),
  "sum of structs": (
    federated(tff.federated_sum, at_clients(Pair(INT, tff.TensorType(FLOAT, [2])))),
    [Pair(1, np.ones(2, FLOAT)), Pair(2, np.ones(2, FLOAT))],
  ),
  "sum of booleans as integers": (
    federated(
      lambda x: tff.federated_sum(
        tff.federated_map(tff.tensorflow.computation(lambda v: tf.cast(v, INT), np.bool_), x)
      ),
      at_clients(np.bool_),
    ),
    [True, False, True],
  ),
  "mean": (federated(lambda x: tff.federated_mean(x), FLOATS), [1.0, 2.0, 4.0]),
  "mean, one client": (federated(lambda x: tff.federated_mean(x), FLOATS), [0.1]),
  "mean, no client": (federated(lambda x: tff.federated_mean(x), FLOATS), []),
  "weighted mean": (
    federated(lambda x, w: tff.federated_mean(x, w), FLOATS, FLOATS),
    [1.0, 2.0, 4.0],
    [0.1, 0.2, 0.3],
  ),
  "weighted mean of structs": (
    federated(lambda x, w: tff.federated_mean(x, w), at_clients(Pair(FLOAT, (FLOAT,))), FLOATS),
    [Pair(1.0, (2.0,)), Pair(3.0, (5.0,))],
    [0.1, 0.7],
  ),
  "min": (federated(tff.federated_min, INTS), [3, 1, 2]),
  "min, no client": (federated(tff.federated_min, INTS), []),
  "max": (federated(tff.federated_max, FLOATS), [3.0, 1.0, 2.0]),
  "max, no client": (federated(tff.federated_max, FLOATS), []),
  "zip at clients": (
    federated(lambda x, y: tff.federated_zip((x, y)), INTS, FLOATS),
    [1, 2],
    [3.0, 4.0],
  ),
  "zip at clients, deep": (
    federated(lambda x, y: tff.federated_zip(collections.OrderedDict(b=x, a=(y, x))), INTS, FLOATS),
    [1, 2],
    [3.0, 4.0],
  ),
  "zip at clients, one is all equal": (
    federated(
      lambda x, y: tff.federated_zip((tff.federated_broadcast(x), y)), at_server(INT), INTS
    ),
    1,
    [2, 3],
  ),
  "zip at clients, all are all equal": (
    federated(
      lambda x, y: (tff.federated_zip((tff.federated_broadcast(x), tff.federated_broadcast(x))), y),
      at_server(INT),
      INTS,
    ),
    1,
    [2, 3],
  ),
  "zip at server": (
    federated(lambda x, y: tff.federated_zip(Pair(x, y)), at_server(INT), at_server(FLOAT)),
    1,
    2.0,
  ),
  "select": (rows(2), [[0, 1], [2, 2]], TABLE),
  "secure sum": (federated(lambda x: tff.federated_secure_sum(x, 100), INTS), [1, 2, 3]),
  "secure sum by bits": (
    federated(lambda x: tff.federated_secure_sum_bitwidth(x, 8), INTS),
    [1, 2, 3],
  ),
  "secure select": (
    select_rows(tff.federated_secure_select)(2),
    [[0, 1], [2, 2]],
    TABLE,
  ),
  "sequence reduce": (
    federated(lambda x: tff.sequence_reduce(x, 0, add), tff.SequenceType(INT)),
    [1, 2, 3],
  ),
  "sequence reduce, no element": (
    federated(lambda x: tff.sequence_reduce(x, 0, add), tff.SequenceType(INT)),
    [],
  ),
  "sequence reduce at clients": (
    federated(
      lambda x: tff.federated_map(
        tff.federated_computation(
          lambda data: tff.sequence_reduce(data, 0, add), tff.SequenceType(INT)
        ),
        x,
      ),
      at_clients(tff.SequenceType(INT)),
    ),
    [[1, 2], [], [3]],
  ),
  "a function as an argument": (
    federated(lambda f, x: f(x), tff.FunctionType(INT, INT), INT),
    increment,
    3,
  ),
  "a function as the argument": (
    federated(lambda f: f(3), tff.FunctionType(INT, INT)),
    increment,
  ),
  "a function to map": (
    federated(lambda f, x: tff.federated_map(f, x), tff.FunctionType(INT, INT), INTS),
    increment,
    [3, 4],
  ),
  "a federated function as an argument": (
    federated(lambda f, x: f(x), tff.FunctionType(INTS, INTS), INTS),
    pass_clients,
    [1, 2],
  ),
  "a function in a function": (
    federated(
      lambda x: tff.federated_map(tff.federated_computation(lambda v: half(increment(v)), INT), x),
      INTS,
    ),
    [1, 2],
  ),
}

SECURE = [name for name in FEDERATED if name.startswith("secure")]

TYPES = {
  "[None]": (identity(VECTOR), np.arange(3, dtype=FLOAT)),
  "[None, 2]": (identity(tff.TensorType(FLOAT, [None, 2])), np.ones([3, 2], FLOAT)),
  "unknown rank": (identity(tff.TensorType(FLOAT, None)), np.ones([3, 2], FLOAT)),
  "empty": (identity(tff.TensorType(FLOAT, [0, 3])), np.ones([0, 3], FLOAT)),
  "empty from a list": (identity(tff.TensorType(FLOAT, [0])), []),
  "nested lists": (identity(tff.TensorType(FLOAT, [2, 1])), [[1.0], [2.0]]),
  "a tuple for a tensor": (identity(tff.TensorType(FLOAT, [2])), (1.0, 2.0)),
  "tensors in a list": (identity(tff.TensorType(INT, [2])), [tf.constant(1), tf.constant(2)]),
  "an eager tensor": (identity(VECTOR), tf.constant([1.0, 2.0])),
  "a variable": (identity(VECTOR), tf.Variable([1.0, 2.0])),
  "a narrower array": (identity(tff.TensorType(np.int64, [2])), np.array([1, 2], INT)),
  "a narrower eager tensor": (identity(np.int64), tf.constant(1)),
  "an array without dimensions": (identity(INT), np.array(3, INT)),
  "a large integer": (identity(np.uint64), 2**64 - 1),
  "not a number": (identity(FLOAT), float("nan")),
  "a string": (identity(np.str_), "abc"),
  "bytes that end in null": (identity(np.str_), b"abc\0"),
  "bytes that are no text": (identity(np.str_), b"\xff"),
  "a NumPy string": (identity(np.str_), np.str_("abc")),
  "NumPy bytes": (identity(np.str_), np.bytes_("abc")),
  "an array of strings": (identity(tff.TensorType(np.str_, [None])), np.array(["a", "bc"])),
  "an array of bytes": (identity(tff.TensorType(np.str_, [None])), np.array([b"a", b"bc"])),
  "objects that are bytes": (
    identity(tff.TensorType(np.str_, [None])),
    np.array([b"a\0", b"bc"], object),
  ),
  "a list of strings": (identity(tff.TensorType(np.str_, [2])), ["a", "bc"]),
  "no strings": (identity(tff.TensorType(np.str_, [0])), np.array([], object)),
  "a tuple": (identity((INT, FLOAT)), (1, 2.0)),
  "arguments": (tensorflow(lambda x, y: (y, x), INT, FLOAT), 1, 2.0),
  "a list as a struct": (same(tff.StructWithPythonType([INT, FLOAT], list)), [1, 2.0]),
  "a dict": (same(tff.StructWithPythonType(list(NAMED.items()), dict)), {"b": 1, "a": 2}),
  "an ordered dict": (identity(NAMED), collections.OrderedDict(b=1, a=2)),
  "a named tuple": (identity(Unsorted(INT, INT)), Unsorted(1, 2)),
  "an attrs class": (same(tff.StructWithPythonType(list(NAMED.items()), Fields)), Fields(1, 2)),
  "an attrs class, TensorFlow": (tensorflow(lambda: Fields(1, 2.0)),),
  "a tuple for a named tuple": (same(Unsorted(INT, FLOAT)), (1, 2.0)),
  "names without a container": (
    same(tff.StructType([("b", INT), ("a", INT)])),
    collections.OrderedDict(b=1, a=2),
  ),
  "nested structs": (
    same(collections.OrderedDict(b=(INT, Pair((FLOAT,), ())), a=collections.OrderedDict(z=INT))),
    collections.OrderedDict(b=(1, Pair((2.0,), ())), a=collections.OrderedDict(z=3)),
  ),
  "an empty struct": (same(tff.StructType([])), ()),
  "an empty struct, TensorFlow": (tensorflow(lambda x: ((), x), INT), 1),
  "nothing but empty structs": (tensorflow(lambda: ((), {})),),
  "an empty struct at clients": (same(at_clients(tff.StructType([]))), [(), ()]),
  "structs at clients": (same(at_clients(Pair(INT, VECTOR))), [Pair(1, [1.0]), Pair(2, [])]),
  "a value at server": (same(at_server(Pair(INT, FLOAT))), Pair(1, 2.0)),
  "federated values in a struct": (
    same(collections.OrderedDict(b=at_server(INT), a=INTS)),
    collections.OrderedDict(b=1, a=[2, 3]),
  ),
  "an all-equal value": (
    same((tff.FederatedType(INT, tff.CLIENTS, all_equal=True), INTS)),
    (5, [1, 2]),
  ),
  "a dataset": (same(tff.SequenceType(np.int64)), tf.data.Dataset.range(3)),
  "a list as a sequence": (same(tff.SequenceType(INT)), [1, 2, 3]),
  "no elements": (same(tff.SequenceType(INT)), []),
  "elements of many shapes": (same(tff.SequenceType(VECTOR)), [[1.0, 2.0], [3.0, 4.0], [5.0]]),
  "tensors as elements": (same(tff.SequenceType(INT)), [tf.constant(1), tf.constant(2)]),
  "a sequence of tuples": (same(tff.SequenceType((INT, FLOAT))), [(1, 2.0), (3, 4.0)]),
  "a sequence of dicts": (same(tff.SequenceType(NAMED)), [collections.OrderedDict(b=1, a=2)]),
  "a dataset of dicts": (
    lambda: DIGITS,
    tf.data.Dataset.from_tensor_slices(collections.OrderedDict(b=[1, 3], a=[2, 4])),
  ),
  "a sequence made inside": (tensorflow(lambda n: tf.data.Dataset.range(n), np.int64), 3),
  "sequences at clients": (same(at_clients(tff.SequenceType(INT))), [[1], [], [2, 3]]),
}

DTYPES = [
  *[np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64],
  *[np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.complex64, np.complex128],
]

WRONG = {
  "a float for an integer": (identity(INT), 1.5),
  "an integer for a float": (identity(FLOAT), 1),
  "a string for an integer": (identity(INT), "1"),
  "an integer for a string": (identity(np.str_), 1),
  "a wider array": (identity(VECTOR), np.array([1.0])),
  "a wider eager tensor": (identity(INT), tf.constant(1, tf.int64)),
  "eager floats for integers": (identity(tff.TensorType(INT, [2])), tf.constant([1.0, 2.0])),
  "too large an integer": (identity(np.uint8), 256),
  "a negative one": (identity(np.uint32), -1),
  "integers in a list of floats": (identity(tff.TensorType(FLOAT, [2])), [1.0, 2]),
  "a ragged list of integers": (identity(tff.TensorType(FLOAT, [2, None])), [[1, 2], [3]]),
  "a vector for a scalar": (identity(INT), np.array([1], INT)),
  "a scalar for a vector": (identity(tff.TensorType(INT, [1])), 1),
  "too long a vector": (identity(tff.TensorType(INT, [2])), np.arange(3, dtype=INT)),
  "too wide a matrix": (identity(tff.TensorType(INT, [None, 2])), np.ones([1, 3], INT)),
  "no list for clients": (same(INTS), 5),
  "an array for clients": (same(INTS), np.array([1, 2], INT)),
  "a wrong client": (same(INTS), [1, 2.5]),
  "too many elements": (same(tff.StructType([INT])), (1, 2)),
  "a scalar for a struct": (same(tff.StructType([INT])), 1),
  "wrong elements of a list": (same(tff.SequenceType(INT)), ["a"]),
  "wrong elements of a dataset": (same(tff.SequenceType(INT)), tf.data.Dataset.range(3)),
  "a tuple for a sequence": (same(tff.SequenceType(INT)), (1, 2)),
  "a scalar for a sequence": (same(tff.SequenceType(INT)), 1),
  "a function of another type": (
    federated(lambda f: f(3), tff.FunctionType(INT, INT)),
    half,
  ),
  "no function": (federated(lambda f: f(3), tff.FunctionType(INT, INT)), 3),
}


@pytest.mark.parametrize("name", [name for name in FEDERATED if name not in SECURE])
def test_federated_computations_agree(tff_worker, context, name):
  make, *arguments = FEDERATED[name]
  check_agrees(context, make(), arguments)


@pytest.mark.parametrize("name", TYPES)
def test_types_agree(tff_worker, context, name):
  make, *arguments = TYPES[name]
  check_agrees(context, make(), arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_agree(tff_worker, context, dtype):
  types = [dtype, tff.TensorType(dtype, [None]), tff.TensorType(dtype, [0]), at_clients(dtype)]
  values = [dtype(1), np.array([0, 1], dtype), np.zeros([0], dtype), [dtype(0), dtype(1)]]
  check_agrees(context, same(types)(), [values])
  check_agrees(context, identity(types[:3])(), [values[:3]])
  if dtype is not ml_dtypes.bfloat16:
    lists = [np.ones(2, dtype).tolist(), [dtype(1), dtype(0)]]
    check_agrees(context, identity([tff.TensorType(dtype, [2])] * 2)(), [lists])


@pytest.mark.parametrize("dtype", DTYPES)
def test_python_and_numpy_scalars_are_accepted_as_by_the_worker(tff_worker, context, dtype):
  computation = identity(dtype)()
  values = [True, 1, -1, 70000, 1.5, 1.5j, "a", np.int64(1), np.uint8(1), np.float64(1)]

  def outcome(value):
    try:
      return computation(value)
    except Exception as error:
      return type(error)

  for value in values:
    expected = outcome(value)
    with installed(context):
      found = outcome(value)
    assert found == expected, value
    assert type(found) is type(expected), value


@pytest.mark.parametrize("name", WRONG)
def test_what_the_worker_refuses_is_refused(tff_worker, context, name):
  make, *arguments = WRONG[name]
  computation = make()
  with pytest.raises(Exception):  # noqa: B017, PT011 (any: the stock runtime raises many)
    computation(*arguments)
  with installed(context), pytest.raises(TypeError):
    computation(*arguments)


def test_errors_name_what_was_expected_and_found(context):
  cases = [
    (identity(INT), 1.5, "int32, found float"),
    (identity(np.str_), object(), "string, found object"),
    (identity(INT), None, "int32, found NoneType"),
    (identity(INT), {"a": 1}, "int32, found dict"),
    (identity(VECTOR), np.zeros([2, 2], FLOAT), r"shape \(None,\), found \(2, 2\)"),
    (same(tff.SequenceType(INT)), tf.data.Dataset.range(1), r"int32\*, found int64\*"),
    (same(INTS), [None], "int32, found NoneType"),
  ]
  for make, argument, message in cases:
    with installed(context), pytest.raises(TypeError, match=message):
      make()(argument)


def test_clients_of_two_arguments_must_be_as_many(tff_worker, context):
  computation = tff.federated_computation(lambda x, y: (x, y), INTS, INTS)
  with pytest.raises(ValueError, match="Conflicting cardinalities"):
    computation([1], [1, 2])
  with installed(context), pytest.raises(ValueError, match="Conflicting cardinalities"):
    computation([1], [1, 2])


@pytest.mark.parametrize("name", SECURE)
def test_secure_aggregation_is_computed_in_the_clear_only_when_asked(context, name):
  make, *arguments = FEDERATED[name]
  with installed(context), pytest.raises(NotImplementedError, match="federated_secure"):
    make()(*arguments)
  plain = {"secure select": "select"}.get(name)
  with in_process.in_process(insecure_aggregation=True):
    found = make()(*arguments)
    expected = np.int32(6)
    if plain:
      plain_make, *plain_arguments = FEDERATED[plain]
      expected = plain_make()(*plain_arguments)
    check_same(found, expected)
    if not plain:
      with pytest.raises(tf.errors.InvalidArgumentError, match="larger than maximum"):
        make()([1000])


# What the stock runtime does not do, or does wrongly.


def test_sequence_map(context):
  """The worker has no `sequence_map`."""

  def mapped(function, element, values):
    function = tff.tensorflow.computation(function, element)
    run = tff.federated_computation(
      lambda x: tff.sequence_map(function, x), tff.SequenceType(element)
    )
    return list(run(values).as_numpy_iterator())

  with installed(context):
    assert mapped(lambda x: x + 1, INT, [1, 2]) == [2, 3]
    assert mapped(lambda x: x + 1, INT, []) == []
    one = tff.StructType([INT])
    assert mapped(lambda x: (x[0] + 1,), one, [(1,), (2,)]) == [(2,), (3,)]
    assert mapped(lambda x: (x[1], (x[0], {"z": x[1]})), (INT, FLOAT), [(1, 2.0)]) == [
      (2.0, (1, {"z": 2.0}))
    ]
    assert mapped(lambda x: Unsorted(x.a, x.b), Unsorted(INT, INT), [Unsorted(1, 2)]) == [(2, 1)]
    assert mapped(lambda x: {"z": x["b"] - x["a"]}, NAMED, [{"b": 5, "a": 2}]) == [{"z": 3}]


def test_sequence_sum_is_refused_by_both(tff_worker, context):
  computation = tff.federated_computation(tff.sequence_sum, tff.SequenceType(INT))
  with pytest.raises(Exception, match="sequence_sum"):
    computation([1, 2])
  with installed(context), pytest.raises(NotImplementedError, match="sequence_sum"):
    computation([1, 2])


@pytest.mark.parametrize("container", [Unsorted, Fields, collections.OrderedDict])
def test_elements_keep_their_names(context, container):
  """The worker goes by the order of names, which depends on the container."""
  element = tff.StructWithPythonType(list(NAMED.items()), container)
  spec = tff.SequenceType(element)
  get = dict.__getitem__ if container is collections.OrderedDict else getattr
  digits = tff.tensorflow.computation(
    lambda data: data.reduce(0, lambda s, e: s * 100 + get(e, "b") * 10 + get(e, "a")), spec
  )
  pass_on = tff.federated_computation(lambda x: x, spec)
  for value in (Unsorted(1, 2), Fields(1, 2), collections.OrderedDict(b=1, a=2)):
    for data in ([value], tf.data.Dataset.from_tensors(value)):
      if isinstance(value, Fields) and isinstance(data, list):
        continue  # TFF makes no dataset of them.
      with installed(context):
        assert digits(data) == 12
        (element,) = pass_on(data)
        assert (get(element, "b"), get(element, "a")) == (1, 2)


def test_names_in_another_order_are_refused(context):
  """The worker takes the elements by position."""
  computation = same(at_clients(tff.StructType([("a", INT), ("b", INT)])))()
  with installed(context), pytest.raises(TypeError, match=r"\['b', 'a'\]"):
    computation([{"b": 1, "a": 2}])


def test_values_that_only_this_runtime_takes(context):
  cases = [
    (same(INTS), (1, 2), [1, 2]),
    (identity(np.str_), "ä", "ä".encode()),
    (identity(tff.TensorType(INT, None)), 3, 3),
    (same(tff.FederatedType(INT, tff.CLIENTS, all_equal=True)), 5, 5),
    (same(INTS), [], []),
    (federated(lambda x: tff.federated_map(increment, x), INTS), [], []),
  ]
  with installed(context):
    for make, argument, expected in cases:
      assert make()(argument) == expected
    all_equal = tff.FederatedType(INT, tff.CLIENTS, all_equal=True)
    less_special = tff.federated_computation(lambda x, y: (pass_clients(x), y), all_equal, INTS)
    assert less_special(5, [1, 2]) == ([5, 5], [1, 2])


def test_select_without_keys(context):
  """The worker makes no empty sequences."""
  with installed(context):
    result = rows(0)()([np.zeros([0], INT)] * 2, TABLE)
  check_same(result, [np.zeros([2], FLOAT)] * 2)


def test_select_checks_keys(context):
  computation = rows(1)()
  with installed(context):
    for key in (-1, 3):
      with pytest.raises(ValueError, match="not in"):
        computation([[key]], TABLE)


def test_functions_cannot_be_results(context):
  computation = tff.federated_computation(lambda x: increment, INT)
  with installed(context), pytest.raises(TypeError, match="cannot be a result"):
    computation(1)


def test_default_number_of_clients():
  with in_process.in_process(default_num_clients=3):
    assert eval_at(tff.CLIENTS)()() == [3, 3, 3]


# Any types, any values.

SCALARS = {
  np.int32: st.integers(-(2**31), 2**31 - 1).map(np.int32),
  np.uint8: st.integers(0, 255).map(np.uint8),
  np.float32: st.floats(width=32).map(np.float32),
  np.float16: st.floats(width=16).map(np.float16),
  np.complex64: st.complex_numbers(width=64).map(np.complex64),
  np.bool_: st.booleans().map(np.bool_),
  np.str_: st.binary(max_size=4),
}


@st.composite
def tensors(draw):
  dtype = draw(st.sampled_from(list(SCALARS)))
  shape = draw(st.lists(st.integers(0, 2), max_size=2))
  value = [draw(SCALARS[dtype]) for _ in range(int(np.prod(shape)))]
  if not shape:
    return dtype, value[0]
  unknown = [draw(st.booleans()) for _ in shape]
  spec = [None if u else size for u, size in zip(unknown, shape, strict=True)]
  array = np.array(value, object if dtype is np.str_ else dtype).reshape(shape)
  return tff.TensorType(dtype, spec), array


def structs(inner):
  unnamed = st.lists(inner, max_size=3).map(
    lambda parts: (tuple(t for t, _ in parts), tuple(v for _, v in parts))
  )
  named = st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(
    lambda parts: (
      collections.OrderedDict((k, t) for k, (t, _) in parts.items()),
      collections.OrderedDict((k, v) for k, (_, v) in parts.items()),
    )
  )
  pairs = st.tuples(inner, inner).map(
    lambda parts: tuple(Unsorted(*part) for part in zip(*parts, strict=True))
  )
  return unnamed | named | pairs


nested = st.recursive(tensors(), structs, max_leaves=5)
few_examples = hypothesis.settings(
  max_examples=20,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)


@few_examples
@hypothesis.given(nested)
def test_any_value_passes_unchanged(tff_worker, context, typed):
  type_spec, value = typed
  check_agrees(context, same(type_spec)(), [value])
  check_agrees(context, identity(tff.to_type([type_spec]))(), [[value]])


@few_examples
@hypothesis.given(st.lists(st.floats(-1e3, 1e3, width=32), max_size=70))
def test_any_number_of_clients(tff_worker, context, values):
  check_agrees(context, TOTALS, [[FLOAT(v) for v in values]])


@tff.federated_computation(FLOATS)
def TOTALS(values):  # noqa: N802 (a constant)
  return tff.federated_sum(values), tff.federated_mean(values), tff.federated_max(values)


@few_examples
@hypothesis.given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5))
def test_any_sequences(tff_worker, context, data):
  check_agrees(context, COUNTS, [data])


@tff.federated_computation(at_clients(tff.SequenceType(INT)))
def COUNTS(data):  # noqa: N802 (a constant)
  count = tff.tensorflow.computation(
    lambda d: d.reduce((0, 0), lambda s, x: (s[0] + 1, s[1] * 10 + x)), tff.SequenceType(INT)
  )
  return tff.federated_map(count, data), tff.federated_sum(tff.federated_map(count, data))


# Threads.


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


def test_threads_change_no_bit():
  results = []
  for threads in (1, 2, 5):
    with in_process.in_process(client_threads=threads):
      results.append([round_of_training(MATRIX, list(range(n))) for n in (1, 7, 40)])
  check_same(results[1], results[0])
  check_same(results[2], results[0])


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


def test_concurrent_clients_do_not_share_state():
  limits = [i % 50 for i in range(500)]
  with in_process.in_process(client_threads=8):
    assert count_at_clients(limits) == limits


def test_calls_from_several_threads(context):
  def call(thread):
    with installed(context):
      return [count_at_clients([thread, i]) for i in range(10)]

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    results = list(pool.map(call, range(8)))
  assert results == [[[thread, i] for i in range(10)] for thread in range(8)]


def test_first_calls_at_the_same_time():
  """Several threads bind the same computation at once."""
  context = in_process.InProcessContext()

  def call(_):
    with installed(context):
      return count_at_clients(list(range(40)))

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(call, range(4))) == [list(range(40))] * 4


def test_an_error_at_a_client_reaches_the_caller():
  check = tff.tensorflow.computation(lambda x: tf.debugging.check_numerics(x, "bad client"), FLOAT)
  computation = tff.federated_computation(lambda x: tff.federated_map(check, x), FLOATS)
  for threads in (1, 2):
    with in_process.in_process(client_threads=threads):
      with pytest.raises(tf.errors.InvalidArgumentError, match="bad client"):
        computation([1.0, float("nan"), 2.0])
      assert computation([1.0]) == [1.0]


def test_client_map_is_used():
  seen = []

  def backwards(function, arguments):
    seen.append(len(arguments))
    return [function.call(argument) for argument in reversed(arguments)][::-1]

  with in_process.in_process(client_map=backwards):
    assert count_at_clients([1, 2, 3]) == [1, 2, 3]
  assert seen == [3]


# The context.


def test_jax_is_refused(context):
  computation = tff.jax.computation(lambda x: x + 1, INT)
  with installed(context), pytest.raises(NotImplementedError, match="xla computation"):
    computation(1)


def test_unknown_devices_are_refused():
  with pytest.raises(ValueError, match=r"no GPU:7; there are CPU:0"):
    in_process.InProcessContext("GPU:7")
  with pytest.raises(ValueError, match="client_threads"):
    in_process.InProcessContext(client_threads=0)


@pytest.mark.parametrize("device", ["CPU:0", "/CPU:0", "/device:CPU:0"])
def test_known_devices(device):
  with in_process.in_process(device):
    assert increment(1) == 2


def test_keep_tensors():
  def next_state(state, values):
    total = tff.federated_sum(values)
    return tff.federated_map(add, (state, total)), total

  computation = tff.federated_computation(next_state, at_server(INT), INTS)
  with in_process.in_process(keep_tensors=True):
    state, total = computation(1, [1, 2])
    assert isinstance(state, tf.Tensor)
    assert isinstance(total, tf.Tensor)
    state, _ = computation(state, [total, 4])
  assert state == 1 + 3 + 7
  pair = same(Pair(INT, VECTOR))()
  with in_process.in_process(keep_tensors=True):
    result = pair(pair(Pair(1, [2.0])))
  assert type(result) is Pair
  check_same([x.numpy() for x in result], [np.int32(1), np.array([2], FLOAT)])


def test_results_do_not_alias_arguments():
  array = np.zeros(2**16, FLOAT)
  with in_process.in_process():
    result = same(VECTOR)()(array)
  with in_process.in_process(keep_tensors=True):
    kept = same(VECTOR)()(array)
  array[:] = 1
  assert not result.any()
  assert not kept.numpy().any()


def test_set_in_process_context():
  def run():
    worker.remove_stock_context()
    with pytest.raises(RuntimeError, match="No TFF runtime"):
      increment(1)
    in_process.set_in_process_context(default_num_clients=2)
    return increment(1), eval_at(tff.CLIENTS)()()

  # In a thread of its own, as the default is a thread's.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    assert pool.submit(run).result() == (2, [3, 3])


def test_a_program_runs():
  state_type = at_server(collections.OrderedDict(total=INT, rounds=INT))

  @tff.tensorflow.computation(state_type.member, INT)
  def update(state, total):
    return collections.OrderedDict(total=state["total"] + total, rounds=state["rounds"] + 1)

  @tff.federated_computation
  def initialize():
    value = tff.tensorflow.computation(lambda: collections.OrderedDict(total=0, rounds=0))
    return tff.federated_eval(value, tff.SERVER)

  @tff.federated_computation(state_type, INTS)
  def next_state(state, values):
    total = tff.federated_sum(values)
    return tff.federated_map(update, (state, total)), total

  class Released(tff.program.ReleaseManager):
    def __init__(self):
      self.values = []

    async def release(self, value, key):
      value = await tff.program.materialize_value(value)
      self.values.append((key, value))

  async def program(released):
    state = initialize()
    for key in range(3):
      state, total = next_state(state, [key, 10])
      await released.release(total, key)
    await released.release(state, "state")

  context = in_process.AsyncInProcessContext(in_process.InProcessContext(client_threads=2))
  released = Released()
  with installed(tff.program.NativeFederatedContext(context)):
    asyncio.run(program(released))
  state = collections.OrderedDict(total=33, rounds=3)
  assert released.values == [(0, 10), (1, 11), (2, 12), ("state", state)]


def test_nothing_is_traced_again(monkeypatch):
  leaves, traces = [], []
  compile_ = leaf._compile
  monkeypatch.setattr(leaf, "_compile", lambda *a: traces.append(a) or compile_(*a))

  class Counted(leaf.Leaf):
    def __init__(self, *arguments):
      leaves.append(self)
      super().__init__(*arguments)

  monkeypatch.setattr(leaf, "Leaf", Counted)
  with in_process.in_process():
    for clients in (20, 40):
      round_of_training(MATRIX, list(range(clients)))
    count = len(leaves), len(traces)
    for i in range(50):
      round_of_training(MATRIX + i, list(range(i)))
  assert (len(leaves), len(traces)) == count


def test_computations_with_equal_leaves_share_them():
  context = in_process.InProcessContext()
  computations = [tff.federated_computation(lambda x: (increment(x), x), INT) for _ in range(2)]
  with installed(context):
    for computation in computations:
      computation(1)
  assert len(context._bound) == 2
  assert len(context._leaves) == 1


def test_old_computations_are_forgotten():
  context = in_process.InProcessContext()
  with installed(context):
    for i in range(in_process._MAX_BOUND + 20):
      assert tff.tensorflow.computation(adder(i), INT)(1) == 1 + i
  gc.collect()
  assert len(context._bound) == in_process._MAX_BOUND
  assert len(context._leaves) == in_process._MAX_BOUND


def adder(number):
  return lambda x: x + number


def test_calls_that_raise_keep_no_memory(context):
  @tff.tensorflow.computation(FLOAT)
  def fail(x):
    variable = tf.Variable(tf.fill([1000, 250], x))  # 1 MB
    with tf.control_dependencies([tf.debugging.check_numerics(variable, "bad")]):
      return tf.reduce_sum(variable)

  def run(times):
    for _ in range(times):
      with pytest.raises(tf.errors.InvalidArgumentError):
        fail(float("nan"))
    gc.collect()
    return psutil.Process().memory_info().rss

  with installed(context):
    before = run(20)
    after = run(200)
  assert after - before < 20e6


# Randomness.


def test_a_shuffled_dataset_is_shuffled_anew_in_every_call(tff_worker, context):
  """As by TensorFlow itself; the worker gets a copy each time, and repeats one order."""
  data = tf.data.Dataset.range(50).shuffle(50, seed=1)
  fixed = tf.data.Dataset.range(50).shuffle(50, seed=1, reshuffle_each_iteration=False)

  @tff.tensorflow.computation(tff.SequenceType(np.int64))
  def order(data):
    return (
      data.batch(50).take(1).reduce(tf.zeros([50], tf.int64), lambda _, x: tf.ensure_shape(x, [50]))
    )

  def orders(data):
    return [tuple(order(data)) for _ in range(3)]

  assert len(set(orders(data))) == 1
  with installed(context):
    assert len(set(orders(data))) == 3
    assert len(set(orders(fixed))) == 1


def test_seeded_draws_go_on_and_stateless_ones_do_not(context):
  @tff.tensorflow.computation
  def seeded():
    return tf.random.uniform([], seed=1)

  @tff.tensorflow.computation
  def stateless():
    return tf.random.stateless_uniform([], [1, 2])

  with installed(context):
    first = [float(seeded()) for _ in range(3)]
    assert len({float(stateless()) for _ in range(3)}) == 1
  assert len(set(first)) == 3
  with in_process.in_process():
    assert [float(seeded()) for _ in range(3)] == first


# Devices: they are made when TensorFlow starts, so in a program of its own.

DEVICES = """
import logging
import numpy as np, tensorflow as tf, tensorflow_federated as tff
tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tff_attacks.runtime import in_process, worker
logging.basicConfig()
worker.remove_stock_context()
tf.debugging.set_log_device_placement(True)

STATE = tff.TensorType(np.float32, [4, 4])

@tff.tensorflow.computation(STATE, tff.SequenceType(tff.TensorType(np.float32, [4])))
def train(state, data):
  weights = tf.Variable(state)
  @tf.function
  def loop():
    for x in iter(data):
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.linalg.matvec(weights, x) ** 2)
      weights.assign_sub(0.1 * tape.gradient(loss, weights))
    return weights.read_value()
  return loop()

@tff.federated_computation(
  tff.FederatedType(STATE, tff.SERVER),
  tff.FederatedType(tff.SequenceType(tff.TensorType(np.float32, [4])), tff.CLIENTS))
def next_state(state, data):
  return tff.federated_mean(tff.federated_map(train, (tff.federated_broadcast(state), data)))

data = [tf.data.Dataset.from_tensor_slices(np.ones([3, 4], np.float32))] * 2
with in_process.in_process("CPU:1", keep_tensors=True):
  state = next_state(np.eye(4, dtype=np.float32), data)
  print("STATE", state.device)
  tff.tensorflow.computation(
    lambda data: data.reduce(np.int64(0), lambda s, x: s + x), tff.SequenceType(np.int64)
  )(tf.data.Dataset.range(3))
"""


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
  """The finished program; it is a file, as AutoGraph reads sources."""
  path = tmp_path_factory.mktemp("devices") / "program.py"
  path.write_text(DEVICES)
  root = str(pathlib.Path(__file__).parents[3])
  program = subprocess.run(
    [sys.executable, path],
    capture_output=True,
    text=True,
    timeout=200,
    env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "0"},
  )
  assert program.returncode == 0, program.stderr
  return program


def test_training_runs_on_the_device(two_devices):
  assert re.search(r"^STATE \S+CPU:1$", two_devices.stdout, re.M)
  placed = collections.defaultdict(set)
  for op, device in re.findall(r": \((\w+)\): \S+(CPU:\d)", two_devices.stderr):
    placed[op].add(device)
  for op in ("MatMul", "VarHandleOp", "AssignSubVariableOp", "ReadVariableOp"):
    assert placed[op] == {"CPU:1"}, dict(placed)


def test_reducing_a_dataset_on_a_device_warns(two_devices):
  assert "reduces a dataset" in two_devices.stderr


def test_reducing_a_dataset_anywhere_does_not_warn(caplog, context):
  with caplog.at_level(logging.WARNING), installed(context):
    DIGITS([collections.OrderedDict(b=1, a=2)])
  assert "reduces a dataset" not in caplog.text
