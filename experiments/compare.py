"""Puts sweeps beside the published values, and this project beside the published code."""

import dataclasses
import os

from experiments import original_crpa, program, results_folder, saved_config
from experiments.options import ConfigError, option, validate
from tff_attacks import files

SUMMARY = """\
Compares with the CRPA study: sweeps of experiments.combinations, experiments.distributions, \
experiments.controls and experiments.differential_privacy with the values that it published, and, \
given a checkout of its code (original=), this project with that code on the same images.
Writes compare.md."""


@dataclasses.dataclass
class CompareConfig(original_crpa.OriginalConfig):
  """Options of `python -m experiments.compare`; those of the original belong to `original=`."""

  combinations: str | None = option(None, "Folder of an experiments.combinations sweep.")
  distributions: str | None = option(None, "Folder of an experiments.distributions sweep.")
  controls: str | None = option(
    None, "Folder of an experiments.controls sweep; several seeds of its pairs tell pairs apart."
  )
  differential_privacy: str | None = option(
    None, "Folder of an experiments.differential_privacy sweep."
  )
  original: str | None = option(  # type: ignore[assignment]  # Here it may be left out.
    None, "Folder of a checkout of fed-crpa/fl_crpa."
  )
  dataset: str = option("mnist", "Of original=.", choices=("mnist", "fashion_mnist"))
  rounds: int = option(60, "Of original=.", at_least=3)
  repetitions: int = option(3, "Runs of each, of original=.", at_least=1)
  output_dir: str | None = option(None, "Results folder; null is results/compare/<date and time>.")
  resume: str | None = option(None, "Results folder to go on with.")


def run(config: CompareConfig) -> int:
  """Compares and returns the exit status."""
  resume = config.resume
  if resume is not None:
    config = saved_config.read("compare", CompareConfig, resume)
  validate(config)

  # pandas and SciPy take a second to import.
  from experiments import beside_original, published, report
  from tff_attacks.simulation import results as results_lib

  names = published.SWEEPS
  if not config.original and not any(getattr(config, name) for name in names):
    raise ConfigError(f"give at least one of {', '.join(f'{name}=' for name in names)}, original=")
  sweeps = {}
  for name in names:
    if getattr(config, name):
      sweeps[name] = published.read(name, getattr(config, name))
  found = {name: summary["dataset"].iloc[0] for name, summary in sweeps.items()}
  if len(set(found.values())) > 1:
    raise ConfigError(f"{', '.join(found)}: of different data sets, {', '.join(found.values())}")
  if config.original:
    beside_original.check(config)
  with results_folder.opened(config, "compare", resume is not None) as results:
    lines = ["# Comparison with the CRPA study", ""]
    if sweeps:
      lines += published.compare(**sweeps)
    if config.original:
      lines += beside_original.compare(config, results.folder)
    text = "\n".join(lines)
    files.write_text(results.folder / "compare.md", text)
    print(text)
    results.write_json("summary", results_lib.environment([os.getpid()]))
    print(f"Report: {report.write(results.folder)}")
  return 0


if __name__ == "__main__":
  program.main("experiments.compare", CompareConfig, SUMMARY, run)
