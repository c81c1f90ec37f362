"""What a sweep of CRPA runs consists of: its options, and its list of runs."""

import dataclasses
import itertools
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError, option, shared
from tff_attacks.data import datasets


@dataclasses.dataclass
class SweepConfig(CRPAConfig):
  """Options of every sweep; those of `experiments.crpa` hold for all of its runs."""

  repetitions: int = option(3, "Runs of each kind, with seeds from `seed` on.", at_least=1)
  jobs: int = option(1, "Chunks that run at the same time.", at_least=1)
  chunk: int = option(10, "Runs in a chunk: they share a process and a trace.", at_least=1)
  launcher: str = option(
    "joblib",
    "Where chunks run: in processes of this machine, or on a Slurm cluster.",
    choices=("joblib", "submitit_slurm", "submitit_local"),
  )
  launcher_options: list[str] = option(
    [], "Settings of hydra.launcher, as [partition:gpu,timeout_min:600]."
  )
  pairs: list[str] = option([], "Pairs of classes G-T, as [4-9,8-4]; none means all of them.")


ATTACKS = {
  "crpa": {"attack": "crpa"},
  "untrained": {
    "attack": "crpa",
    "generator_learning_rate": 0.0,
    "discriminator_learning_rate": 0.0,
  },
  "noise": {"attack": "noise"},
  "other_class": {"attack": "other_class"},
  "real": {"attack": "real"},
  "none": {"attack": "none"},
}
"""The attack and its controls, as options of `experiments.crpa`."""


_SGD = {"optimizer": "sgd", "learning_rate": 0.25}

SETTINGS = {
  "none": {},
  "sgd": _SGD,
  "microbatches_clipped": _SGD | {"privacy": "microbatches", "noise_multiplier": 0.0},
  "microbatches": _SGD | {"privacy": "microbatches", "noise_multiplier": 0.3},
  "records_clipped": _SGD | {"privacy": "records", "noise_multiplier": 0.0},
  "records": _SGD | {"privacy": "records", "noise_multiplier": 0.3},
  "clients_clipped": {"privacy": "clients", "noise_multiplier": 0.0},
  "clients": {"privacy": "clients", "noise_multiplier": 0.3},
}
"""Differential privacy as options of `experiments.crpa`: `microbatches` is the published setting,
`sgd` is its optimizer alone, and the clipped ones clip and add no noise."""


class Run(NamedTuple):
  """A run of a sweep.

  Attributes:
    name: Of its folder.
    attack: What the adversary does, a key of `ATTACKS`.
    config: Its configuration.
    setting: Its privacy, a key of `SETTINGS`; empty if the sweep does not vary that.
    control: Name of the run without attack that it is compared with.
  """

  name: str
  attack: str
  config: CRPAConfig
  setting: str
  control: str


def parse_pairs(config: SweepConfig) -> list[tuple[int, int]]:
  """Reads the pairs of a config, such as `4-9`, or lists all of its dataset.

  Raises:
    ConfigError: If one is not of that form.
  """
  if not config.pairs:
    return list(itertools.permutations(range(datasets.NUM_CLASSES[config.dataset]), 2))
  for pair in config.pairs:
    if not re.fullmatch(r"\d+-\d+", pair):
      raise ConfigError(f"pairs: {pair!r} is not allowed; allowed: <class G>-<class T>")
  return [tuple(map(int, pair.split("-"))) for pair in config.pairs]


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
  runs, controls = {}, {}
  for attack, changes in cells:
    for seed in range(config.seed, config.seed + config.repetitions):
      own = dict(changes)
      setting = own.pop("setting", "")
      options = shared(config, CRPAConfig) | {"seed": seed} | SETTINGS.get(setting, {}) | own
      one = CRPAConfig(**options | ATTACKS[attack])
      names = {**changes, "seed": seed}
      control_names = names
      nothing = dataclasses.replace(one, **ATTACKS["none"])
      if not _depends_on_pair(one):
        control_names = {k: v for k, v in names.items() if k not in ("reconstruct", "poison")}
        # Nobody attacks: whether the first pair has a fit adversary must not matter.
        anybody = {"adversary": "clean", "adversary_lacks": "none", "num_adversaries": 1}
        nothing = dataclasses.replace(nothing, **anybody)
      control = _name("none", control_names)
      controls.setdefault(control, Run(control, "none", nothing, setting, control))
      name = _name(attack, names)
      runs[name] = Run(name, attack, one, setting, control)
  return list((controls | runs).values())


def _name(attack: str, changes: dict[str, Any]) -> str:
  return "-".join([attack, *(f"{name}{value}" for name, value in changes.items())])


def _depends_on_pair(config: CRPAConfig) -> bool:
  """Whether the federation would differ for other classes, even without attack."""
  drawn = config.partition == "dirichlet" and config.alpha > 0
  return drawn or config.adversary == "original" or config.free_rider
