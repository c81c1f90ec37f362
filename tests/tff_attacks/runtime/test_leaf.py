"""Leaves by themselves: resources, libraries of functions, results of every form."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.environments.tensorflow_frontend import (
  tensorflow_computation_context,
)

from tests.tff_attacks.runtime.leaves import FLOAT, INT, leaf_of, run
from tff_attacks.runtime import leaf, worker


def check_repeats(function, types, arguments, expected):
  """A leaf gives the same in every call."""
  made = leaf_of(function, *types)
  for _ in range(3):
    for found, value in zip(run(made, *arguments), expected, strict=True):
      np.testing.assert_array_equal(found, value)
  return made


def test_variables_of_one_name_are_two():
  def function(x):
    first = tf.Variable(x, name="v")
    second = tf.Variable(x * 10, name="v")
    with tf.control_dependencies([first.assign_add(1), second.assign_add(2)]):
      return first.read_value(), second.read_value()

  check_repeats(function, [INT], [np.int32(1)], [2, 12])


def test_initialisers_depend_on_parameters():
  def function(x, n):
    first = tf.Variable(tf.fill([n], x), shape=[None])
    second = tf.Variable(x * tf.cast(n, FLOAT) + 1)
    return first.read_value(), second.read_value()

  made = leaf_of(function, FLOAT, INT)
  for n in (3, 0, 5):
    first, second = run(made, np.float32(2), np.int32(n))
    np.testing.assert_array_equal(first, np.full(n, 2.0))
    assert second == 2 * n + 1


def test_nested_functions():
  @tf.function
  def inner(x, times):
    for _ in tf.range(times):
      x = x * 2
    return x

  @tf.function
  def outer(x):
    return tf.cond(x > 10, lambda: inner(x, 1), lambda: inner(x, 3)) + inner(x, 0)

  made = leaf_of(outer, INT)
  assert run(made, np.int32(11)) == [33]
  assert run(made, np.int32(1)) == [9]


def test_gradients_through_functions():
  @tf.function
  def power(x):
    return x**3

  def function(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = power(power(x))
    return tape.gradient(y, x)

  check_repeats(function, [FLOAT], [np.float32(1)], [9])


@pytest.mark.parametrize("together", [False, True])
def test_functions_of_one_name_differ(together):
  """Each graph has its own library of functions; the process has one for all."""

  def proto_of(factor):
    computation = tff.tensorflow.computation(tf.function(lambda x: x * factor), INT)
    proto = tff.framework.ConcreteComputation.get_proto(computation)
    graph_def = tf.compat.v1.GraphDef()
    proto.tensorflow.graph_def.Unpack(graph_def)
    (function,) = graph_def.library.function
    for node in graph_def.node:
      if "f" in node.attr:
        node.attr["f"].func.name = "same_name"
    function.signature.name = "same_name"
    proto.tensorflow.graph_def.Pack(graph_def)
    return proto

  protos = [proto_of(factor) for factor in (2, 5)]
  leaves = [leaf.Leaf(proto, None) for proto in protos]
  if together:
    outer = tf.function(lambda x: [made([x])[0] for made in leaves])
    assert [r.numpy() for r in outer(tf.constant(3))] == [6, 15]
  assert [run(made, np.int32(3)) for made in leaves] == [[6], [15]]


def static_table(x):
  table = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1, 2])), -1
  )
  return table.lookup(tf.constant(["a", "c"])) * x


def mutable_table(x):
  table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int32, -1)
  before = table.size()
  with tf.control_dependencies([before]):
    insertion = table.insert(tf.constant([1, 2], tf.int64), tf.stack([x, x + 1]))
  with tf.control_dependencies([insertion]):
    return tf.cast(before, INT), table.lookup(tf.constant([1, 2, 3], tf.int64))


def mutable_table_of_tensors(x):
  table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int32, [-1, -1])
  before = table.size()
  with tf.control_dependencies([before]):
    insertion = table.insert(tf.constant(["a"]), tf.stack([[x, x + 1]]))
  with tf.control_dependencies([insertion]):
    return tf.cast(before, INT), table.lookup(tf.constant(["a", "b"]))


def dense_table(x):
  table = tf.lookup.experimental.DenseHashTable(
    tf.int64, tf.int32, default_value=-1, empty_key=0, deleted_key=-1
  )
  before = table.size()
  with tf.control_dependencies([before]):
    insertion = table.insert(tf.constant([1, 2], tf.int64), tf.stack([x, x + 1]))
  with tf.control_dependencies([insertion]):
    return tf.cast(before, INT), table.lookup(tf.constant([1, 2, 3], tf.int64))


def dense_table_by_parameter(x):
  table = tf.lookup.experimental.DenseHashTable(
    tf.int32, tf.int32, default_value=-1, empty_key=x, deleted_key=-1
  )
  insertion = table.insert(tf.constant([1]), tf.constant([2]))
  with tf.control_dependencies([insertion]):
    return table.lookup(tf.constant([1, 2]))


@pytest.mark.parametrize(
  ("function", "expected"),
  [
    (static_table, [[5, -5]]),
    (mutable_table, [0, [5, 6, -1]]),
    (mutable_table_of_tensors, [0, [[5, 6], [-1, -1]]]),
    (dense_table, [0, [5, 6, -1]]),
    (dense_table_by_parameter, [[2, -1]]),
  ],
)
def test_tables(function, expected):
  made = check_repeats(function, [INT], [np.int32(5)], expected)
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for results in pool.map(lambda _: run(made, np.int32(5)), range(40)):
      for found, value in zip(results, expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_a_call_that_raises_leaves_nothing():
  def function(x):
    variable = tf.Variable(0.0)
    with tf.control_dependencies([variable.assign_add(1)]):
      x = tf.debugging.check_numerics(x, "bad")
    with tf.control_dependencies([x]):
      return variable.read_value() + x

  made = leaf_of(function, FLOAT)
  for _ in range(3):
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad"):
      run(made, np.float32(np.nan))
    assert run(made, np.float32(2)) == [3]


def test_results_that_are_parameters_or_stand_there_twice():
  check_repeats(lambda x, y: (y, x, y), [INT, FLOAT], [np.int32(1), np.float32(2)], [2, 1, 2])

  def twice(x):
    y = x + 1
    return y, x, y, (y, x)

  check_repeats(twice, [INT], [np.int32(1)], [2, 1, 2, 2, 1])


def test_no_results_and_no_parameters():
  assert leaf_of(lambda: ())([]) == []
  assert leaf_of(lambda x: (), INT)([tf.constant(1)]) == []
  check_repeats(lambda: 3, [], [], [3])
  check_repeats(lambda x: 3, [INT], [np.int32(1)], [3])


def test_loops_of_tensorflow_1():
  def function(x):
    with tf.compat.v1.variable_scope("loop", use_resource=True):
      variable = tf.compat.v1.get_variable("v", initializer=lambda: tf.constant(1))
    tf.compat.v1.disable_control_flow_v2()
    try:
      total = tf.compat.v1.while_loop(
        lambda i, _: i < x, lambda i, s: (i + 1, s + i + variable.read_value()), [0, 0]
      )[1]
      return tf.compat.v1.cond(x > 3, lambda: total, lambda: -total)
    finally:
      tf.compat.v1.enable_control_flow_v2()

  made = leaf_of(function, INT)
  assert run(made, np.int32(5)) == [15]
  assert run(made, np.int32(2)) == [-3]


def test_iterators_of_tensorflow_1():
  def function(n):
    iterator = tf.compat.v1.data.make_initializable_iterator(tf.data.Dataset.range(n))
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    first = iterator.get_next()
    with tf.control_dependencies([first]):
      return first, iterator.get_next()

  check_repeats(function, [np.int64], [np.int64(3)], [0, 1])


def test_session_tokens_differ():
  def function():
    return tensorflow_computation_context.get_session_token()

  made = leaf_of(function)
  tokens = {run(made)[0] for _ in range(5)}
  assert len(tokens) == 5


def test_datasets_made_inside():
  def function(x):
    data = (
      tf.data.Dataset.range(5)
      .map(lambda e: tf.cast(e, INT) * x)
      .filter(lambda e: tf.not_equal(e, x))
    )
    return data.reduce(0, lambda s, e: s + e), sum_of(data)

  @tf.function
  def sum_of(data):
    total = 0
    for element in iter(data):
      total += element
    return total

  check_repeats(function, [INT], [np.int32(2)], [18, 18])


def test_loops_and_branches_with_resources():
  def function(x):
    variable = tf.Variable(0)
    array = tf.Variable(tf.zeros([3], INT))

    @tf.function
    def loop():
      for i in tf.range(x):
        if tf.equal(i % 2, 0):
          variable.assign_add(i)
        else:
          array.scatter_nd_update([[i % 3]], [i])
      return variable.read_value(), array.read_value()

    return loop()

  check_repeats(function, [INT], [np.int32(6)], [6, [3, 1, 5]])


def test_generators_start_anew():
  def function():
    generator = tf.random.Generator.from_seed(1)

    # Outside of a tf.function, nothing says which of two draws comes first.
    @tf.function
    def draw_twice():
      return generator.normal([2]), generator.normal([2])

    return draw_twice()

  made = leaf_of(function)
  first, second = run(made)
  assert (first != second).all()
  np.testing.assert_array_equal(run(made), [first, second])


def test_strings():
  def function(x):
    variable = tf.Variable(tf.strings.join([x, "b"]))
    return variable.read_value()

  check_repeats(function, [np.str_], [b"a"], [b"ab"])


def test_recurrent_layers():
  """Their functions are tied to each other by attributes, for cuDNN."""

  def function(x):
    layer = tf.keras.layers.LSTM(3, kernel_initializer="ones", recurrent_initializer="ones")
    with tf.GradientTape() as tape:
      y = tf.reduce_sum(layer(x))
    return y, tape.gradient(y, layer.trainable_variables)[2]

  shape = tff.TensorType(FLOAT, [2, 4, 5])
  computation = tff.tensorflow.computation(function, shape)
  made = leaf_of(function, shape)
  y, gradient = run(made, np.zeros([2, 4, 5], FLOAT))
  with worker.worker():
    expected, expected_gradient = computation(np.zeros([2, 4, 5], FLOAT))
  np.testing.assert_allclose(y, expected, atol=1e-6)
  np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_concurrent_calls_have_their_own_variables():
  def function(x, n):
    variable = tf.Variable(x)

    @tf.function
    def loop():
      for _ in tf.range(n):
        variable.assign_add(1)
      return variable.read_value()

    return loop()

  made = leaf_of(function, INT, INT)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    results = pool.map(lambda i: run(made, np.int32(1000 * i), np.int32(i % 40)), range(400))
  assert [result for (result,) in results] == [1000 * i + i % 40 for i in range(400)]
