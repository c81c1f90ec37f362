"""The results folder of a run, readable at every moment.

config.yaml  metrics.csv  events/  checkpoints/  images/  summary.json
"""

import importlib.metadata
import json
import math
import os
import pathlib
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import tensorflow_federated as tff

from tff_attacks import coroutines, files

_PACKAGES = (
  *("tff-attacks", "tensorflow", "tensorflow-federated", "tensorflow-privacy", "keras", "numpy"),
  *("scipy", "dp-accounting"),
)


class Results:
  """Writes a run's files.

  Attributes:
    folder: The results folder.
  """

  def __init__(self, folder: str | os.PathLike[str]):
    """Opens an existing results folder, see `create`."""
    self.folder = pathlib.Path(folder)
    self._tables: dict[str, tff.program.CSVFileReleaseManager] = {}
    self._events = None

  @property
  def images(self) -> pathlib.Path:
    """Folder of pictures."""
    return self.folder / "images"

  @property
  def checkpoints(self) -> pathlib.Path:
    """Folder of checkpoints."""
    return self.folder / "checkpoints"

  def release(self, table: str, values: dict[str, Any], round_number: int) -> None:
    """Appends a row to `<table>.csv`; rows of this and later rounds are replaced.

    Numbers of the table `metrics` also become TensorBoard events.
    """
    if table not in self._tables:
      for left in self.folder.glob(f"{table}.csv_temp*"):  # By a process that was killed.
        left.unlink()
      self._tables[table] = tff.program.CSVFileReleaseManager(
        self.folder / f"{table}.csv", tff.program.CSVSaveMode.WRITE, key_fieldname="round"
      )
    managers = [self._tables[table]]
    if table == "metrics":
      self._events = self._events or tff.program.TensorBoardReleaseManager(self.folder / "events")
      managers.append(self._events)
    coroutines.run(tff.program.GroupingReleaseManager(managers).release(values, round_number))
    files.sync(self.folder / f"{table}.csv")

  def read(self, table: str) -> pd.DataFrame:
    """The rows of `<table>.csv` so far, `round` among their columns.

    Raises:
      UnreadableError: If it is damaged.
    """
    path = self.folder / f"{table}.csv"
    if not path.exists():
      return pd.DataFrame({"round": []})
    try:
      return pd.read_csv(path, float_precision="round_trip")
    except ValueError as error:
      raise files.UnreadableError(f"{path} cannot be read: {error}") from error

  def check(self, table: str, rounds: int) -> None:
    """Checks that `<table>.csv` has a row for each of the first rounds.

    Raises:
      UnreadableError: If not, as in a folder that was copied while it was written.
    """
    if not rounds:
      return
    path = self.folder / f"{table}.csv"
    found = self.read(table).get("round", pd.Series(dtype=float))
    # What is read of a line that was cut off looks like one with nothing in its other columns.
    whole = path.exists() and path.read_bytes().count(b"\n") > rounds
    if not whole or found[:rounds].tolist() != list(range(rounds)):
      raise files.UnreadableError(
        f"{path} lacks some of the {rounds} rounds that the checkpoint is of"
      )

  def write_json(self, name: str, values: dict[str, Any]) -> None:
    """Writes `<name>.json`, replacing it in one step; what is not a finite number is null."""
    text = json.dumps(_finite(values), indent=2, allow_nan=False) + "\n"
    files.write_text(self.folder / f"{name}.json", text)

  def write_arrays(self, name: str, **arrays: np.ndarray) -> None:
    """Writes `<name>.npz`, complete or not at all."""
    with files.atomic_write(self.folder / f"{name}.npz") as path:
      np.savez_compressed(path, **arrays)


def create(folder: str | os.PathLike[str], config_yaml: str) -> Results:
  """Makes a results folder with its `config.yaml`.

  Raises:
    FileExistsError: If the folder already holds files.
    OSError: If it cannot be written.
  """
  path = pathlib.Path(folder)
  files.check_new(path)
  (path / "images").mkdir(parents=True, exist_ok=True)
  files.write_text(path / "config.yaml", config_yaml)
  return Results(path)


def _finite(values: Any) -> Any:
  if isinstance(values, dict):
    return {name: _finite(value) for name, value in values.items()}
  if isinstance(values, list):
    return [_finite(value) for value in values]
  return None if isinstance(values, float) and not math.isfinite(values) else values


def environment(process_ids: list[int]) -> dict[str, Any]:
  """Code, versions and threads of this process, and the peak memory of all so far."""
  threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "0")
  return {
    "commit": _COMMIT,
    "versions": {package: importlib.metadata.version(package) for package in _PACKAGES},
    "intra_op_threads": (threads.isdigit() and int(threads)) or len(os.sched_getaffinity(0)),
    "peak_memory_mb": round(sum(map(peak_memory_mb, process_ids))),
  }


def _commit() -> str | None:
  """What is checked out, `-dirty` if it was changed since; None if it is no checkout, or no git."""
  root = pathlib.Path(__file__).parents[2]
  # By its own name, as an installed package may lie in the checkout of something else.
  checkout = (f"--git-dir={root / '.git'}", f"--work-tree={root}")
  command = ("git", *checkout, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  return done.stdout.strip()


# Of the code that was loaded: the checkout may change while a program runs.
_COMMIT = _commit()


def peak_memory_mb(process_id: int) -> float:
  """Highest resident memory of a process so far; 0 if the system does not tell, or it has ended."""
  status = pathlib.Path(f"/proc/{process_id}/status")
  if not status.exists():
    return 0.0
  lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
  return int(lines.get("VmHWM", "0").split()[0]) / 1024
