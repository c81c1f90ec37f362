"""Runs the runs of one chunk of a sweep, one after another in this process.

They share the runtime and, if their shapes are equal, one trace; so do the chunks that
come later in the same process.
"""

import contextlib
import functools
import json
import logging
import pathlib
import traceback
from typing import Any

from submitit.core.utils import UncompletedJobError

from experiments import program, results_folder, runtime_options, saved_config
from experiments.options import ConfigError
from experiments.runtime_options import RuntimeOptions
from experiments.sweep import FAILURE, LOST
from tff_attacks import files
from tff_attacks.runtime import worker
from tff_attacks.runtime.lost import WorkerLostError
from tff_attacks.simulation import results as results_lib

_FOREVER = contextlib.ExitStack()


def run(sweep: str, chunks: str, index: int) -> None:
  """Runs what is not yet finished of a chunk; a run that fails does not stop the others.

  Without its TFF worker none of them could run, nor at the end of a cluster job's time: the rest is
  left for the sweep's next launch.

  Args:
    sweep: Folder of the sweep.
    chunks: Name of the file there that lists the runs of each chunk.
    index: The chunk's number in it.
  """
  worker.remove_stock_context()
  planned = json.loads(pathlib.Path(sweep, chunks).read_text())
  parts = [program.part(planned["script"], kind) for kind in ("config", "setup", "run")]
  try:
    for name in planned["chunks"][index]:
      if _run(pathlib.Path(sweep, "runs", name), *parts) == program.INTERRUPTED:
        return
  except WorkerLostError:
    _runtime.cache_clear()
    _FOREVER.close()
  except UncompletedJobError:
    return


def _run(folder: pathlib.Path, *parts: Any) -> int | None:
  """Runs one that is not yet finished, its output in `log.txt`, and returns its status.

  Returns:
    None if it was finished, if it fails, which is then recorded, or if another process has it.

  Raises:
    WorkerLostError: As it comes, for it is no failure of the run.
    UncompletedJobError: The same, at the end of a cluster job's time.
  """
  with (
    (folder / "log.txt").open("a") as log,
    contextlib.redirect_stdout(log),
    contextlib.redirect_stderr(log),
    contextlib.ExitStack() as stack,
  ):
    logging.basicConfig(force=True)  # To this run's log, not the one before's, which is closed.
    try:
      stack.enter_context(results_folder.locked(folder))
      files.remove_unfinished(folder)
      return _go_on(folder, *parts)
    except results_folder.InUseError as error:
      print(error)
    except WorkerLostError as error:
      print(LOST + _first_line(error))
      raise
    except UncompletedJobError as error:
      print(_first_line(error))
      raise
    except Exception as error:
      reason = f"{type(error).__name__}: {_first_line(error)}"
      files.write_text(folder / FAILURE, f"{reason}\n{traceback.format_exc()}")
  return None


def _first_line(error: Exception) -> str:
  return str(error).partition("\n")[0]


def _go_on(folder: pathlib.Path, options_of: Any, setup_of: Any, run_of: Any) -> int | None:
  if (folder / "summary.json").exists():
    return None
  config = saved_config.load(options_of.CONFIG, folder)
  options_of.check(config)
  options = [getattr(config, option) for option in runtime_options.NAMES]
  runtime = _runtime(*(tuple(o) if isinstance(o, list) else o for o in options))
  setup = setup_of.prepare(config)
  return run_of.run(config, setup, runtime, results_lib.Results(folder))


@functools.cache
def _runtime(*options: Any) -> runtime_options.Runtime:
  """A runtime that lasts as long as this process."""
  try:
    return _FOREVER.enter_context(runtime_options.start(RuntimeOptions(*options)))
  except ConfigError as error:
    if isinstance(error.__cause__, ConnectionError | WorkerLostError):
      raise WorkerLostError(str(error)) from error
    raise
