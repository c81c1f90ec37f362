"""Clients on workers: real worker processes, as a user starts them."""

import concurrent.futures
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import portpicker
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import programs, tiny
from tff_attacks import keras_state
from tff_attacks.learning import aggregation, process
from tff_attacks.runtime import in_process, service, worker, workers
from tff_attacks.runtime.lost import WorkerLostError

NUM_CLIENTS = 5


def start_worker():
  program = subprocess.Popen(
    [sys.executable, "-m", "experiments.worker", "port=0"], stdout=subprocess.PIPE, text=True
  )
  return program, program.stdout.readline().split()[-1]


@pytest.fixture(scope="module")
def two_workers():
  started = [start_worker(), start_worker()]
  yield [address for _, address in started]
  for program, _ in started:
    program.send_signal(signal.SIGINT)
    assert program.wait(timeout=60) == 0


def run_rounds(federation, rounds):
  server = federation.initial_server(keras_state.initial_weights(tiny.global_model, 0))
  parameters = tiny.parameters()
  clients = [
    federation.initial_client(0, i, parameters if i == 0 else None) for i in range(NUM_CLIENTS)
  ]
  data = [tiny.images(i, 9 + i) for i in range(NUM_CLIENTS)]
  for _ in range(rounds):
    server, clients, _ = federation.process.next(server, clients, data)
    clients = list(clients)
    server = server._replace(accuracy=np.float32(0.5))
  return server, clients


@pytest.fixture(scope="module")
def federation():
  return process.build_federation(
    tiny.global_model, tiny.training(), tiny.attack(), aggregation.build_aggregator("mean")
  )


def assert_close(first, second, tolerance):
  for one, other in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
    np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_three_rounds_on_two_workers_equal_those_on_one_and_in_process(two_workers, federation):
  with workers.workers(two_workers):
    on_two = run_rounds(federation, 3)
  with workers.workers(two_workers[:1], clients_at_once=2):
    on_one = run_rounds(federation, 3)
  with in_process.in_process():
    here = run_rounds(federation, 3)
  assert_close(on_two, on_one, 1e-5)
  assert_close(on_two, here, 1e-5)


def test_the_stock_binary_serves_as_well(federation):
  port = portpicker.pick_unused_port()
  program = subprocess.Popen([worker._BINARY, f"--port={port}"], stdout=subprocess.DEVNULL)
  try:
    with workers.workers([f"localhost:{port}"], wait_seconds=60):
      on_binary = run_rounds(federation, 2)
  finally:
    program.kill()
    program.wait()
  with in_process.in_process():
    assert_close(on_binary, run_rounds(federation, 2), 1e-5)


