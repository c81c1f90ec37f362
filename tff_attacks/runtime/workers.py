"""Runs the clients of TFF computations on TFF workers, on this host or others.

The server's part runs in this process. Each client's work is sent, once, to one of the
workers, which take the next client whenever they are free; the results come back in the
order of the clients. A worker that is lost is dropped, and what it had not finished runs
on the others: a client's work is a pure function, so nothing is lost. Work that uses
values from outside of it (a sampled key, say) cannot be sent; it runs in this process.

The connections are TFF's own executor protocol, over gRPC without authentication or
encryption: keep them on a trusted network or in a tunnel.
"""

import collections
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.compiler import transformation_utils

from tff_attacks import coroutines
from tff_attacks.runtime import in_process, values
from tff_attacks.runtime.channel import open_channel
from tff_attacks.runtime.intrinsics import Function
from tff_attacks.runtime.lost import WorkerLostError
from tff_attacks.runtime.values import Value

_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_MAX_FUNCTIONS = 64
"""That a worker keeps for a connection."""


@contextlib.contextmanager
def workers(
  addresses: Sequence[str],
  clients_at_once: int = 1,
  wait_seconds: float = 20.0,
  **options: Any,
) -> Iterator[in_process.InProcessContext]:
  """Runs TFF computations on workers for as long as the `with` block lasts.

  Args:
    addresses: `host:port` of each worker, from `experiments.worker` or TFF's own binary.
    clients_at_once: Clients that run at the same time on each worker, at least 1.
    wait_seconds: How long to wait for the workers at the start.
    **options: Of the context of the server's part, see `in_process.InProcessContext`.

  Yields:
    The context.

  Raises:
    ConnectionError: If none of the workers can be reached; as long as one can, the others are left
      out with a warning.
    ValueError: If there are no addresses.
  """
  if not addresses or clients_at_once < 1:
    raise ValueError("workers: at least one address, and one client at once, are needed")
  with contextlib.ExitStack() as stack:
    channels = {address: stack.enter_context(open_channel(address)) for address in addresses}
    # A channel connects once it is asked for: all at the same time.
    ready = {address: grpc.channel_ready_future(channel) for address, channel in channels.items()}
    deadline = time.monotonic() + wait_seconds
    connections = []
    for address, channel in channels.items():
      try:
        ready[address].result(max(deadline - time.monotonic(), 0))
        connections += [_Connection(address, channel) for _ in range(clients_at_once)]
      except (grpc.FutureTimeoutError, grpc.RpcError):
        logging.warning("No TFF worker answers at %s.", address)
    if not connections:
      raise ConnectionError(f"no TFF worker answers at {', '.join(addresses)}")
    pool = _Pool(connections)
    stack.callback(pool.close)
    with in_process.in_process(client_map=pool.map, **options) as context:
      yield context


