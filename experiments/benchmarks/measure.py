"""Repeated, interleaved measurements and what is read from them."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
import tqdm

from tff_attacks.simulation import results as results_lib

Measure = Callable[[], float]
"""() -> seconds."""


def timed(work: Callable[[], Any]) -> Measure:
  """Returns a function that does the work once and returns its seconds."""

  def measure():
    gc.collect()  # What another measurement left behind is not charged to this one.
    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    work()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - start

  return measure


def interleaved(measures: Mapping[str, Measure], repetitions: int, seed: int) -> pd.DataFrame:
  """Measures everything once per repetition, each time in a new random order.

  A machine's speed drifts; within one repetition it is nearly the same for all.

  Args:
    measures: What to measure, by name.
    repetitions: How often.
    seed: Of the orders.

  Returns:
    Seconds, a row for each repetition and a column for each name.
  """
  rng = np.random.default_rng(seed)
  rows = []
  with tqdm.tqdm(total=repetitions * len(measures), unit="measurement") as bar:
    for _ in range(repetitions):
      row = {}
      for name in rng.permutation(list(measures)):
        bar.set_description(name)
        row[name] = measures[name]()
        bar.update()
      rows.append(row)
  return pd.DataFrame(rows, columns=list(measures)).rename_axis("repetition")


def summarise(seconds: pd.DataFrame, reference: str) -> pd.DataFrame:
  """Median, minimum and maximum of each column, and the reference's time relative to it.

  Args:
    seconds: From `interleaved`.
    reference: Name of a column.

  Returns:
    A row for each name. `ratio` is the median over repetitions of reference / name, both
    from the same repetition; `ratio_q1` and `ratio_q3` are its quartiles.
  """
  ratios = seconds.rdiv(seconds[reference], axis=0)
  return pd.DataFrame(
    {
      "median_s": seconds.median(),
      "min_s": seconds.min(),
      "max_s": seconds.max(),
      "ratio": ratios.median(),
      "ratio_q1": ratios.quantile(0.25),
      "ratio_q3": ratios.quantile(0.75),
    }
  ).rename_axis("name")


def release(results: results_lib.Results, seconds: pd.DataFrame, table: pd.DataFrame) -> None:
  """Writes every measurement, their summary and where they were taken; prints the summary."""
  seconds.to_csv(results.folder / "seconds.csv")
  table.to_csv(results.folder / "table.csv")
  machine = {
    "cores": len(os.sched_getaffinity(0)),
    "devices": [device.name for device in tf.config.list_logical_devices()],
  }
  results.write_json("summary", machine | results_lib.environment([os.getpid()]))
  print(table.to_string(float_format="{:.3f}".format))
  print(f"Results: {results.folder}")
