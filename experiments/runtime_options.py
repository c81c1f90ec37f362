"""Where an experiment's TFF computations run: the options, and the runtime they ask for."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from experiments.options import ConfigError, option


@dataclasses.dataclass
class RuntimeOptions:
  """Options that every federated experiment has; a resumed run may change them."""

  runtime: str = option(
    "in_process",
    "Where TFF computations run: in this process (CPU or GPU), in TFF's stock worker process (CPU "
    "only), or with the clients on the workers of experiments.worker.",
    choices=("in_process", "worker", "workers"),
  )
  device: str | None = option(
    None, "Device of this process, such as CPU:0 or GPU:0; null takes a GPU if there is one."
  )
  client_threads: int = option(
    2,
    "Clients that run at the same time, in this process or on each worker (the "
    "stock worker decides for itself).",
    at_least=1,
  )
  workers: list[str] = option(
    [], "Workers of runtime=workers, as [host:port,...]; the connection is not encrypted."
  )


NAMES = tuple(field.name for field in dataclasses.fields(RuntimeOptions))


class Runtime(NamedTuple):
  """A running runtime.

  Attributes:
    place: Puts a structure of arrays where the computations want it.
    process_ids: The processes of this host that compute.
    device: What computes, for the record.
  """

  place: Callable[[Any], Any]
  process_ids: list[int]
  device: str


def check(config: RuntimeOptions) -> None:
  """Checks what can be checked without TensorFlow.

  Raises:
    ConfigError: If options contradict each other.
  """
  if (config.runtime == "workers") != bool(config.workers):
    raise ConfigError("workers: give [host:port,...] with runtime=workers, and only then")
  for address in config.workers:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
      raise ConfigError(f"workers: {address!r} is not allowed; allowed: <host>:<port>")
  if config.runtime == "worker" and config.device is not None:
    raise ConfigError("device: only for runtime=in_process and workers; the stock worker has a CPU")


@contextlib.contextmanager
def start(config: RuntimeOptions) -> Iterator[Runtime]:
  """Runs TFF computations as the options say, as long as the `with` block lasts.

  Raises:
    ConfigError: If there is no such device, or no worker can be reached.
  """
  import tensorflow as tf

  from tff_attacks.runtime import gpus, in_process, worker, workers
  from tff_attacks.runtime.lost import WorkerLostError

  gpus.prepare()  # With runtime=worker, too: evaluation takes place here.
  with contextlib.ExitStack() as stack:
    if config.runtime == "worker":
      try:
        process = stack.enter_context(worker.worker())
      except WorkerLostError as error:
        raise ConfigError(f"runtime: {error}") from error
      yield Runtime(lambda structure: structure, [os.getpid(), process.pid], "CPU")
      return
    try:
      if config.runtime == "workers":
        context = workers.workers(
          config.workers, config.client_threads, device=config.device, keep_tensors=True
        )
      else:
        context = in_process.in_process(
          config.device, client_threads=config.client_threads, keep_tensors=True
        )
      stack.enter_context(context)
    except (ValueError, ConnectionError) as error:
      field = "" if isinstance(error, ValueError) else "workers: "
      raise ConfigError(f"{field}{error}") from error
    stack.enter_context(tf.device(config.device))
    device = config.device or gpus.default_device()

    def place(structure):
      return tf.nest.map_structure(tf.convert_to_tensor, structure)

    yield Runtime(place, [os.getpid()], device)