class _Connection:
  """An executor on one worker, for one client at a time."""

  def __init__(self, address: str, channel: grpc.Channel):
    self.address = address
    self._executor = tff.framework.RemoteExecutor(tff.framework.RemoteExecutorGrpcStub(channel))
    self._executor.set_cardinalities({tff.CLIENTS: 0})
    self._functions: collections.OrderedDict[int, Any] = collections.OrderedDict()

  def call(
    self, function: Function, argument: Value, shared: Sequence[int], sent: dict[int, Any]
  ) -> Value:
    """Runs a client's work.

    Args:
      function: What to run.
      argument: Its argument.
      shared: Indices of the argument's elements that are the same for all clients.
      sent: Those of them that the worker has already; the others are added.
    """
    type_signature = function.block.type_signature
    key = id(function.block)
    if key not in self._functions:
      if len(self._functions) == _MAX_FUNCTIONS:
        self._functions.popitem(last=False)  # The worker forgets it, too.
      # The block is kept, too, so that its id stays its own.
      remote = self._run(self._executor.create_value(function.block.proto, type_signature))
      self._functions[key] = (remote, function.block)
    self._functions.move_to_end(key)
    remote = None
    if argument is not None:
      remote = self._send(argument, type_signature.parameter, shared, sent)
    result = self._run(self._executor.create_call(self._functions[key][0], remote))
    return values.ingest(self._run(result.compute()), type_signature.result, None)

  def close(self) -> None:
    """Frees what the worker keeps for this connection."""
    self._functions.clear()
    self._executor.close()

  def _send(self, argument, type_spec, shared, sent):
    if not shared:
      return self._send_value(argument, type_spec)
    elements = []
    for index, (element, (_, t)) in enumerate(zip(argument, values.fields(type_spec), strict=True)):
      if index not in shared:
        elements.append(self._send_value(element, t))
        continue
      if index not in sent:
        sent[index] = self._send_value(element, t)
      elements.append(sent[index])
    names = [name for name, _ in values.fields(type_spec)]
    struct = tff.structure.Struct(zip(names, elements, strict=True))
    return self._run(self._executor.create_struct(struct))

  def _send_value(self, value, type_spec):
    value = values.emit(value, type_spec, lambda tensor: tensor.numpy())
    return self._run(self._executor.create_value(value, type_spec))

  def _run(self, coroutine):
    try:
      return coroutines.run(coroutine)
    except tff.framework.RetryableError as error:
      raise _LostWorkerError(str(error)) from error
    except grpc.RpcError as error:
      if error.code() in _LOST:
        raise _LostWorkerError(error.details()) from error
      raise RuntimeError(f"worker {self.address}: {error.details()}") from error


class _LostWorkerError(Exception):
  pass


class _Pool:
  """All connections; those that are lost leave it."""

  def __init__(self, connections: list[_Connection]):
    self._connections = connections
    self._threads = concurrent.futures.ThreadPoolExecutor(len(connections), "worker")
    self._lock = threading.Lock()
    self._one_map = threading.Lock()

  def map(self, function: Function, arguments: Sequence[Value]) -> list[Value]:
    """A `ClientMap`, see `intrinsics.Clients`; one at a time.

    Raises:
      RuntimeError: If a computation fails; `WorkerLostError` if all workers are lost.
    """
    if _uses_values_from_outside(function.block):
      return [function.call(argument) for argument in arguments]
    shared = _shared_elements(arguments)
    results = [None] * len(arguments)
    todo = collections.deque(range(len(arguments)))

    def work(connection):
      sent: dict[Any, Any] = {}
      while True:
        try:
          index = todo.popleft()
        except IndexError:
          return None
        try:
          results[index] = connection.call(function, arguments[index], shared, sent)
        except _LostWorkerError as error:
          todo.append(index)
          self._drop(connection.address, error)
          return error
        except BaseException:
          todo.clear()
          raise

    with self._one_map:
      lost = None
      try:
        while todo:
          if not self._connections:
            raise WorkerLostError("all TFF workers are lost") from lost
          futures = [self._threads.submit(work, connection) for connection in self._connections]
          concurrent.futures.wait(futures)
          lost = next(filter(None, [future.result() for future in futures]), lost)
      finally:
        todo.clear()  # An interrupt ends the clients that run, and no other one begins.
    return results

  def _drop(self, address: str, error: _LostWorkerError) -> None:
    with self._lock:
      gone = [connection for connection in self._connections if connection.address == address]
      if gone:
        logging.warning(
          "The TFF worker at %s is lost (%s); its clients run on the others.", address, error
        )
      self._connections = [c for c in self._connections if c not in gone]

  def close(self) -> None:
    self._threads.shutdown()
    for connection in self._connections:
      connection.close()


def _shared_elements(arguments: Sequence[Value]) -> list[int]:
  """Indices of the elements that are the same object in every argument."""
  if len(arguments) < 2 or not isinstance(arguments[0], list):
    return []
  first = arguments[0]
  return [i for i, e in enumerate(first) if all(a[i] is e for a in arguments)]


def _uses_values_from_outside(block: tff.framework.ComputationBuildingBlock) -> bool:
  return bool(transformation_utils.get_map_of_unbound_references(block)[block])
