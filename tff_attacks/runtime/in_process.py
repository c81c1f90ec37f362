"""Runs TFF computations in this process, on its CPU or GPU.

TFF's own runtime is a worker process without any GPU support, to which every value is
serialised. Here TFF compiles a computation, its building blocks are bound to Python,
and its TensorFlow leaves run as functions of this process.

    with in_process(device="GPU:0"):
      state = process.initialize()
      state = process.next(state, data).state

Each call of a leaf has its own variables and tables, as in the stock runtime. Unlike
there, a shuffled dataset argument reshuffles in every call (the stock runtime sends a
copy and repeats one order), and op-seeded random draws go on where the call before
stopped (with several threads, which client gets which draw is open); stateless draws are
the same everywhere. All clients' results of a map are held
until they have been aggregated.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import hashlib
import inspect
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.executors import cardinalities_utils

from tff_attacks.runtime import binding, gpus, leaf, values
from tff_attacks.runtime.intrinsics import Clients, Function
from tff_attacks.runtime.values import Value

_MAX_BOUND = 64

# The compiler and the type conversions are not TFF's public interface.
if tff.__version__ != "0.87.0":
  warnings.warn(
    f"tff_attacks.runtime is made for TensorFlow Federated 0.87.0, not {tff.__version__}.",
    stacklevel=1,
  )

ClientMap = Callable[[Function, Sequence[Value]], list[Value]]
"""Applies a function to each client's argument; see `intrinsics.Clients`."""


class InProcessContext(tff.framework.SyncContext):
  """A TFF context that runs computations in this process."""

  def __init__(
    self,
    device: str | None = None,
    client_threads: int = 1,
    keep_tensors: bool = False,
    insecure_aggregation: bool = False,
    default_num_clients: int = 0,
    client_map: ClientMap | None = None,
  ):
    """Creates the context.

    Args:
      device: Name of a logical device, such as "GPU:0"; None leaves it to TensorFlow.
      client_threads: Clients that run at the same time.
      keep_tensors: Whether results are eager tensors, left where they are, instead of
        NumPy arrays. Arguments may always be either.
      insecure_aggregation: Whether secure sums are computed in the clear; they are
        refused otherwise.
      default_num_clients: Number of clients of a computation without client arguments.
      client_map: How work at the clients runs; in `client_threads` of this process if None.

    Raises:
      ValueError: If there is no such device, `client_threads` is below 1, or there is a
        `client_map`, too.
    """
    _check_device(device)
    if client_threads < 1:
      raise ValueError(f"client_threads: must be at least 1, not {client_threads}")
    if client_map is not None and client_threads > 1:
      raise ValueError("client_threads: not with a client_map, which decides for itself")
    self._device = device
    self._convert = (lambda tensor: tensor) if keep_tensors else (lambda tensor: tensor.numpy())
    self._insecure_aggregation = insecure_aggregation
    self._default_num_clients = default_num_clients
    self._client_map = client_map or threads(client_threads)
    self._bound: collections.OrderedDict[Any, Any] = collections.OrderedDict()
    self._leaves: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
    self._lock = threading.Lock()

  def invoke(self, comp: tff.framework.ConcreteComputation, arg: Any) -> Any:
    """See base class."""
    type_signature = comp.type_signature
    cardinalities = cardinalities_utils.infer_cardinalities(arg, type_signature.parameter)
    num_clients = cardinalities.get(tff.CLIENTS, self._default_num_clients)
    environment = {binding.CLIENTS: Clients(num_clients, self._client_map)}

    def bind(computation):
      return self._bind(computation)(environment)

    function = bind(comp)
    if type_signature.parameter is not None:
      arg = values.ingest(arg, type_signature.parameter, self._device, bind)
    result = function.call(arg)
    return values.emit(result, type_signature.result, self._convert, num_clients)

  def _bind(self, comp: tff.framework.ConcreteComputation) -> binding.Closure:
    # By identity: a computation's own hash serialises all of its graphs.
    key = id(comp)
    with self._lock:
      if key not in self._bound:
        bound = binding.bind(self._compile(comp), binding.Leaves(self._leaf, self._device))
        self._bound[key] = (comp, bound)
        if len(self._bound) > _MAX_BOUND:
          self._bound.popitem(last=False)
      self._bound.move_to_end(key)
      return self._bound[key][1]

  def _compile(self, comp):
    if self._insecure_aggregation:
      comp = tff.backends.test.replace_secure_intrinsics_with_bodies(comp)
    block, _ = tff.tensorflow.replace_intrinsics_with_bodies(comp.to_building_block())
    return tff.framework.to_call_dominant(block)

  def _leaf(self, proto):
    key = hashlib.sha256(proto.SerializeToString(deterministic=True)).digest()
    found = self._leaves.get(key)
    if found is None:
      device = self._device or gpus.default_device()
      if not device.endswith("CPU:0") and "ReduceDataset" in leaf.op_types(proto):
        logging.warning(
          "A computation reduces a dataset, which TensorFlow does on the CPU, whatever the "
          "device (%s). Use `for element in iter(dataset)` or arrays instead.",
          device,
        )
      found = self._leaves[key] = leaf.Leaf(proto, self._device)
    return found


class AsyncInProcessContext(tff.framework.AsyncContext):
  """The same for `tff.program.NativeFederatedContext` and other asynchronous callers."""

  def __init__(self, context: InProcessContext):
    """Wraps a synchronous context."""
    self._context = context

  async def invoke(self, comp: tff.framework.ConcreteComputation, arg: Any) -> Any:
    """See base class."""
    if inspect.isawaitable(arg):
      arg = await arg
    return await asyncio.to_thread(self._context.invoke, comp, arg)


@contextlib.contextmanager
def in_process(device: str | None = None, **options: Any) -> Iterator[InProcessContext]:
  """Runs TFF computations in this process for as long as the `with` block lasts.

  Args:
    device: As for `InProcessContext`.
    **options: As for `InProcessContext`.

  Yields:
    The context.
  """
  context = InProcessContext(device, **options)
  with tff.framework.get_context_stack().install(context):
    yield context


def threads(count: int) -> ClientMap:
  """Returns a map over clients in so many threads; many small leaves run in groups instead."""
  pool = concurrent.futures.ThreadPoolExecutor(count, "client")
  run: Any = map if count == 1 else pool.map

  def client_map(function, arguments):
    results = []
    if function.leaf is not None and function.leaf.groups:
      pack = values.packer(function.block.type_signature.result)
      results = [pack(r) for r in function.leaf.map([values.flatten(a) for a in arguments])]
    return results + list(run(function.call, arguments[len(results) :]))

  return client_map


def _check_device(device: str | None) -> None:
  if device is None:
    return
  names = [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()]
  if device.removeprefix("/").removeprefix("device:") not in names:
    raise ValueError(f"device: there is no {device}; there are {', '.join(names)}")
