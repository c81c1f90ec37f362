import pathlib
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import tensorflow_federated as tff

from tests import programs
from tff_attacks.runtime import worker
from tff_attacks.runtime.lost import WorkerLostError

PROGRAM = """
import time
import tensorflow_federated as tff
from tff_attacks.runtime import worker
with worker.worker() as process:
  print(process.pid, flush=True)
  time.sleep({seconds})
"""


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def total(values):
  return tff.federated_sum(values)


def test_runs_computations_and_ends():
  with worker.worker() as process:
    assert total([1, 2, 3]) == 6
    assert psutil.pid_exists(process.pid)
  assert process.poll() is not None


def test_ends_when_the_block_raises():
  with pytest.raises(KeyError), worker.worker() as process:
    raise KeyError
  assert process.poll() is not None


def test_without_the_stock_context_nothing_runs_by_accident():
  worker.remove_stock_context()
  with pytest.raises(RuntimeError, match="No TFF runtime"):
    total([1, 2])
  with worker.worker():
    assert total([1, 2]) == 3


def test_a_piped_program_ends_at_once():
  """The stock context's worker holds the pipe open, and `| tail` waits for ever."""
  command = f"{sys.executable} -c '{PROGRAM.format(seconds=0)}' | tail -n 1"
  subprocess.run(command, shell=True, check=True, timeout=120, capture_output=True)


def test_the_worker_dies_with_a_killed_program():
  program = subprocess.Popen(
    [sys.executable, "-c", PROGRAM.format(seconds=100)], stdout=subprocess.PIPE, text=True
  )
  pid = int(program.stdout.readline())
  assert psutil.pid_exists(pid)
  program.send_signal(signal.SIGKILL)
  program.wait()

  def gone():
    try:  # Nobody may be there to take note of its end.
      return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
      return True

  programs.wait_until(gone, seconds=60)


def test_a_worker_that_died_is_reported():
  with worker.worker() as process:
    assert total([1, 2, 3]) == 6
    process.kill()
    with pytest.raises(WorkerLostError, match=r"the TFF worker ended \(exit status -9\)"):
      total([1, 2, 3])


def test_a_worker_that_cannot_start_is_reported(monkeypatch):
  monkeypatch.setattr(worker, "_BINARY", pathlib.Path("/bin/false"))
  with pytest.raises(RuntimeError, match="did not start"), worker.worker():
    pass