def logging_round(folder, seconds):
  """A round whose clients leave a file each time that they run."""

  @tff.tensorflow.computation(np.int32, np.int32)
  def work(shared, client):
    unique = tf.strings.as_string(tf.cast(tf.timestamp() * 1e6, tf.int64))
    name = tf.strings.join([str(folder), "/", tf.strings.as_string(client), "_", unique])
    start = tf.timestamp()
    waited = tf.while_loop(lambda now: now - start < seconds, lambda _: [tf.timestamp()], [start])
    with tf.control_dependencies([tf.io.write_file(name, "ran"), *waited]):
      return shared + client

  @tff.federated_computation(
    tff.FederatedType(np.int32, tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
  )
  def next_fn(shared, clients):
    results = tff.federated_map(work, (tff.federated_broadcast(shared), clients))
    return results, tff.federated_sum(results)

  return next_fn


def test_every_client_runs_exactly_once(two_workers, tmp_path):
  with workers.workers(two_workers, clients_at_once=2):
    results, total = logging_round(tmp_path, 0.0)(100, list(range(20)))
  assert list(results) == [100 + i for i in range(20)]
  assert total == sum(results)
  runs = sorted(int(path.name.split("_")[0]) for path in tmp_path.iterdir())
  assert runs == list(range(20))


def test_a_worker_killed_in_mid_round_is_dropped_and_nothing_is_lost(tmp_path, caplog):
  (first, one), (second, other) = start_worker(), start_worker()
  next_fn = logging_round(tmp_path, 0.3)

  def kill_in_mid_round():
    # Two clients run at a time: of twelve, two have ended and eight are to come.
    programs.wait_until(lambda: len(list(tmp_path.iterdir())) >= 4, first)
    first.kill()

  try:
    with workers.workers([one, other]):
      killer = threading.Thread(target=kill_in_mid_round)
      killer.start()
      results, total = next_fn(100, list(range(12)))
      killer.join()
      assert list(results) == [100 + i for i in range(12)]
      assert total == sum(results)
      assert f"worker at {one} is lost" in caplog.text
      # The next round goes on with the one that is left.
      assert list(next_fn(0, [1, 2])[0]) == [1, 2]
  finally:
    first.kill()
    second.kill()


@pytest.mark.slow
def test_rounds_with_a_worker_killed_in_the_second_equal_undisturbed_ones(
  federation, monkeypatch, caplog
):
  (first, one), (second, other) = start_worker(), start_worker()
  call = workers._Connection.call
  started, finished = [], []

  def call_and_kill(self, function, argument, shared, sent):
    if not shared:  # Only local training takes the broadcast weights.
      return call(self, function, argument, shared, sent)
    started.append(self.address)
    if len(started) > NUM_CLIENTS and self.address == one:
      first.kill()
      first.wait()
    result = call(self, function, argument, shared, sent)
    finished.append(self.address)
    return result

  monkeypatch.setattr(workers._Connection, "call", call_and_kill)
  try:
    with workers.workers([one, other]):
      disturbed = run_rounds(federation, 3)
  finally:
    first.kill()
    second.kill()
  assert f"worker at {one} is lost" in caplog.text
  assert one in finished[:NUM_CLIENTS]
  assert one not in finished[NUM_CLIENTS:]
  assert len(finished) == 3 * NUM_CLIENTS
  assert len(started) == len(finished) + 1
  with in_process.in_process():
    assert_close(disturbed, run_rounds(federation, 3), 1e-4)


def test_without_any_worker_left_the_round_fails_clearly():
  program, address = start_worker()
  with workers.workers([address]):
    program.kill()
    program.wait()
    with pytest.raises(WorkerLostError, match="all TFF workers are lost"):
      logging_round(pathlib.Path("/nowhere"), 0.0)(1, [1, 2])


def test_no_workers_are_an_error():
  with pytest.raises(ValueError, match="at least one address"), workers.workers([]):
    pass


def test_without_any_worker_there_is_nothing_to_run_on():
  addresses = [f"localhost:{portpicker.pick_unused_port()}" for _ in range(2)]
  start = time.monotonic()
  with (
    pytest.raises(ConnectionError, match=", ".join(addresses)),
    workers.workers(addresses, wait_seconds=1),
  ):
    pass
  assert time.monotonic() - start < 20


def test_a_worker_that_is_not_there_is_left_out(two_workers, caplog):
  @tff.tensorflow.computation(np.float32)
  def double(value):
    return 2 * value

  @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
  def next_fn(clients):
    return tff.federated_map(double, clients)

  missing = f"localhost:{portpicker.pick_unused_port()}"
  with workers.workers([missing, two_workers[0]], wait_seconds=1):
    assert list(next_fn([1.0, 2.0])) == [2.0, 4.0]
  assert f"No TFF worker answers at {missing}" in caplog.text


def test_an_error_of_the_computation_is_reported_and_not_taken_for_a_lost_worker(two_workers):
  @tff.tensorflow.computation(np.int32)
  def fail(value):
    with tf.control_dependencies([tf.debugging.assert_less(value, 2, "value too large")]):
      return tf.identity(value)

  @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
  def everywhere(clients):
    return tff.federated_map(fail, clients)

  with workers.workers(two_workers):
    with pytest.raises(RuntimeError, match="value too large"):
      everywhere([0, 1, 2, 3])
    assert list(everywhere([0, 1])) == [0, 1]


def add_broadcast(check=lambda client: []):
  """The sum of a value of the server's and one of each client's."""

  @tff.tensorflow.computation(np.int32, np.int32)
  def add(shared, client):
    with tf.control_dependencies(check(client)):
      return shared + client

  @tff.federated_computation(
    tff.FederatedType(np.int32, tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
  )
  def next_fn(shared, clients):
    return tff.federated_map(add, (tff.federated_broadcast(shared), clients))

  return next_fn


def test_after_an_error_the_next_call_has_its_own_broadcast_values(two_workers):
  next_fn = add_broadcast(lambda client: [tf.debugging.assert_less(client, 2, "value too large")])
  with workers.workers(two_workers):
    for shared in (10, 20):
      with pytest.raises(RuntimeError, match="value too large"):
        next_fn(shared, [0, 1, 2, 1, 0])
      assert list(next_fn(shared + 1, [0, 1, 0])) == [shared + 1, shared + 2, shared + 1]


def test_two_calls_at_once_do_not_mix(two_workers):
  next_fn = add_broadcast()
  with workers.workers(two_workers) as context:

    def call(shared):
      with tff.framework.get_context_stack().install(context):
        return list(next_fn(shared, [1, 2, 3]))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      results = list(pool.map(call, range(0, 200, 10)))
  assert results == [[s + 1, s + 2, s + 3] for s in range(0, 200, 10)]


def test_a_worker_that_was_restarted_is_lost(monkeypatch, caplog):
  """Its new process knows nothing of our values, and says so."""
  executors = []
  get = service.ExecutorService.GetExecutor

  def note(self, request, context):
    executors.append(self._executors)
    return get(self, request, context)

  monkeypatch.setattr(service.ExecutorService, "GetExecutor", note)
  next_fn = add_broadcast()
  with service.serve("127.0.0.1", 0) as one, service.serve("127.0.0.1", 0) as other:
    addresses = [f"127.0.0.1:{one}", f"127.0.0.1:{other}"]
    with workers.workers(addresses):
      assert list(next_fn(0, [1, 2, 3])) == [1, 2, 3]
      executors[0].clear()
      for shared in range(20):
        assert list(next_fn(shared, [1, 2])) == [shared + 1, shared + 2]
  assert f"worker at 127.0.0.1:{one} is lost (" in caplog.text
  assert f"worker at 127.0.0.1:{other}" not in caplog.text


def test_a_broadcast_value_is_sent_once_a_worker(two_workers, monkeypatch):
  sent = []
  send = workers._Connection._send_value

  def counting(self, value, type_spec):
    sent.append(type_spec)
    return send(self, value, type_spec)

  monkeypatch.setattr(workers._Connection, "_send_value", counting)

  @tff.tensorflow.computation((np.float32, [1000]), np.int32)
  def work(shared, client):
    return tf.reduce_sum(shared) + tf.cast(client, tf.float32)

  @tff.federated_computation(
    tff.FederatedType((np.float32, [1000]), tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
  )
  def next_fn(shared, clients):
    return tff.federated_map(work, (tff.federated_broadcast(shared), clients))

  with workers.workers(two_workers):
    for offset in (1.0, 2.0):
      sent.clear()
      results = next_fn(np.full([1000], offset, np.float32), list(range(6)))
      np.testing.assert_allclose(results, 1000 * offset + np.arange(6))
      assert sent.count(tff.TensorType(np.int32)) == 6
      assert len(sent) - 6 <= len(two_workers)


def test_the_worker_script_listens_on_loopback_and_refuses_bad_input(two_workers):
  assert all(address.startswith("127.0.0.1:") for address in two_workers)
  taken = two_workers[0].split(":")[1]
  for argument, message in (
    (f"port={taken}", "cannot listen"),
    ("port=70000", "port: 70000 is not allowed"),
  ):
    result = subprocess.run(
      [sys.executable, "-m", "experiments.worker", argument],
      capture_output=True,
      text=True,
      timeout=100,
    )
    assert result.returncode == 2
    assert message in result.stderr
