"""Clients that run at the same time."""

import concurrent.futures

import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests.tff_attacks.runtime.computations import (
  FLOAT,
  FLOATS,
  MATRIX,
  check_same,
  count_at_clients,
  installed,
  round_of_training,
)
from tff_attacks.runtime import in_process


def test_threads_change_no_bit():
  results = []
  for threads in (1, 2, 5):
    with in_process.in_process(client_threads=threads):
      results.append([round_of_training(MATRIX, list(range(n))) for n in (1, 7, 40)])
  check_same(results[1], results[0])
  check_same(results[2], results[0])


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
