"""What a sweep of CRPA consists of: its options, its runs, and a row for each."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from experiments import sweep
from experiments.crpa_config import INJECTED, CRPAConfig
from experiments.launching import LaunchOptions
from experiments.options import bad_input, shared, with_default
from experiments.sweep import Run
from tff_attacks.learning.aggregator_names import MEANS
from tff_attacks.metrics import classification


@dataclasses.dataclass
class SweepConfig(LaunchOptions, CRPAConfig):
  """Options of every sweep of CRPA; those of `experiments.crpa` hold for all of its runs."""

  varies: ClassVar[Sequence[str]] = ("attack", "reconstruct", "poison")
  preset: str = with_default(CRPAConfig, "preset", "small")


ATTACKS: dict[str, dict[str, Any]] = {
  "crpa": {"attack": "crpa"},
  "untrained": {
    "attack": "crpa",
    "generator_learning_rate": 0.0,
    "discriminator_learning_rate": 0.0,
  },
  **{name: {"attack": name, "keep_discriminator": False} for name in INJECTED},
  "none": {"attack": "none", "adversary_noise": True, "keep_discriminator": False},
}
"""The attack and its controls, as options of `experiments.crpa`."""


SETTING_OPTIONS = (
  "privacy", "noise_multiplier", "target_epsilon", "adversary_noise", "optimizer", "learning_rate",
)  # fmt: skip
"""What belongs to a setting of `SETTINGS`, and must not be given beside it."""

_SGD: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.25}

SETTINGS: dict[str, dict[str, Any]] = {
  "none": {},
  "sgd": _SGD,
  "microbatches_clipped": _SGD | {"privacy": "microbatches", "noise_multiplier": 0.0},
  "microbatches": _SGD | {"privacy": "microbatches", "noise_multiplier": 0.3},
  "microbatches_disobeyed": _SGD
  | {"privacy": "microbatches", "noise_multiplier": 0.3, "adversary_noise": False},
  "records_clipped": _SGD | {"privacy": "records", "noise_multiplier": 0.0},
  "records": _SGD | {"privacy": "records", "noise_multiplier": 0.3},
  "records_disobeyed": _SGD
  | {"privacy": "records", "noise_multiplier": 0.3, "adversary_noise": False},
  "clients_clipped": {"privacy": "clients", "noise_multiplier": 0.0},
  "clients": {"privacy": "clients", "noise_multiplier": 0.3},
}
"""Differential privacy as options of `experiments.crpa`: `microbatches` is the published setting,
`sgd` is its optimizer alone, the clipped ones clip and add no noise, and in the disobeyed ones
all but the adversary add it."""


def with_controls(config: SweepConfig, cells: Iterable[tuple[str, dict[str, Any]]]) -> list[Run]:
  """Plans a run for each cell and repetition, and one without attack to compare it with.

  Without attack, the classes do not matter unless the partition depends on them: then all
  pairs share one run.

  Args:
    config: The sweep's.
    cells: (key of `ATTACKS`, options that differ from the sweep's), the pair among them, and
      maybe a `setting`, a key of `SETTINGS`.

  Returns:
    The runs, those without attack first.
  """
  runs: list[Run] = []
  controls: dict[str, Run] = {}
  for attack, changes in cells:
    for seed in range(config.seed, config.seed + config.repetitions):
      own = dict(changes)
      setting = own.pop("setting", "")
      options = shared(config, CRPAConfig) | {"seed": seed} | SETTINGS.get(setting, {}) | own
      one = CRPAConfig(**options | ATTACKS[attack])
      names = {**changes, "seed": seed}
      obeyed = setting.removesuffix("_disobeyed")
      control_names = names | ({"setting": obeyed} if setting else {})
      nothing = dataclasses.replace(one, **ATTACKS["none"])
      if not _depends_on_pair(one):
        for name in ("reconstruct", "poison"):
          del control_names[name]
        # Nobody attacks: whether the first pair has a fit adversary must not matter.
        anybody: dict[str, Any]
        anybody = {"adversary": "clean", "adversary_lacks": "none", "num_adversaries": 1}
        nothing = dataclasses.replace(nothing, **anybody)
      control = _name("none", control_names)
      controls.setdefault(control, Run(control, "none", nothing, obeyed, control))
      runs.append(Run(_name(attack, names), attack, one, setting, control))
  return [*controls.values(), *runs]


def _name(attack: str, changes: dict[str, Any]) -> str:
  return "-".join([attack, *(f"{name}{value}" for name, value in changes.items())])


def _depends_on_pair(config: CRPAConfig) -> bool:
  """Whether the federation would differ for other classes, even without attack."""
  drawn = config.partition == "dirichlet" and config.alpha > 0
  return drawn or config.adversary == "original" or config.free_rider


def row(one: Run, folder: pathlib.Path, control: pathlib.Path | None) -> dict[str, Any]:
  """A finished run in `summary.csv`, see `sweep.run`."""
  config = one.config
  metrics = pd.read_csv(folder / "metrics.csv", float_precision="round_trip")
  summary = json.loads((folder / "summary.json").read_text())
  partition = json.loads((folder / "partition.json").read_text())
  adversary = partition["adversaries"][0]
  row = {
    "run": one.name,
    "control": one.control,
    "dataset": config.dataset,
    "attack": one.attack,
    "setting": one.setting,
    "reconstruct": config.reconstruct,
    "poison": config.poison,
    "alpha": config.alpha,
    "seed": config.seed,
    "adversary": adversary,
    "adversary_holds": json.dumps(partition["table"][adversary]),
    "rounds": config.rounds,
    "average_attack_accuracy": summary["average_attack_accuracy"],
    "no_attack": np.nan,
    "test_accuracy": summary["test_accuracy"],
    "best_test_accuracy": summary["best_test_accuracy"],
    # Of a run that diverged, neither is a number.
    "mean_test_accuracy": metrics["test_accuracy"].mean(skipna=False),
    "late_test_accuracy": metrics["test_accuracy"]
    .tail(classification.LATE_ROUNDS)
    .mean(skipna=False),
    "diverged_round": summary.get("diverged_round"),
  }
  if control is not None:
    row["no_attack"] = _average_attack_accuracy(control, config.reconstruct, config.poison)
  quality = summary.get("reconstruction", {})
  names = ("recognised", "recognised_noise", "correlation", "other_correlation", "distance_ratio")
  for name in (*names, "diversity"):
    row[name] = quality.get(name, np.nan)
  for name in ("noise_multiplier", "epsilon", "epsilon_poisson"):
    row[name] = summary.get(name, np.nan)
  return row


def _average_attack_accuracy(folder: pathlib.Path, reconstruct: int, poison: int) -> float:
  """AAA of any pair in a finished run, from its confusion matrices."""
  return classification.average_attack_accuracy(
    [classification.attack_accuracy(m, reconstruct, poison) for m in _confusion_matrices(folder)]
  )


@functools.cache
def _confusion_matrices(folder: pathlib.Path) -> np.ndarray:
  """Of a finished run; all pairs may share one without attack."""
  return classification.read_confusion_matrices(folder / "confusion.csv")


def _in_words(summary: pd.DataFrame) -> str:
  attacked = summary[summary["attack"] == "crpa"].dropna(subset="average_attack_accuracy")
  if attacked.empty:
    return "No run with the attack has an AAA."
  return (
    f"AAA is {attacked['average_attack_accuracy'].mean():.2f} in the mean of the {len(attacked)} "
    f"runs with the attack, {attacked['no_attack'].mean():.2f} in the same federations without it."
  )


def run(
  config: SweepConfig,
  name: str,
  plan: Callable[[Any], list[Run]],
  report: Callable[[Any, pathlib.Path], None],
) -> int:
  """Runs a sweep of CRPA, see `sweep.run`; its report stands beside the published values."""

  def checked(config):
    runs = plan(config)
    if config.aggregator not in MEANS:
      from experiments import crpa_setup  # TensorFlow takes seconds to import.

      with bad_input():
        crpa_setup.aggregator(config)
    return runs

  def compared(config, folder):
    from experiments import published  # SciPy and Matplotlib take seconds.
    from tff_attacks.plots import study

    report(config, folder)
    published.write(folder)
    return _in_words(study.read(folder))

  return sweep.run(config, name, "crpa", checked, row, compared)
