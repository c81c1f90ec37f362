"""Tables I and II's Average rows: semi-targeted sweeps over several data sets as one."""

import dataclasses
from typing import TYPE_CHECKING

from experiments import program, results_folder
from experiments.options import ConfigError, option

if TYPE_CHECKING:
  import pandas as pd

SUMMARY = """\
Averages sweeps of experiments.semi_targeted_sweep, one for each data set: ATA and MTA of each \
attack and frequency over the data sets, beside the published ones of the same data sets, and how \
many times the ATA of the other attacks ADA has.
Writes average.md."""


@dataclasses.dataclass
class AverageConfig:
  """Options of `python -m experiments.semi_targeted_average`."""

  sweeps: list[str] = option([], "Folders of the sweeps, as [a,b,c].")
  output_dir: str | None = option(
    None, "Results folder; null is results/semi_targeted_average/<date and time>."
  )


def run(config: AverageConfig) -> int:
  """Averages and returns the exit status."""
  if not config.sweeps:
    raise ConfigError("sweeps: give at least one folder")

  # pandas and SciPy take a second to import.
  from experiments import report, semi_targeted_tables
  from tff_attacks import files

  summaries = [_read(folder) for folder in config.sweeps]
  datasets = [summary["dataset"].iloc[0] for summary in summaries]
  if len(set(datasets)) < len(datasets):
    raise ConfigError(f"sweeps: one for each data set, not {', '.join(datasets)}")
  with results_folder.opened(config, "semi_targeted_average", resuming=False) as results:
    text = "\n".join(semi_targeted_tables.average(summaries))
    files.write_text(results.folder / "average.md", text)
    print(text)
    print(f"Report: {report.write(results.folder)}")
  return 0


def _read(folder: str) -> "pd.DataFrame":
  summary = results_folder.read_sweep("sweeps", "semi_targeted_sweep", folder)
  summary = summary[(summary["attack"] != "none") & (summary["aggregator"] == "mean")]
  if summary.empty:
    raise ConfigError(f"sweeps: no attack on the mean is finished in {folder}")
  return summary


if __name__ == "__main__":
  program.main("experiments.semi_targeted_average", AverageConfig, SUMMARY, run)
