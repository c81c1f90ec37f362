"""What the stock runtime does not do, or does wrongly; the tests say what is right."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.tff_attacks.runtime.computations import (
  FLOAT,
  INT,
  INTS,
  NAMED,
  TABLE,
  Fields,
  Unsorted,
  at_clients,
  check_same,
  eval_at,
  federated,
  identity,
  increment,
  installed,
  pass_clients,
  rows,
  same,
)
from tff_attacks.runtime import in_process


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
