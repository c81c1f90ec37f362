"""Many runs as one sweep: planned, run in chunks, watched and collected.

A sweep's folder: config.yaml  chunks_*.json  summary.csv  failures.csv  images/  log.txt
and runs/<name>/, each the results folder of one run. All state is in the files: a sweep
that was stopped, in whatever way, goes on with what is not finished.
"""

import collections
import contextlib
import dataclasses
import importlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tqdm
from omegaconf import OmegaConf

from experiments import data, launching, program, results_folder, runtime_options, saved_config
from experiments import report as html
from experiments.launching import LaunchOptions
from experiments.options import ConfigError, bad_input, validate
from tff_attacks import files
from tff_attacks.runtime.parent import die_with_parent

FAILURE = "failure.txt"
"""In the folder of a run that failed: the reason in a line, and the traceback."""
FAILURES = "failures.csv"
"""In the folder of a sweep that is over: its unfinished runs, with their reasons."""

LOST = "Nothing to run on: "
"""How the last line of a run's log begins if its TFF workers are lost."""


_CHANGEABLE = (*runtime_options.NAMES, "data_dir", "jobs", "chunk", "launcher", "launcher_options")
_GROWING = ("repetitions",)


class Run(NamedTuple):
  """A run of a sweep.

  Attributes:
    name: Of its folder.
    attack: What the adversaries do, for the summary; `none` for a run to compare with.
    config: Its configuration.
    setting: What else the sweep varies, by a name of its own.
    control: Name of the run without attack that it is compared with.
    after: Name of the run that must be finished before, and from whose folder it starts
      (option `start_from`); empty if there is none.
  """

  name: str
  attack: str
  config: Any
  setting: str = ""
  control: str = ""
  after: str = ""


Row = Callable[[Run, pathlib.Path, pathlib.Path | None], dict[str, Any]]
"""(finished run, its folder, that of its control or None) -> its row of `summary.csv`, which has
`attack` and what the figures group by."""


Report = Callable[[Any, pathlib.Path], str | None]
"""(config, folder): draws and prints what `summary.csv` shows -> the same in a sentence, if it is
not in a file (`.md`)."""


def run(
  config: Any,
  name: str,
  script: str,
  plan: Callable[[Any], list[Run]],
  row: Row,
  report: Report,
) -> int:
  """Runs, or goes on with, a sweep and returns the exit status.

  Args:
    config: Its configuration, `LaunchOptions` and those of the script.
    name: Of the experiment.
    script: The experiment that its runs are of, see `program.federated`; its `<script>_config` has
      `CONFIG`, too.
    plan: (config) -> the runs. Raises `ConfigError` at bad input. May fill in options that
      it chooses itself; they are kept with the results.
    row: What a run leaves in the summary.
    report: Of the finished runs.
  """
  resuming = config.resume is not None
  if resuming:
    config = saved_config.read(name, type(config), config.resume, _CHANGEABLE, _GROWING)
  given = {o.partition("=")[0] for o in saved_config.given()}
  for option_name in given & set(config.varies):
    raise ConfigError(f"{option_name}: is what the sweep varies; leave it out")
  validate(config)
  launching.check(config)
  runs = plan(config)
  for run_name, count in collections.Counter(one.name for one in runs).items():
    if count > 1:
      raise ConfigError(f"a value is named twice: {run_name} would be run {count} times")
  check = importlib.import_module(f"experiments.{script}_config").check
  for one in runs:
    check(one.config)
  _check_models(config, given)
  data.check(config)
  with results_folder.opened(config, name, resuming) as results:
    folder = results.folder
    print(f"Results: {folder}")
    if resuming:
      saved_config.keep_grown(config, _GROWING)
    try:
      _run_all(config, script, folder, runs, row)
    except KeyboardInterrupt:
      print(f"Go on with {program.argument('resume', folder)}")
      raise
    for one in runs:  # One that was killed between its summary and its report.
      finished = _run_folder(folder, one.name)
      if _is_finished(folder, one.name) and not (finished / html.FILE).exists():
        html.write(finished)
    failures = _failures(folder, runs)
    summary = summarise(folder, runs, row)
    in_words = f"{len(runs) - len(failures)} of {len(runs)} runs are complete."
    print(in_words, folder / "summary.csv")
    if not failures.empty:
      print(f"Failed ({folder / FAILURES}):", failures.to_string(index=False), sep="\n")
      print(f"Try them again with {program.argument('resume', folder)}")
    try:
      if not summary.empty and (summary["attack"] != "none").any():
        in_words = f"{in_words} {report(config, folder) or ''}".strip()
    finally:
      _write_summary(results, config, in_words)
      print(f"Report: {html.write(folder)}")
    return 0 if failures.empty else 1


