"""TFF's coroutines, called from functions that are none."""

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
  """Runs it to its end, as `asyncio.run`, which a notebook with its running event loop refuses."""
  try:
    asyncio.get_running_loop()
  except RuntimeError:
    pass
  else:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
      return thread.submit(asyncio.run, coroutine).result()
  return asyncio.run(coroutine)
