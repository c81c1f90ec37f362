"""The context itself: what it refuses, keeps and forgets; and randomness."""

import asyncio
import collections
import gc
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.tff_attacks.runtime.computations import (
  FLOAT,
  INT,
  INTS,
  MATRIX,
  VECTOR,
  Pair,
  add,
  at_server,
  check_same,
  increment,
  installed,
  round_of_training,
  same,
)
from tff_attacks.runtime import in_process, leaf


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


RAISING = """
import gc
import numpy as np
import psutil
import tensorflow as tf
import tensorflow_federated as tff
from tff_attacks.runtime.in_process import in_process

@tff.tensorflow.computation(np.float32)
def fail(x):
  variable = tf.Variable(tf.fill([1000, 250], x))  # 1 MB
  with tf.control_dependencies([tf.debugging.check_numerics(variable, "bad")]):
    return tf.reduce_sum(variable)

def run(times):
  for _ in range(times):
    try:
      fail(float("nan"))
    except tf.errors.InvalidArgumentError:
      pass
    else:
      raise AssertionError("it does not fail")
  gc.collect()
  return psutil.Process().memory_info().rss

with in_process():
  before = run(20)
  print(run(200) - before)
"""


def test_calls_that_raise_keep_no_memory():
  # What is freed goes back to the system at once: how much an allocator keeps is not at stake.
  at_once = {"MALLOC_MMAP_THRESHOLD_": "100000", "MALLOC_TRIM_THRESHOLD_": "100000"}
  result = subprocess.run(
    [sys.executable, "-c", RAISING], env=os.environ | at_once, check=True, capture_output=True,
    text=True,
  )  # fmt: skip
  assert int(result.stdout) < 20e6


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