def _write_summary(results: Any, config: Any, in_words: str) -> None:
  from tff_attacks.simulation import results as results_lib  # TensorFlow takes seconds to import.

  environment = results_lib.environment([])
  del environment["peak_memory_mb"]  # The runs' is in their summaries.
  summary = {"in_words": in_words, "runtime": config.runtime, "device": config.device}
  results.write_json("summary", summary | environment)


def _check_models(config: Any, given: set[str]) -> None:
  """Checks the models that are named on the command line: those by default are there.

  Raises:
    ConfigError: If one is unknown.
  """
  if named := given & {"model", "generator"}:
    from models import registry  # TensorFlow takes seconds to import.

    with bad_input():
      for kind in named:
        registry.find(kind, getattr(config, kind), registry.KNOWN[kind])


def _run_all(
  config: LaunchOptions, script: str, folder: pathlib.Path, runs: Sequence[Run], row: Row
) -> None:
  """Launches what is unfinished; again if processes died, until two launches added no round.

  Not again on a cluster if one of its jobs failed: the others may still run there.
  """
  for one in runs:
    (_run_folder(folder, one.name) / FAILURE).unlink(missing_ok=True)
  (folder / FAILURES).unlink(missing_ok=True)  # It says that the sweep is over.
  if any(_is_finished(folder, one.name) for one in runs):
    summarise(folder, runs, row)
  furthest, in_vain = _progress(folder, runs), 0
  while in_vain < 2:
    left = [one for one in runs if not _is_over(folder, one.name)]
    ready = [one for one in left if not one.after or _is_finished(folder, one.after)]
    if not ready:
      return
    # One seed after the other: the first has its whole table early. And what may have killed
    # a process must not stop the others again.
    ready.sort(key=lambda one: one.config.seed)
    ready.sort(key=lambda one: (_run_folder(folder, one.name) / "log.txt").exists())
    status = _launch(config, folder, runs, row, _prepare(config, script, folder, ready))
    if status and config.launcher == "submitit_slurm":
      print(f"A job of the cluster failed, see {folder / 'log.txt'}. Others may still wait or run")
      print("there: cancel them, or let them end, before you go on with resume=.")
      return
    reached = _progress(folder, runs)
    in_vain = 0 if reached > furthest else in_vain + 1
    furthest = max(reached, furthest)


def _run_folder(folder: pathlib.Path, name: str) -> pathlib.Path:
  return folder / "runs" / name


def _is_finished(folder: pathlib.Path, name: str) -> bool:
  return (_run_folder(folder, name) / "summary.json").exists()


def _is_over(folder: pathlib.Path, name: str) -> bool:
  return _is_finished(folder, name) or (_run_folder(folder, name) / FAILURE).exists()


def _progress(folder: pathlib.Path, runs: Sequence[Run]) -> int:
  """How many rounds, those before an attack too, reconstructions and runs are done."""
  over = sum(_is_over(folder, one.name) for one in runs)
  tables = ("metrics.csv", "convergence/metrics.csv", "scores.csv")
  return over + sum(
    _rows(_run_folder(folder, one.name) / table) for one in runs for table in tables
  )


def _prepare(
  config: LaunchOptions, script: str, folder: pathlib.Path, unfinished: Sequence[Run]
) -> pathlib.Path:
  """Writes down what is to be done: each run's configuration, and the chunks.

  Returns:
    The file of the chunks; every launch has its own.
  """
  for one in unfinished:
    path = _run_folder(folder, one.name)
    (path / "images").mkdir(parents=True, exist_ok=True)
    own = one.config
    if one.after:
      own = dataclasses.replace(own, start_from=str(_run_folder(folder, one.after).resolve()))
    files.write_text(path / "config.yaml", OmegaConf.to_yaml(own))
    files.write_text(path / results_folder.EXPERIMENT, script)
  chunks = _chunks([one.name for one in unfinished], config)
  path = folder / f"chunks_{len(list(folder.glob('chunks_*.json'))) + 1}.json"
  files.write_text(path, json.dumps({"script": script, "chunks": chunks}, indent=1))
  return path


