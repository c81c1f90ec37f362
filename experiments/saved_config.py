"""The configuration of a results folder: read to resume, to repeat, or to start from."""

import dataclasses
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from experiments import results_folder, runtime_options
from experiments.options import ConfigError
from tff_attacks import files


def read(
  name: str,
  config_class: type,
  folder: str,
  changeable: Collection[str] = (*runtime_options.NAMES, "data_dir"),
  growing: Collection[str] = (),
) -> Any:
  """Returns the config of a results folder that `resume=` names.

  Args:
    name: Of the experiment.
    config_class: Its dataclass.
    folder: The folder.
    changeable: Options that may be given anew: where it runs, and where the data is.
    growing: Numbers that may be raised, see `keep_grown`.

  Raises:
    ConfigError: If the folder holds none or another experiment's, other options were given, too,
      or one was lowered.
  """
  made = pathlib.Path(folder) / results_folder.EXPERIMENT
  # A config that was copied to be run anew stands alone.
  if made.is_file() and (found := made.read_text()) != name:
    raise ConfigError(f"resume: {folder} is of experiments.{found}, not {name}")
  changes = [option for option in given() if not option.startswith("resume=")]
  others = [o for o in changes if o.partition("=")[0] not in {*changeable, *growing}]
  if others:
    raise ConfigError(f"resume: the run keeps its own options; leave out {', '.join(others)}")
  if any(option.startswith("runtime=") for option in changes):
    # What belongs to the old runtime must not stand in the way of the new one.
    changes = ["workers=[]", "device=null", *changes]
  config = load(config_class, folder, changes)
  for number in growing:
    begun = getattr(load(config_class, folder), number)
    if getattr(config, number) < begun:
      raise ConfigError(f"{number}: {begun} are begun; give more, or leave it out")
  return config


def given() -> list[str]:
  """The options on the command line."""
  return list(HydraConfig.get().overrides.task)


def keep_grown(config: Any, growing: Collection[str]) -> None:
  """Writes options that a resume raised to the config of its results folder."""
  kept = load(type(config), config.output_dir)
  grown = dataclasses.replace(kept, **{name: getattr(config, name) for name in growing})
  if grown != kept:
    files.write_text(pathlib.Path(config.output_dir) / "config.yaml", OmegaConf.to_yaml(grown))


def load(
  config_class: type,
  folder: str | pathlib.Path,
  changes: Sequence[str] = (),
  option: str = "resume",
) -> Any:
  """Returns the config of a results folder, with changes of the form `option=value`.

  Args:
    config_class: Its type.
    folder: The results folder.
    changes: Options in place of its own.
    option: That names the folder, for messages.

  Raises:
    ConfigError: If it cannot be read.
  """
  path = pathlib.Path(folder) / "config.yaml"
  try:
    text = path.read_text()
    schema, saved = OmegaConf.structured(config_class), OmegaConf.create(text)
    missing = [str(name) for name in schema if name not in saved]
    if not text.endswith("\n"):
      raise ValueError("it is not complete; its end is missing")
    if missing:
      raise ValueError(
        f"it lacks {', '.join(missing)}; it is of another script or version, or not complete"
      )
    config: Any = OmegaConf.to_object(
      OmegaConf.merge(schema, saved, OmegaConf.from_dotlist(list(changes)))
    )
  except Exception as error:
    # There is a type for each way a file can be damaged.
    reason = str(error).partition("\n")[0]
    raise ConfigError(f"{option}: {path} cannot be read: {reason}") from error
  config.output_dir = str(folder)
  return config


def check_start(config: Any, names: Sequence[str]) -> None:
  """Checks that the run that `config.start_from` names has the same values of some options.

  Raises:
    ConfigError: If it has not, or cannot be read.
  """
  folder = pathlib.Path(config.start_from)
  other = load(type(config), folder, option="start_from")
  for name in names:
    if getattr(other, name) != getattr(config, name):
      raise ConfigError(
        f"start_from: {folder} has {name}={getattr(other, name)}, not {getattr(config, name)}"
      )
