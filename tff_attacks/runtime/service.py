"""A TFF worker that runs computations with the in-process runtime, CPU or GPU.

It speaks TFF's executor protocol, as the stock `worker_binary` does, which has no GPU
support and always listens on every network interface.
"""

import concurrent.futures
import contextlib
import itertools
import logging
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2, executor_pb2_grpc
from tensorflow_federated.python.common_libs import structure

from tff_attacks.runtime import in_process

# gRPC puts it into a header, whose size is limited.
_LONGEST_MESSAGE = 4000
_UNLIMITED = [
  ("grpc.max_receive_message_length", -1),
  ("grpc.max_send_message_length", -1),
  # No second worker may share the port.
  ("grpc.so_reuseport", 0),
]


class _TypedValue(NamedTuple):
  value: Any
  type_signature: tff.Type


class ExecutorService(executor_pb2_grpc.ExecutorGroupServicer):
  """The protocol's service; unplaced computations only, which is all `workers` sends."""

  def __init__(self, context: tff.framework.SyncContext):
    """Serves a context that takes and returns eager tensors."""
    self._context = context
    self._executors: dict[str, Any] = {}
    self._ids = itertools.count()

  def GetExecutor(self, request, context):  # noqa: N802
    """Starts a set of values of its own."""
    del request, context
    # A worker that was restarted must not take another's values for its own.
    name = uuid.uuid4().hex
    self._executors[name] = {}
    return executor_pb2.GetExecutorResponse(executor=executor_pb2.ExecutorId(id=name))

  def CreateValue(self, request, context):  # noqa: N802
    """Keeps a value that is sent, or a computation."""
    with self._reported(request, context):
      if request.value.WhichOneof("value") == "computation":
        computation = tff.framework.deserialize_computation(request.value.computation)
        value = _TypedValue(computation, computation.type_signature)
      else:
        value = _TypedValue(*tff.framework.deserialize_value(request.value))
      return executor_pb2.CreateValueResponse(value_ref=self._keep(request, value))

  def CreateCall(self, request, context):  # noqa: N802
    """Runs a computation and keeps its result."""
    with self._reported(request, context):
      computation = self._value(request, request.function_ref)
      argument = None
      if request.HasField("argument_ref"):
        argument = self._value(request, request.argument_ref).value
      result = self._context.invoke(computation.value, argument)
      value = _TypedValue(result, computation.type_signature.result)
      return executor_pb2.CreateCallResponse(value_ref=self._keep(request, value))

  def CreateStruct(self, request, context):  # noqa: N802
    """Joins values."""
    with self._reported(request, context):
      names = [element.name or None for element in request.element]
      parts = [self._value(request, element.value_ref) for element in request.element]
      value = _TypedValue(
        structure.Struct(zip(names, [part.value for part in parts], strict=True)),
        tff.StructType(
          [
            (n, p.type_signature) if n else p.type_signature
            for n, p in zip(names, parts, strict=True)
          ]
        ),
      )
      return executor_pb2.CreateStructResponse(value_ref=self._keep(request, value))

  def CreateSelection(self, request, context):  # noqa: N802
    """Takes an element."""
    with self._reported(request, context):
      source = self._value(request, request.source_ref)
      value = _TypedValue(
        structure.from_container(source.value)[request.index], source.type_signature[request.index]
      )
      return executor_pb2.CreateSelectionResponse(value_ref=self._keep(request, value))

  def Compute(self, request, context):  # noqa: N802
    """Sends a value back."""
    with self._reported(request, context):
      value, type_signature = self._value(request, request.value_ref)
      value = tff.tensorflow.transform_result(value)
      serialized, _ = tff.framework.serialize_value(value, type_signature)
      return executor_pb2.ComputeResponse(value=serialized)

  def Dispose(self, request, context):  # noqa: N802
    """Forgets values."""
    del context
    kept = self._executors.get(request.executor.id, {})
    for reference in request.value_ref:
      kept.pop(reference.id, None)
    return executor_pb2.DisposeResponse()

  def DisposeExecutor(self, request, context):  # noqa: N802
    """Forgets a set of values."""
    del context
    self._executors.pop(request.executor.id, None)
    return executor_pb2.DisposeExecutorResponse()

  def _keep(self, request, value):
    name = str(next(self._ids))
    self._executors[request.executor.id][name] = value
    return executor_pb2.ValueRef(id=name)

  def _value(self, request, reference):
    return self._executors[request.executor.id][reference.id]

  @contextlib.contextmanager
  def _reported(self, request: Any, context: grpc.ServicerContext) -> Iterator[None]:
    """Turns an exception into the status that the caller gets."""
    if request.executor.id not in self._executors:
      context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the worker was restarted")
    try:
      yield
    except Exception as error:
      logging.exception("A computation failed.")
      message = f"{type(error).__name__}: {error}"
      context.abort(grpc.StatusCode.INTERNAL, message[:_LONGEST_MESSAGE])


@contextlib.contextmanager
def serve(host: str, port: int, device: str | None = None, threads: int = 64) -> Iterator[int]:
  """Serves TFF's executor protocol for as long as the `with` block lasts.

  There is no authentication and no encryption: whoever reaches the port runs any
  TensorFlow graph here.

  Args:
    host: Address to listen on.
    port: Port to listen on; 0 takes a free one.
    device: Where computations run, see `in_process.InProcessContext`.
    threads: Requests that are served at the same time.

  Yields:
    The port.

  Raises:
    OSError: If it cannot listen there.
  """
  context = in_process.InProcessContext(device, keep_tensors=True)
  server = grpc.server(concurrent.futures.ThreadPoolExecutor(threads), options=_UNLIMITED)
  executor_pb2_grpc.add_ExecutorGroupServicer_to_server(ExecutorService(context), server)
  try:
    bound = server.add_insecure_port(f"{host}:{port}")
  except RuntimeError as error:
    raise OSError(f"cannot listen on {host}:{port}") from error
  server.start()
  try:
    yield bound
  finally:
    server.stop(grace=None).wait()
