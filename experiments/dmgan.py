"""Reconstruction by a client's GAN beside those by the server: by number of clients and data."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pandas as pd

from experiments import data, program, sweep
from experiments.crpa_config import CRPAConfig
from experiments.launching import LaunchOptions
from experiments.options import ConfigError, option, shared, with_default
from experiments.sweep import Run
from tff_attacks import files
from tff_attacks.data import datasets

SUMMARY = """\
A client trains a GAN against the global model to see a class that others hold, and labels what \
it makes with an additional class (deep models under the GAN, DMGAN): among few clients, among \
many with less data each, and on other data. Writes summary.csv (a row a run), a picture, and \
table.md: what an independent classifier recognises, and how near the images are to the clients' \
own, beside what a guess reaches, and the paper's finding, on its data agreed or not.
It can be stopped at any time and goes on with resume=<folder>."""

SETTINGS = ("few_clients", "many_clients", "other_data")
_PAPERS = ("mnist", "cifar10")


@dataclasses.dataclass
class DmganConfig(LaunchOptions, CRPAConfig):
  """Options of `python -m experiments.dmgan`."""

  varies = ("attack", "num_clients", "generator_steps", "generated_label", "poison")
  preset: str = option(
    "paper",
    "Values for every option that is not given: paper is MNIST with a tenth of the paper's images, "
    "quick tries every setting on the embedded digits.",
    choices=("quick", "paper"),
  )
  # From the first round on, as in the paper's code.
  start_accuracy: float = with_default(CRPAConfig, "start_accuracy", -1.0)
  settings: list[str] = option(list(SETTINGS), "Rows.", choices=SETTINGS)
  clients: list[int] = option([100, 10], "Number of many and of few clients.", at_least=2)
  other_dataset: str = option(
    "cifar10", "Of the setting other_data, with few clients.", choices=datasets.NAMES
  )
  generator_epochs: int = option(
    10, "Passes of the GAN in a round over as many images as a client has in the mean.", at_least=1
  )


def plan(config: DmganConfig) -> list[Run]:
  """A run for each setting and seed.

  Raises:
    ConfigError: If the two numbers of `clients` are not there, or in the other order.
  """
  if len(config.clients) != 2 or config.clients[0] < config.clients[1]:
    raise ConfigError("clients: give two numbers, of many and of few")
  if "other_data" in config.settings:
    data.check(dataclasses.replace(config, dataset=config.other_dataset))
  return [
    Run(f"{setting}-seed{seed}", "dmgan", _options(config, setting, seed), setting)
    for setting in config.settings
    for seed in range(config.seed, config.seed + config.repetitions)
  ]


def _options(config: DmganConfig, setting: str, seed: int) -> CRPAConfig:
  dataset = config.other_dataset if setting == "other_data" else config.dataset
  num_clients = config.clients[setting != "many_clients"]
  images = config.images_per_class * datasets.NUM_CLASSES[dataset] / num_clients
  own: dict[str, Any] = {
    "dataset": dataset,
    "data_dir": data.folder(dataset, config.data_dir),
    "num_clients": num_clients,
    "generated_label": "extra",
    "generator_steps": max(round(config.generator_epochs * images / config.batch_size), 1),
    "seed": seed,
    # No class is poisoned; any other one does.
    "poison": (config.reconstruct + 1) % datasets.NUM_CLASSES[dataset],
  }
  return CRPAConfig(**shared(config, CRPAConfig) | own)


def row(one: Run, folder: pathlib.Path, control: pathlib.Path | None) -> dict[str, Any]:
  """A finished run in `summary.csv`, see `sweep.run`."""
  del control
  from tff_attacks.metrics import reconstruction  # SciPy takes a second to import.

  config = one.config
  summary = json.loads((folder / "summary.json").read_text())
  quality = summary["reconstruction"]
  judged = pd.read_csv(folder / "reconstruction.csv")
  names = ("recognised", "correlation", "other_correlation")
  succeeded = reconstruction.succeeded(*(judged[name] for name in names))
  return {
    "run": one.name,
    "attack": one.attack,
    "setting": one.setting,
    "dataset": config.dataset,
    "num_clients": config.num_clients,
    "seed": config.seed,
    "test_accuracy": summary["test_accuracy"],
    **{name: quality[name] for name in (*names, "recognised_noise", "diversity")},
    "succeeded": bool(succeeded.iloc[-1]),
    "judged": len(judged),
    "succeeded_rounds": int(succeeded.sum()),
    "first_round": judged["round"][succeeded].min(),
    **_scores(config, folder),
  }


def _scores(config: CRPAConfig, folder: pathlib.Path) -> dict[str, float]:
  """How near the generated images are to the clients' of the class; empty if they diverged."""
  from experiments import crpa_setup
  from tff_attacks.data.datasets import Images
  from tff_attacks.metrics import leakage

  with np.load(folder / "reconstructions.npz") as arrays:
    generated = arrays["generated"]
  if not np.isfinite(generated).all():
    return {}
  dataset = data.load(config.dataset, config.data_dir, config.test_images)
  _, clients = crpa_setup.distribute(config, dataset)
  held = Images(*(np.concatenate(parts) for parts in zip(*clients, strict=True)))
  true = held.take(held.labels == config.reconstruct)
  compared = leakage.compare(generated[: len(true.labels)], true, dataset.test, config.seed)
  kinds = {"": compared.found, "guess_": compared.guess, "mean_": compared.mean}
  return {
    prefix + name: getattr(scores, name)
    for prefix, scores in kinds.items()
    for name in ("psnr", "ssim", "identified")
  }


def report(config: DmganConfig, folder: pathlib.Path) -> None:
  """Writes and says the table, and draws the images."""
  from experiments import dmgan_report
  from tff_attacks.plots import leakage, study

  summary = study.read(folder)
  papers = config.preset == "paper" and (config.dataset, config.other_dataset) == _PAPERS
  text = "\n".join(dmgan_report.describe(summary, papers))
  files.write_text(folder / "table.md", text + "\n")
  leakage.dmgan(summary, folder)
  print(text)


def run(config: DmganConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep.run(config, "dmgan", "crpa", plan, row, report)


if __name__ == "__main__":
  program.main("experiments.dmgan", DmganConfig, SUMMARY, run)
