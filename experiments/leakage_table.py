"""How reconstructions fall from one gradient to a real federated round: attack by setting."""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from experiments import data, program, sweep
from experiments.launching import LaunchOptions
from experiments.leakage_config import ATTACKS, LeakageConfig
from experiments.options import ConfigError, option, shared
from experiments.sweep import Run
from tff_attacks import files
from tff_attacks.data import datasets

SUMMARY = """\
Runs every reconstruction of the server on one image's gradient, on one batch's, and on updates of \
clients in federated averaging, in ever harder settings. Writes summary.csv (a row a run), a \
picture of attack by setting, and table.md: PSNR, SSIM, the share of identified images and the \
labels beside what a guess reaches, and the paper's finding, agreed or not.
It can be stopped at any time and goes on with resume=<folder>."""

OWN: dict[str, dict[str, Any]] = {
  "dlg": {"model": "cnn"},
  "idlg": {"model": "cnn"},
  "inverting_gradients": {"labels": "irlg"},
  "dlf": {"learning_rate": 0.004, "steps": 800},
  "grnn": {"model": "cnn", "steps": 600},
  # Three copies of VGG16 for each of a hundred clients are 40 GB: the first round alone.
  "feature_inversion": {"rounds": 0},
  # From initial weights: training with the block before it changes the network behind.
  "robbing_the_fed": {"imprint_bins": 100, "rounds": 0},
}
"""What an attack needs beside its usual settings."""

ON_ONE_GRADIENT: dict[str, dict[str, Any]] = {
  "dlg": {"model": "lenet", "steps": 2400},
  "idlg": {"model": "lenet", "steps": 2400},
  "grnn": {"model": "lenet", "steps": 1500},
}
"""And what on one gradient: the network of its own paper, and the steps that 32x32 pixels take."""

OTHER_MODEL = {
  "dlg": "lenet",
  "idlg": "lenet",
  "inverting_gradients": "mlp",
  "dlf": "mlp",
  "ggl": "mlp",
  "grnn": "lenet",
  "feature_inversion": "cnn",
  "robbing_the_fed": "cnn",
}
"""The cocktail party attack has none: it needs a fully connected first layer."""

GRADIENT = ("one_image", "one_batch")
SETTINGS = (
  *GRADIENT,
  "many_clients",
  "few_clients",
  "batch_50",
  "epochs_5",
  "other_data",
  "other_model",
)

_PAPERS = ("cifar10", "mnist")
_ONE_IMAGE = {"mode": "gradient", "rounds": 0, "batch_size": 1, "partition": "iid"}

EXTRA: dict[tuple[str, str], dict[str, Any]] = {
  ("dlg", "one_image_cnn"): _ONE_IMAGE,
  ("idlg", "one_image_cnn"): _ONE_IMAGE,
  ("grnn", "one_image_cnn"): _ONE_IMAGE,
  ("inverting_gradients", "rate_1"): {"attack_options": ["learning_rate:1"]},
  ("dlf", "epochs_10"): {"local_epochs": 10},
  ("dlf", "mlp_1000"): {"model": "mlp", "samples_per_client": 50, "local_epochs": 2},
  ("ggl", "untrained"): {"generator_steps": 0},
  ("robbing_the_fed", "small_weights"): {"imprint_weights": "small"},
  ("robbing_the_fed", "cnn_small_weights"): {"model": "cnn", "imprint_weights": "small"},
}
"""Single cells. One gradient, but of the federation's network; and beside many_clients the paper's
own step size, ten epochs (its Figure 8), clients as small as a thousand would be (Figure 45), a
generator without training (Figure 47), and imprint blocks that outlast a step of training."""


@dataclasses.dataclass
class LeakageTableConfig(LaunchOptions, LeakageConfig):
  """Options of `python -m experiments.leakage_table`."""

  varies = (
    "attack", "mode", "num_clients", "samples_per_client", "batch_size", "local_epochs", "model",
    "images", "labels", "attack_options", "imprint_bins", "imprint_weights", "partition",
    "start_from", "learning_rate",
  )  # fmt: skip
  preset: str = option(
    "paper",
    "Values for every option that is not given: paper is CIFAR-10 with a tenth of the paper's "
    "images a client, quick tries every cell on the embedded digits.",
    choices=("quick", "paper"),
  )
  attacks: list[str] = option(list(ATTACKS), "Rows.", choices=tuple(ATTACKS))
  settings: list[str] = option(
    list(SETTINGS),
    "Columns. Those after few_clients add up: batches of 50, then five epochs, too; the last two "
    "are as many_clients.",
    choices=SETTINGS,
  )
  partitions: list[str] = option(
    ["iid", "dirichlet"], "Of the federations.", choices=("iid", "dirichlet")
  )
  clients: list[int] = option([100, 10], "Number of many and of few clients.", at_least=1)
  samples: list[int] = option([40, 400], "Images of each of many, and of few, clients.", at_least=1)
  other_dataset: str = option("mnist", "Of the setting other_data.", choices=datasets.NAMES)
  extra: bool = option(True, "Whether the single cells beside the table are run, too.")


