"""Measures whether clients that do not take part in a round cost memory."""

import dataclasses
import json
import pathlib
import subprocess
import tempfile
from typing import Any

import pandas as pd

from experiments import data, program, results_folder, semi_targeted_config
from experiments.options import option, shared, validate
from experiments.semi_targeted_config import SemiTargetedConfig
from tff_attacks.data import datasets

SUMMARY = """\
Runs rounds of a semi-targeted attack, with as many clients drawn for a round out of ever larger \
federations, each in a process of its own, and takes down its peak memory and the seconds a round.
Writes table.csv, and fails if memory grows."""

MEMORY_GROWTH = 0.05
"""What the memory of the largest federation may be above that of the smallest."""


@dataclasses.dataclass
class CohortConfig:
  """Options of `python -m experiments.benchmarks.cohort`."""

  num_clients: list[int] = option([200, 500, 1000], "Clients of each federation.", at_least=1)
  clients_per_round: int = option(100, "Clients drawn for a round.", at_least=1)
  samples_per_client: int = option(40, "Training images of each client.", at_least=1)
  rounds: int = option(5, "Rounds, and as many before the attack.", at_least=1)
  attacking_frequency: float = option(
    0.01, "Share of clients that are compromised.", above=0, at_most=1
  )
  dataset: str = option("mnist", "Data set.", choices=datasets.NAMES)
  data_dir: str | None = option(None, "As in experiments.crpa.")
  test_images: int = option(1000, "As in experiments.crpa.", at_least=0)
  seed: int = option(0, "Of each run.", at_least=0)
  output_dir: str | None = option(
    None, "Results folder, new or empty; null is results/benchmarks/cohort/<date and time>."
  )


def run(config: CohortConfig) -> int:
  """Measures and returns the exit status: 1, if memory grows."""
  validate(config)
  for clients in config.num_clients:
    one = SemiTargetedConfig(**_options(config, clients))
    semi_targeted_config.check(one)
    data.check(one)
  results = results_folder.create(config, "benchmarks/cohort")
  rows = []
  for clients in config.num_clients:
    summary = _measure(config, clients)
    rows.append(
      {
        "clients": clients,
        "clients_per_round": config.clients_per_round,
        "peak_memory_mb": summary["peak_memory_mb"],
        "seconds_per_round": summary["seconds_per_round"],
      }
    )
    table = pd.DataFrame(rows)
    table["memory_ratio"] = table["peak_memory_mb"] / rows[0]["peak_memory_mb"]
    table.to_csv(results.folder / "table.csv", index=False)
  print(table.to_string(index=False))
  return 0 if table["memory_ratio"].iloc[-1] <= 1 + MEMORY_GROWTH else 1


def _measure(config: CohortConfig, clients: int) -> dict[str, float]:
  """Runs a federation of so many clients and returns its summary."""
  with tempfile.TemporaryDirectory() as folder:
    options = _options(config, clients) | {"output_dir": folder}
    program.call("semi_targeted", options, stdout=subprocess.DEVNULL)
    return json.loads(pathlib.Path(folder, "summary.json").read_text())


def _options(config: CohortConfig, clients: int) -> dict[str, Any]:
  return {
    **shared(config, SemiTargetedConfig),
    "num_clients": clients,
    "converge_rounds": config.rounds,
    "patience": config.rounds,
  }


if __name__ == "__main__":
  program.main("experiments.benchmarks.cohort", CohortConfig, SUMMARY, run)
