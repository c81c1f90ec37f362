"""How every experiment script starts: Hydra, help, and exit statuses."""

import contextlib
import dataclasses
import difflib
import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import hydra
import yaml
from hydra.core import config_store
from hydra.core.override_parser import overrides_parser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import options, results_folder, runtime_options, saved_config
from tff_attacks import files
from tff_attacks.runtime.lost import WorkerLostError
from tff_attacks.runtime.parent import die_with_parent

_CONF = pathlib.Path(__file__).parent / "conf"

BAD_INPUT = 2
INTERRUPTED = 130

_DISK_FULL = [os.strerror(number) for number in files.DISK_FULL]


def main(name: str, config_class: type, summary: str, run: Callable[[Any], int]) -> None:
  """Runs an experiment from the command line and exits with its status.

  Args:
    name: The module's name; its last part is the script's, which names `conf/<script>/preset/`.
    config_class: Dataclass of `options.option` fields; the default of `preset`, if it has one, is
      the preset that is taken.
    summary: What it does, for `--help`.
    run: (config) -> exit status. Raises `ConfigError` at bad input, `UnreadableError` if what it
      would go on from is damaged, and `FloatingPointError` if there is nothing to go on with.
  """
  script = name.rpartition(".")[2]
  if {"-h", "--help"} & set(sys.argv[1:]):
    print(options.manual(config_class, name, summary, _presets(script, config_class)))
    return
  try:
    _check_arguments(config_class)
  except options.ConfigError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(BAD_INPUT)
  store = config_store.ConfigStore.instance().store
  store(f"{script}_schema", config_class)
  store(script, _primary(script, config_class))
  started = False

  @hydra.main(version_base="1.3", config_path=str(_conf(script)), config_name=script)
  def job(config):
    nonlocal started
    started = True
    try:
      status = run(_with_absolute_paths(OmegaConf.to_object(config)))
    except (options.ConfigError, files.UnreadableError) as error:
      print(f"error: {error}", file=sys.stderr)
      status = BAD_INPUT
    except KeyboardInterrupt:
      print("Interrupted; what was saved can be resumed.", file=sys.stderr)
      status = INTERRUPTED
    except FloatingPointError as error:
      print(f"error: {error}", file=sys.stderr)
      status = 1
    except subprocess.CalledProcessError as error:
      print(f"error: {shlex.join(error.cmd)} ended with {error.returncode}", file=sys.stderr)
      status = 1
    except Exception as error:
      reason = str(error).partition("\n")[0]
      # A full disk is an OSError here, and a ResourceExhaustedError in TensorFlow.
      if isinstance(error, WorkerLostError) or any(text in reason for text in _DISK_FULL):
        saved = "; what was saved can be resumed" if "resume" in config else ""
        print(f"error: {reason}{saved}.", file=sys.stderr)
      else:
        traceback.print_exc()  # Hydra would hide it.
      status = 1
    sys.exit(status)

  try:
    job()
  except SystemExit as error:
    # Hydra ends with 1 when it cannot read the command line or the files.
    sys.exit(error.code if started else BAD_INPUT if error.code else 0)


def command(script: str, options: dict[str, Any]) -> list[str]:
  """The command line of a script with these options."""
  given = [_assignment(name, value) for name, value in options.items()]
  return [sys.executable, "-m", f"experiments.{script}", *given]


def argument(name: str, folder: pathlib.Path) -> str:
  """An option that names a folder, to be pasted into a shell."""
  plain = re.fullmatch(r"[a-zA-Z/._][\w/.-]*", str(folder), re.ASCII)
  return f"{name}={folder}" if plain else shlex.quote(_assignment(name, str(folder)))


def _assignment(name: str, value: Any) -> str:
  # Hydra reads values as JSON, which quotes what has to be quoted.
  return f"{name}={json.dumps(value, ensure_ascii=False)}"


def call(script: str, options: dict[str, Any], **keywords: Any) -> None:
  """Runs a script in a process of its own, which ends when this one does.

  Args:
    script: Its name.
    options: Of the script.
    **keywords: Of `subprocess.run`.

  Raises:
    subprocess.CalledProcessError: If it fails; it has said why.
  """
  subprocess.run(command(script, options), check=True, preexec_fn=die_with_parent, **keywords)


def part(name: str, kind: str) -> Any:
  """The module `<name>_<kind>` of an experiment, see `federated`."""
  return importlib.import_module(f"experiments.{name}_{kind}")


