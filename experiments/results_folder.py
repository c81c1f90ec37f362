"""The results folder of a program: made or gone on with, and kept to one process."""

import contextlib
import datetime
import fcntl
import logging
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from experiments.options import ConfigError
from tff_attacks import files

if TYPE_CHECKING:
  import pandas as pd

EXPERIMENT = "experiment.txt"
"""In a results folder: what made it."""


def create(config: Any, name: str) -> Any:
  """Makes the results folder that `config.output_dir` names, or a new one under `results/`.

  Raises:
    ConfigError: If it cannot be written, or holds files already.
  """
  from tff_attacks.simulation import results as results_lib

  stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
  try:
    config.output_dir = config.output_dir or str(files.new_folder(f"results/{name}/{stamp}"))
    results = results_lib.create(config.output_dir, OmegaConf.to_yaml(config))
    files.write_text(results.folder / EXPERIMENT, name)
    return results
  except OSError as error:
    if error.errno in files.DISK_FULL:
      raise
    raise _refusal(error) from error


def check(config: Any, resuming: bool) -> None:
  """Refuses at once what `opened` would refuse after all that is prepared before it.

  Raises:
    ConfigError: If another process works in the folder, or a new one holds files already, or has
      a name that TensorFlow cannot read again.
  """
  if resuming:
    with locked(pathlib.Path(config.output_dir)):
      return
  try:
    if config.output_dir is None:
      files.check_name("results")
    else:
      files.check_new(config.output_dir)
  except OSError as error:
    raise _refusal(error) from error


@contextlib.contextmanager
def opened(config: Any, name: str, resuming: bool) -> Iterator[Any]:
  """The results folder to go on with, or a new one, which no other process works in meanwhile.

  Raises:
    ConfigError: If one does, or see `create`.
  """
  from tff_attacks.simulation import results as results_lib

  results = results_lib.Results(config.output_dir) if resuming else create(config, name)
  with locked(results.folder):
    # The folder held a config alone, to be run anew, or it was not yet complete.
    results.images.mkdir(exist_ok=True)
    files.remove_unfinished(results.folder)
    if not (results.folder / EXPERIMENT).exists():
      files.write_text(results.folder / EXPERIMENT, name)
    yield results


def _refusal(error: OSError) -> ConfigError:
  return ConfigError(f"output_dir: {error}; give a new folder")


class InUseError(ConfigError):
  """Another process works in a results folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Keeps other processes from working in a results folder.

  Raises:
    InUseError: If one does.
    ConfigError: If the folder cannot be written.
  """
  try:
    file = (folder / ".lock").open("w")
  except OSError as error:
    raise ConfigError(f"resume: {folder} cannot be written: {error}") from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise InUseError(f"resume: another process works in {folder}") from None
    except OSError as error:  # Some network file systems have no locks.
      logging.warning("%s cannot be locked (%s): start no second process there.", folder, error)
    yield


def read_sweep(option: str, experiment: str, folder: str) -> "pd.DataFrame":
  """Reads the `summary.csv` of a sweep that an option names.

  Raises:
    ConfigError: If it is not there, or of another experiment.
  """
  from tff_attacks.plots import study  # Matplotlib takes a second to import.

  try:
    found = (pathlib.Path(folder) / EXPERIMENT).read_text()
    summary = study.read(pathlib.Path(folder))
  except (OSError, ValueError) as error:
    raise ConfigError(f"{option}: {folder} holds no sweep with runs: {error}") from error
  if found != experiment:
    raise ConfigError(f"{option}: {folder} is of experiments.{found}")
  return summary
