"""The runtime in this process against the stock one: every type, and what is refused."""

import collections

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.tff_attacks.runtime.computations import (
  DIGITS,
  FLOAT,
  INT,
  INTS,
  NAMED,
  VECTOR,
  Fields,
  Pair,
  Unsorted,
  at_clients,
  at_server,
  check_agrees,
  federated,
  half,
  identity,
  installed,
  same,
  tensorflow,
)

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
  "a float for an integer": (identity(INT), 1.5, "int32, found float"),
  "an integer for a float": (identity(FLOAT), 1, "float32, found int"),
  "a string for an integer": (identity(INT), "1", "int32, found str"),
  "an integer for a string": (identity(np.str_), 1, "string, found int"),
  "a wider array": (identity(VECTOR), np.array([1.0]), "float32, found float64"),
  "a wider eager tensor": (identity(INT), tf.constant(1, tf.int64), "int32, found int64"),
  "eager floats for integers": (
    identity(tff.TensorType(INT, [2])),
    tf.constant([1.0, 2.0]),
    "int32, found float32",
  ),
  "too large an integer": (identity(np.uint8), 256, "uint8, found int"),
  "a negative one": (identity(np.uint32), -1, "uint32, found int"),
  "integers in a list of floats": (
    identity(tff.TensorType(FLOAT, [2])),
    [1.0, 2],
    "float32, found int",
  ),
  "a ragged list": (
    identity(tff.TensorType(FLOAT, [2, None])),
    [[1.0, 2.0], [3.0]],
    "found a list of unequal lists",
  ),
  "a vector for a scalar": (
    identity(INT),
    np.array([1], INT),
    r"shape \(\), found \(1,\)",
  ),
  "a scalar for a vector": (
    identity(tff.TensorType(INT, [1])),
    1,
    r"shape \(1,\), found \(\)",
  ),
  "too long a vector": (
    identity(tff.TensorType(INT, [2])),
    np.arange(3, dtype=INT),
    r"shape \(2,\), found \(3,\)",
  ),
  "too wide a matrix": (
    identity(tff.TensorType(INT, [None, 2])),
    np.ones([1, 3], INT),
    r"shape \(None, 2\), found \(1, 3\)",
  ),
  "no list for clients": (same(INTS), 5, "CLIENTS to be a `list` or `tuple`.*'int'"),
  "an array for clients": (
    same(INTS),
    np.array([1, 2], INT),
    "CLIENTS to be a `list` or `tuple`.*ndarray",
  ),
  "a wrong client": (same(INTS), [1, 2.5], "int32, found float"),
  "too many elements": (
    same(tff.StructType([INT])),
    (1, 2),
    r"elements \[None, None\] is no <int32>",
  ),
  "a scalar for a struct": (same(tff.StructType([INT])), 1, "convert .* int into an `Struct`"),
  "wrong elements of a list": (same(tff.SequenceType(INT)), ["a"], "'a' to .* dtype int32"),
  "wrong elements of a dataset": (
    same(tff.SequenceType(INT)),
    tf.data.Dataset.range(3),
    r"int32\*, found int64\*",
  ),
  "a tuple for a sequence": (
    same(tff.SequenceType(INT)),
    (1, 2),
    r"tf.data.Dataset or a list, found .*tuple",
  ),
  "a scalar for a sequence": (
    same(tff.SequenceType(INT)),
    1,
    r"tf.data.Dataset or a list, found .*int",
  ),
  "a function of another type": (
    federated(lambda f: f(3), tff.FunctionType(INT, INT)),
    half,
    r"\(int32 -> float32\)` is not assignable to type `\(int32 -> int32\)",
  ),
  "no function": (
    federated(lambda f: f(3), tff.FunctionType(INT, INT)),
    3,
    r"computation of type \(int32 -> int32\), found .*int",
  ),
}


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
  make, argument, message = WRONG[name]
  computation = make()
  with pytest.raises(Exception):  # noqa: B017, PT011 (any: the stock runtime raises many)
    computation(argument)
  with installed(context), pytest.raises(TypeError, match=message):
    computation(argument)


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