def federated(config: Any, name: str) -> int:
  """Runs, or resumes, one run of a federated experiment and returns its exit status.

  Args:
    config: With `resume`, `output_dir` and the options of the runtime.
    name: Of the experiment. Its module `<name>_config` has `check(config)`, which raises
      `ConfigError` and reads no data; `<name>_setup` has `prepare(config)` -> setup, and
      `<name>_run` has `run(config, setup, runtime, results)` -> exit status. These two are
      imported late: TensorFlow takes seconds, and help and most bad input need not wait for it.
  """
  resuming = config.resume is not None
  if resuming:
    config = saved_config.read(name, type(config), config.resume)
  part(name, "config").check(config)
  results_folder.check(config, resuming)

  setup_of, run_of = part(name, "setup"), part(name, "run")
  from tff_attacks.runtime import worker

  worker.remove_stock_context()
  with runtime_options.start(config) as runtime:
    setup = setup_of.prepare(config)
    with results_folder.opened(config, name, resuming) as results:
      return run_of.run(config, setup, runtime, results)


_PATHS = (
  *("data_dir", "start_from", "original"),
  *("combinations", "distributions", "controls", "differential_privacy"),
)


def _with_absolute_paths(config: Any) -> Any:
  """What a run reads again when it is resumed, maybe from elsewhere."""
  for name in _PATHS:
    if path := getattr(config, name, None):
      setattr(config, name, str(pathlib.Path(path).absolute()))
  return config


def _primary(script: str, config_class: type) -> dict[str, Any]:
  """Hydra's configuration of a script: its options, and the values of its default preset."""
  chosen = getattr(config_class, "preset", None)
  return {
    "defaults": [
      f"{script}_schema",
      *([{"preset": chosen}] if chosen else []),
      "_self_",
      # The results folder is ours to make, once the input has been checked, and so is the log.
      {"override hydra/job_logging": "none"},
      {"override hydra/hydra_logging": "none"},
    ],
    "hydra": {"output_subdir": None, "run": {"dir": "."}, "job": {"chdir": False}},
  }


def _presets(script: str, config_class: type) -> dict[str, dict[str, Any]]:
  """Values of each preset, the default one first; none if the script has no presets."""
  chosen = getattr(config_class, "preset", None)
  if not chosen:
    return {}
  files = sorted((_conf(script) / "preset").glob("*.yaml"), key=lambda file: file.stem != chosen)
  return {file.stem: yaml.safe_load(file.read_text()) for file in files}


def _check_arguments(config_class: type) -> None:
  """Refuses what Hydra would take in another sense, or answer with advice that does not help.

  Raises:
    ConfigError: If an argument is no option, or no single value that it can take.
  """
  known = {field.name: field for field in dataclasses.fields(config_class)}
  schema = OmegaConf.structured(config_class)
  parser = overrides_parser.OverridesParser.create()
  if several := {"-m", "--multirun"} & set(sys.argv):
    raise options.ConfigError(f"{min(several)}: one run at a time; sweeps are scripts of their own")
  for argument in sys.argv[1:]:
    name = argument.lstrip("-+~").partition("=")[0]
    if name in known and argument[0] in "-+~":
      raise options.ConfigError(f"{argument}: options are given as {name}=<value>")
    if argument.startswith(("-", "hydra")) or "=" not in argument:
      continue
    if name not in known:
      alike = "".join(f"; did you mean {n}?" for n in difflib.get_close_matches(name, known, 1))
      raise options.ConfigError(f"{name}: there is no such option{alike}")
    with contextlib.suppress(HydraException):  # It says itself what it cannot read.
      override = parser.parse_override(argument)
      if override.is_sweep_override():
        raise options.ConfigError(f"{argument}: one value only, or [a,b] where a list is asked for")
      value = override.value()
      if name == "preset" and value not in (choices := known[name].metadata["choices"]):
        # Hydra would take it for the name of a file.
        allowed = ", ".join(choices)
        raise options.ConfigError(f"preset: {value!r} is not allowed; allowed: {allowed}")
      text = argument.partition("=")[2]
      if (
        known[name].type in (str, str | None)
        and isinstance(value, int | float)
        and str(value) != text
      ):
        # A folder named 2024_05_01 would be 20240501.
        raise options.ConfigError(f"{name}: {text} is a number; quote it as {name}='\"{text}\"'")
      try:
        OmegaConf.update(schema, name, value)
      except OmegaConfBaseException as error:
        allowed = options.describe(config_class, known[name])
        raise options.ConfigError(f"{name}: {text} is not allowed; allowed: {allowed}") from error


def _conf(script: str) -> pathlib.Path:
  """The folder of a script's presets: its own, or that of CRPA and its sweeps."""
  own = _CONF / script
  return own if own.is_dir() else _CONF
