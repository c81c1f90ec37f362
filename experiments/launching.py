"""Where the chunks of a sweep run: options, their check, and the command that starts them."""

import dataclasses
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.options import ConfigError, option

_LAUNCHERS = {
  "joblib": JobLibLauncherConf,
  "submitit_slurm": SlurmQueueConf,
  "submitit_local": LocalQueueConf,
}


@dataclasses.dataclass
class LaunchOptions:
  """Options of every sweep."""

  varies: ClassVar[Sequence[str]] = ()
  """Names of the options that the sweep sets itself, and a user must not."""

  repetitions: int = option(
    3, "Runs of each kind, with seeds from `seed` on; resume= can add some.", at_least=1
  )
  jobs: int = option(
    1,
    "Chunks that run at the same time; on one machine they share its cores, and with another "
    "number of threads numbers differ by roundings.",
    at_least=1,
  )
  chunk: int = option(10, "Runs in a chunk: they share a process and a trace.", at_least=1)
  launcher: str = option(
    "joblib",
    "Where chunks run: in processes of this machine, or on a Slurm cluster (submitit_local tries "
    "that on this machine, all chunks at once).",
    choices=tuple(_LAUNCHERS),
  )
  launcher_options: list[str] = option(
    [], "Settings of hydra.launcher, as [partition:gpu,timeout_min:600]."
  )


def check(config: LaunchOptions) -> None:
  """Refuses what the launcher would refuse once it is started.

  Raises:
    ConfigError: If its settings, or Slurm, are not there.
  """
  for setting in config.launcher_options:
    if ":" not in setting:
      raise ConfigError(f"launcher_options: {setting!r} is not allowed; allowed: <name>:<value>")
    if setting.partition(":")[0] in ("n_jobs", "array_parallelism"):
      raise ConfigError(f"launcher_options: {setting!r} is what jobs= says")
    try:
      override = OverridesParser.create().parse_override(setting.replace(":", "=", 1))
      if override.is_sweep_override():
        raise HydraException("it has several values; a list is [a,b]")
      known = OmegaConf.structured(_LAUNCHERS[config.launcher])
      OmegaConf.set_struct(known, True)
      OmegaConf.update(known, override.key_or_group, override.value())
    except (HydraException, OmegaConfBaseException) as error:
      reason = str(error).partition("\n")[0]
      raise ConfigError(
        f"launcher_options: {setting!r} is not allowed with launcher={config.launcher}: {reason}"
      ) from error
  if config.launcher == "submitit_slurm" and shutil.which("sbatch") is None:
    raise ConfigError("launcher: submitit_slurm needs sbatch, which is not on the path")


def command(config: LaunchOptions, folder: pathlib.Path, chunks: pathlib.Path) -> list[str]:
  """The Hydra multirun over the chunks."""
  count = len(json.loads(chunks.read_text())["chunks"])
  at_once = "n_jobs" if config.launcher == "joblib" else "array_parallelism"
  settings: dict[str, Any] = dict(setting.split(":", 1) for setting in config.launcher_options)
  if config.launcher != "submitit_local":
    settings[at_once] = config.jobs
  return [
    *(sys.executable, "-m", "experiments.sweep_job", "--multirun"),
    # In Hydra's quotes, where a quote is escaped by a backslash.
    "sweep='{}'".format(str(folder.resolve()).replace("'", "\\'")),
    f"chunks={chunks.name}",
    f"chunk={','.join(map(str, range(count)))}",
    f"hydra/launcher={config.launcher}",
    *(f"hydra.launcher.{name}={value}" for name, value in settings.items()),
  ]
