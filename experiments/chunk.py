"""Runs the CRPA runs of one chunk of a sweep, one after another in this process.

They share the runtime and, since their shapes are equal, one trace.
"""

import contextlib
import json
import pathlib
import traceback

from experiments import crpa_run, crpa_setup, program, runtime_options
from experiments.crpa_config import CRPAConfig, check
from experiments.sweep import FAILURE
from tff_attacks.runtime import parent, worker
from tff_attacks.simulation import results as results_lib


def run(sweep: str, index: int) -> None:
  """Runs what is not yet finished of a chunk; a run that fails does not stop the others.

  Args:
    sweep: Folder of the sweep.
    index: The chunk's number in its `chunks.json`.
  """
  parent.die_with_parent()
  worker.remove_stock_context()
  names = json.loads(pathlib.Path(sweep, "chunks.json").read_text())[index]
  folders = [pathlib.Path(sweep, "runs", name) for name in names]
  configs = [program.load_config(CRPAConfig, folder) for folder in folders]
  with runtime_options.start(configs[0]) as runtime:
    for folder, config in zip(folders, configs, strict=True):
      with (
        (folder / "log.txt").open("a") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
      ):
        try:
          check(config)
          setup = crpa_setup.prepare(config)
          crpa_run.run(config, setup, runtime, results_lib.Results(folder))
        except Exception:
          (folder / FAILURE).write_text(traceback.format_exc())
