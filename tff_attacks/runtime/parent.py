"""Ties a process to the one that started it (Linux)."""

import ctypes
import signal

# Loaded here, for `die_with_parent` may run between fork and exec.
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
  """Makes the system end this process when its parent is gone, even if that was killed.

  The parent is the thread that started it.
  """
  _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
