"""The stock TFF runtime, one C++ worker process, which ends with the program.

TFF starts its worker behind the first invocation and leaves it running at exit, where
it also holds the program's standard output open. This context owns its worker.
"""

import contextlib
import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import portpicker
import tensorflow_federated as tff

from tff_attacks.runtime.channel import open_channel
from tff_attacks.runtime.lost import WorkerLostError
from tff_attacks.runtime.parent import die_with_parent

_BINARY = pathlib.Path(tff.__file__).parent / "data" / "worker_binary"
_START_SECONDS = 60
# More heaps than cores only fragment the memory of a worker that lives long.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "MALLOC_ARENA_MAX": "1"}


@contextlib.contextmanager
def worker() -> Iterator[subprocess.Popen]:
  """Runs TFF computations in a worker process for as long as the `with` block lasts.

  Yields:
    The worker's process.

  Raises:
    WorkerLostError: If the worker does not start; in the block, if it ended.
  """
  port = portpicker.pick_unused_port()
  process = subprocess.Popen(
    [
      _BINARY,
      f"--port={port}",
      f"--max_concurrent_computation_calls={len(os.sched_getaffinity(0))}",
    ],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    env={**os.environ, **_ENVIRONMENT},
    # Ctrl-C is for the program, which ends the round first.
    start_new_session=True,
    preexec_fn=die_with_parent,
  )
  try:
    with open_channel(f"localhost:{port}") as channel:
      stub = tff.framework.RemoteExecutorGrpcStub(channel)
      _wait(process, stub)
      with tff.framework.get_context_stack().install(_execution_context(process, stub)):
        yield process
  finally:
    process.kill()
    process.wait()


def remove_stock_context() -> None:
  """Replaces TFF's default context by one that refuses to run anything.

  The stock one would start a worker that nobody ends, and complains at exit if unused.
  """
  tff.framework.set_default_context(_NoRuntime())


class _NoRuntime(tff.framework.SyncContext):
  def invoke(self, comp, arg):
    del comp, arg
    raise RuntimeError("No TFF runtime: put the call into a `with in_process():` block.")


def _execution_context(
  process: subprocess.Popen, stub: tff.framework.RemoteExecutorGrpcStub
) -> tff.framework.SyncExecutionContext:
  def stack(cardinalities):
    # TFF asks for a new stack when it has lost the worker, again and again for ever.
    if process.poll() is not None:
      raise WorkerLostError(f"the TFF worker ended (exit status {process.returncode})")
    cardinalities.setdefault(tff.CLIENTS, 0)
    executor = tff.framework.RemoteExecutor(stub)
    executor.set_cardinalities(cardinalities)
    return executor

  return tff.framework.SyncExecutionContext(
    executor_fn=tff.framework.ResourceManagingExecutorFactory(stack),
    compiler_fn=tff.backends.native.desugar_and_transform_to_native,
    transform_args=tff.tensorflow.transform_args,
    transform_result=tff.tensorflow.transform_result,
  )


def _wait(process: subprocess.Popen, stub: tff.framework.RemoteExecutorGrpcStub) -> None:
  deadline = time.monotonic() + _START_SECONDS
  while not stub.is_ready:
    if process.poll() is not None or time.monotonic() > deadline:
      raise WorkerLostError(f"the TFF worker did not start (exit status {process.poll()})")
    time.sleep(0.05)