def plan(config: LeakageTableConfig) -> list[Run]:
  """A run for each attack, setting, partition and seed.

  Raises:
    ConfigError: If the two numbers of `clients` or `samples` are not there, or those of clients are
      in the other order.
  """
  for name in ("clients", "samples"):
    if len(getattr(config, name)) != 2:
      raise ConfigError(f"{name}: give two numbers, for many and for few clients")
  if config.clients[0] < config.clients[1]:
    raise ConfigError("clients: give that of many first")
  if not config.victims:
    raise ConfigError("victims: must be 1 or more")
  if "other_data" in config.settings:
    data.check(dataclasses.replace(config, dataset=config.other_dataset))
  runs = []
  for seed in range(config.seed, config.seed + config.repetitions):
    for attack in config.attacks:
      trained: dict[str, str] = {}  # By dataset the run that trains the generator.
      for setting, partition, changes in _cells(config, attack):
        name = f"{attack}-{setting}-{partition}-seed{seed}"
        options = shared(config, LeakageConfig) | {"attack": attack, "seed": seed} | changes
        if not ATTACKS[attack].searches:
          options["steps"] = None
        elif config.steps is not None:
          options["steps"] = config.steps
        options["data_dir"] = data.folder(options["dataset"], config.data_dir)
        after = ""
        if ATTACKS[attack].generator and options["generator_steps"]:
          after = trained.get(options["dataset"], "")
          trained.setdefault(options["dataset"], name)
        runs.append(Run(name, attack, LeakageConfig(**options), setting, after=after))
  return runs


def _cells(config: LeakageTableConfig, attack: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
  """For each cell of a row its setting, partition and options."""
  facts = ATTACKS[attack]
  own: dict[str, Any] = {"model": facts.model} | ({"images": 1} if facts.one_image else {})
  own |= _steps_aside(config, OWN.get(attack, {}))
  for setting in config.settings:
    if setting == "other_model" and attack not in OTHER_MODEL:
      continue
    if setting in GRADIENT:
      size = {} if setting == "one_image" else {"batch_size": config.batch_size}
      network = _steps_aside(config, ON_ONE_GRADIENT.get(attack, {}))
      yield setting, "iid", own | network | _ONE_IMAGE | size
      continue
    for partition in config.partitions:
      yield setting, partition, own | _federation(config, attack, setting, partition)
  for (name, setting), changes in EXTRA.items():
    if not config.extra or name != attack:
      continue
    if changes.get("mode") == "gradient":
      yield setting, "iid", own | changes
      continue
    for partition in config.partitions:
      federation = _federation(config, attack, "many_clients", partition)
      yield setting, partition, own | federation | changes


def _steps_aside(config: LeakageTableConfig, options: dict[str, Any]) -> dict[str, Any]:
  """The options, without the quick searches' steps where searches are as published."""
  return {n: v for n, v in options.items() if n != "steps" or config.search == "quick"}


def _federation(
  config: LeakageTableConfig, attack: str, setting: str, partition: str
) -> dict[str, Any]:
  few = setting in ("few_clients", "batch_50", "epochs_5")
  options = {
    "mode": "federated",
    "partition": partition,
    "num_clients": config.clients[few],
    "samples_per_client": config.samples[few],
    "batch_size": 50 if setting in ("batch_50", "epochs_5") else config.batch_size,
    "local_epochs": 5 if setting == "epochs_5" else 1,
  }
  if setting == "other_data":
    options["dataset"] = config.other_dataset
  if setting == "other_model":
    options["model"] = OTHER_MODEL[attack]
  return options


def row(one: Run, folder: pathlib.Path, control: pathlib.Path | None) -> dict[str, Any]:
  """A finished run in `summary.csv`, see `sweep.run`."""
  del control
  config = one.config
  summary = json.loads((folder / "summary.json").read_text())
  left_out = (
    "runtime", "device", "versions", "intra_op_threads", "peak_memory_mb", "rounds", "seed",
    "published_finding",
  )  # fmt: skip
  return {
    "run": one.name,
    "attack": one.attack,
    "setting": one.setting,
    "partition": config.partition,
    "dataset": config.dataset,
    "model": config.model,
    "seed": config.seed,
    **{name: value for name, value in summary.items() if name not in left_out},
  }


def report(config: LeakageTableConfig, folder: pathlib.Path) -> None:
  """Writes and says the table."""
  from experiments import leakage_report
  from tff_attacks.plots import leakage, study

  summary = study.read(folder)
  # Searches that are cut short, or other images, say nothing of the paper.
  comparable = config.steps is None and (config.dataset, config.other_dataset) == _PAPERS
  text = "\n".join(leakage_report.describe(summary, agreement=comparable))
  files.write_text(folder / "table.md", text + "\n")
  leakage.table(summary, folder)
  print(text)


def run(config: LeakageTableConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep.run(config, "leakage_table", "leakage", plan, row, report)


if __name__ == "__main__":
  program.main("experiments.leakage_table", LeakageTableConfig, SUMMARY, run)
