"""The runtime in this process against the stock one: every federated computation."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.tff_attacks.runtime.computations import (
  FLOAT,
  FLOATS,
  INT,
  INTS,
  TABLE,
  Pair,
  add,
  aggregate_digits,
  at_clients,
  at_server,
  check_agrees,
  check_same,
  eval_at,
  federated,
  half,
  increment,
  installed,
  pass_clients,
  rows,
  select_rows,
)
from tff_attacks.runtime import in_process

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


@pytest.mark.parametrize("name", [name for name in FEDERATED if name not in SECURE])
def test_federated_computations_agree(tff_worker, context, name):
  make, *arguments = FEDERATED[name]
  check_agrees(context, make(), arguments)


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