def _chunks(names: Sequence[str], config: LaunchOptions) -> list[list[str]]:
  """Chunks of about equal size, as many for each job: none runs on when the others are done."""
  turns = -(-len(names) // (config.chunk * config.jobs))
  return [part.tolist() for part in np.array_split(names, min(turns * config.jobs, len(names)))]


def _launch(
  config: LaunchOptions,
  folder: pathlib.Path,
  runs: Sequence[Run],
  row: Row,
  chunks: pathlib.Path,
) -> int:
  """Runs the chunks, shows how far they are, and returns the launcher's exit status.

  Whatever ends this ends them, but for jobs that a cluster has already.
  """
  environment = {**os.environ}
  if config.launcher == "joblib":
    cores = len(os.sched_getaffinity(0))
    environment.setdefault("TF_NUM_INTRAOP_THREADS", str(max(cores // config.jobs, 1)))
  with (folder / "log.txt").open("a") as log:
    process = subprocess.Popen(
      launching.command(config, folder, chunks),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      env=environment,
      # Ctrl-C is for this process, which then ends all of them.
      start_new_session=True,
      preexec_fn=die_with_parent,
    )
  # A launcher's own processes, which end by themselves only if they are told to, end with it.
  before = signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    _watch(process, folder, runs, row)
  finally:
    signal.signal(signal.SIGTERM, before)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  return process.returncode


def _watch(process: subprocess.Popen, folder: pathlib.Path, runs: Sequence[Run], row: Row) -> None:
  total = sum(map(_rounds, runs))
  done = _count(folder, runs)
  summarised = 0
  with tqdm.tqdm(total=total, initial=sum(done.values()), unit="round") as bar:
    while process.poll() is None:
      time.sleep(1)
      unfinished = [one for one in runs if done[one.name] < _rounds(one)]
      done |= _count(folder, unfinished)
      failed = sum((_run_folder(folder, one.name) / FAILURE).exists() for one in unfinished)
      bar.n = sum(done.values())
      bar.set_postfix(runs=f"{len(runs) - len(unfinished)}/{len(runs)}", failed=failed)
      if len(runs) - len(unfinished) > summarised:
        summarised = len(runs) - len(unfinished)
        summarise(folder, runs, row)


def _rounds(one: Run) -> int:
  """What a run counts in the progress; one without rounds counts, too."""
  return max(one.config.rounds, 1)


def _count(folder: pathlib.Path, runs: Sequence[Run]) -> dict[str, int]:
  """Rounds that each run has done; all of them only once its summary is written."""

  def count(one):
    if _is_finished(folder, one.name):
      return _rounds(one)
    return min(_rows(_run_folder(folder, one.name) / "metrics.csv"), _rounds(one) - 1)

  return {one.name: count(one) for one in runs}


def _rows(table: pathlib.Path) -> int:
  return max(table.read_text().count("\n") - 1, 0) if table.exists() else 0


def _failures(folder: pathlib.Path, runs: Sequence[Run]) -> pd.DataFrame:
  """Writes `failures.csv`: the unfinished runs, with their reasons."""
  rows = []
  for one in runs:
    if not _is_finished(folder, one.name):
      rows.append({"run": one.name, "reason": _reason(folder, one)})
  failures = pd.DataFrame(rows, columns=["run", "reason"])
  with files.atomic_write(folder / FAILURES) as path:
    failures.to_csv(path, index=False)
  return failures


def _reason(folder: pathlib.Path, one: Run) -> str:
  """Why a run is not finished."""
  own = _run_folder(folder, one.name)
  if (own / FAILURE).exists():
    return (own / FAILURE).read_text().partition("\n")[0]
  if one.after and not _is_finished(folder, one.after):
    return f"{one.after}, from which it starts, is not complete"
  try:
    with results_folder.locked(own):
      pass
  except ConfigError as error:
    return str(error)
  log = own / "log.txt"
  last = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
  if last and last[0].startswith(LOST):
    return last[0]
  return f"its process ended, see log.txt in {folder} and {own}"


def summarise(folder: pathlib.Path, runs: Sequence[Run], row: Row) -> pd.DataFrame:
  """Writes `summary.csv`, a row for each finished run, and returns it.

  Raises:
    UnreadableError: If one of them is damaged.
  """
  finished = {one.name for one in runs if _is_finished(folder, one.name)}
  rows = []
  for one in runs:
    if one.name in finished:
      control = _run_folder(folder, one.control) if one.control in finished else None
      own = _run_folder(folder, one.name)
      try:
        rows.append(row(one, own, control))
      except Exception as error:
        # There is a type for each way a file can be damaged.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise files.UnreadableError(
          f"{own} is damaged ({reason}); remove it, and resume= runs it anew"
        ) from error
  summary = pd.DataFrame(rows)
  with files.atomic_write(folder / "summary.csv") as path:
    summary.to_csv(path, index=False)
  return summary
