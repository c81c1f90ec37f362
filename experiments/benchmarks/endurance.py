"""Watches what a long run takes of its machine, from outside."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import time

import numpy as np
import pandas as pd
import psutil

from experiments import program, results_folder
from experiments.options import ConfigError, option, validate
from tff_attacks.runtime.parent import die_with_parent

SUMMARY = """\
Runs CRPA on a small federation for many rounds, and takes down after each what the program and \
its workers hold: memory, open files, processes, threads.
Writes resources.csv (a row a round) and summary.json, and fails if any of it grows."""

MEMORY_GROWTH = 0.05
"""What the memory may grow by, relative to that after the warm-up."""


@dataclasses.dataclass
class EnduranceConfig:
  """Options of `python -m experiments.benchmarks.endurance`."""

  rounds: int = option(500, "Rounds.", at_least=10)
  warm_up: int = option(100, "Rounds before anything is compared.", at_least=1)
  images_per_class: int = option(40, "Training images of each class.", at_least=1)
  runtime: str = option("in_process", "See experiments.crpa.", choices=("in_process", "worker"))
  seed: int = option(0, "Of the run.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/endurance/<date and time>."
  )


def run(config: EnduranceConfig) -> int:
  """Runs and returns the exit status: 1, if something grows."""
  validate(config)
  if config.warm_up > config.rounds // 4:
    raise ConfigError(f"warm_up: must be at most a quarter of rounds, {config.rounds}")
  results = results_folder.create(config, "benchmarks/endurance")
  options = {
    "rounds": config.rounds,
    "images_per_class": config.images_per_class,
    "generator_steps": 3,
    "runtime": config.runtime,
    "seed": config.seed,
    "output_dir": str(results.folder / "run"),
  }
  process = subprocess.Popen(
    program.command("crpa", options), stdout=subprocess.DEVNULL, preexec_fn=die_with_parent
  )
  try:
    resources = _watch(process, results.folder / "run" / "metrics.csv")
  finally:
    process.kill()
    status = process.wait()
  resources.to_csv(results.folder / "resources.csv", index=False)
  if status:
    raise subprocess.CalledProcessError(status, process.args)
  summary = summarise(resources, config.warm_up)
  results.write_json("summary", summary)
  print(json.dumps(summary, indent=2))
  counts = [summary[f"{name}_growth"] for name in ("files", "processes", "threads")]
  flat = summary["memory_growth"] <= MEMORY_GROWTH and max(counts) <= 0
  return 0 if flat else 1


def _watch(process: subprocess.Popen, metrics: pathlib.Path) -> pd.DataFrame:
  """A row for each round that was seen to end, until the process ends."""
  rows: list[dict[str, float]] = []
  while process.poll() is None:
    done = metrics.read_text().count("\n") - 1 if metrics.exists() else 0
    if done > (rows[-1]["round"] if rows else 0):
      with contextlib.suppress(psutil.NoSuchProcess):  # It ends, or one of its children.
        rows.append({"round": done, **_resources(psutil.Process(process.pid))})
    time.sleep(0.1)
  return pd.DataFrame(rows, columns=["round", "memory_mb", "files", "processes", "threads"])


def _resources(process: psutil.Process) -> dict[str, float]:
  processes = [process, *process.children(recursive=True)]
  return {
    "memory_mb": sum(one.memory_info().rss for one in processes) / 2**20,
    "files": sum(one.num_fds() for one in processes),
    "processes": len(processes),
    "threads": sum(one.num_threads() for one in processes),
  }


def summarise(resources: pd.DataFrame, warm_up: int) -> dict[str, float]:
  """Medians of as many rounds after the warm-up as at the end, and what grew in between.

  Args:
    resources: A row for each round.
    warm_up: Rounds that are left out, and rounds of each median.

  Returns:
    For each resource its median `_after_warm_up` and `_at_the_end`, and the `_growth`, which is
    relative for the memory; and the slope of a line through the memory after the warm-up.

  Raises:
    ValueError: If no round was seen after the warm-up, or at the end.
  """
  first = resources["round"].between(warm_up + 1, 2 * warm_up)
  last = resources["round"] > resources["round"].max() - warm_up
  if not first.any() or resources.loc[last, "round"].min() <= 2 * warm_up:
    raise ValueError("too few rounds were seen; take more of them")
  steady = resources[resources["round"] > warm_up]
  slope = np.polyfit(steady["round"], steady["memory_mb"], 1)[0]
  summary = {"memory_mb_per_100_rounds": 100 * float(slope)}
  for name in resources.columns.drop("round"):
    before, after = resources.loc[first, name].median(), resources.loc[last, name].median()
    summary[f"{name}_after_warm_up"], summary[f"{name}_at_the_end"] = before, after
    if name == "memory_mb":
      summary["memory_growth"] = after / before - 1
    else:
      summary[f"{name}_growth"] = after - before
  return summary


if __name__ == "__main__":
  program.main("experiments.benchmarks.endurance", EnduranceConfig, SUMMARY, run)
