"""Configuration of one run of the semi-targeted attacks."""

import dataclasses

from experiments import defence_options, run_options
from experiments.options import ConfigError, option
from tff_attacks.data import datasets
from tff_attacks.learning import aggregator_names

SUMMARY = """\
Trains a federation until it has converged, then lets compromised clients make it take images of \
source classes for others: by label flipping, train-and-scale, model replacement, or the attacking \
distance-aware attack (ADA), which chooses the target that is closest.
Watch the accuracy while it runs; read summary.json, metrics.csv and images/ in the results folder \
afterwards: ATA is the share of source images that is called the target, MTA the accuracy on all \
other classes."""

CHOOSING = ("ada_full", "ada_partial")
"""Attacks that choose the target class."""

ATTACKS = ("label_flipping", "train_and_scale", "model_replacement", *CHOOSING, "none")

NO_TARGET = -1
"""The target of an attack that chooses its own, before it has chosen."""


@dataclasses.dataclass
class SemiTargetedConfig(defence_options.DefenceOptions, run_options.RunOptions):
  """Options of `python -m experiments.semi_targeted`."""

  preset: str = option(
    "quick",
    "Values for every option that is not given: quick runs in half a minute on the embedded "
    "digits, paper is the published setting.",
    choices=("quick", "paper"),
  )
  # Who holds what.
  num_clients: int = option(100, "Clients.", at_least=1)
  samples_per_client: int = option(
    500, "Training images of each client, drawn at random; no two clients share one.", at_least=1
  )
  # The federation.
  model: str = option(
    "attacking_distance",
    "Global model: a name (attacking_distance_unpooled is the paper's literal text) or "
    "package.module:function.",
  )
  clients_per_round: int = option(10, "Clients drawn at random for a round.", at_least=1)
  batch_size: int = option(16, "Images in a step.", at_least=1)
  local_epochs: int = option(1, "Passes over the local data in a round.", at_least=1)
  learning_rate: float = option(1e-3, "Of the local Adam.", above=0)
  keep_optimizer_state: bool = option(
    False,
    "Whether a client's Adam goes on where its last round left it, before the attack and in it. "
    "In the authors' code it starts anew.",
  )
  patience: int = option(
    10,
    "The federation has converged once its loss on the test set has not fallen for so many rounds.",
    at_least=1,
  )
  converge_rounds: int = option(300, "Rounds without attack at most.", at_least=1)
  start_from: str | None = option(
    None, "Results folder of another run, from whose converged model this one starts."
  )
  # The attack.
  attack: str = option("ada_full", "What compromised clients do.", choices=ATTACKS)
  rounds: int = option(50, "Rounds after convergence.", at_least=1)
  attacking_frequency: float = option(
    0.1, "Share of clients that are compromised.", above=0, at_most=1
  )
  sources: list[int] = option([2], "Source classes.", at_least=0)
  target: int = option(7, "Class that they shall be called; ADA chooses its own.", at_least=0)
  injection_rate: float = option(
    0.5, "Share of relabelled images in a compromised client's training data.", above=0, at_most=1
  )
  honest_sources: bool = option(
    True,
    "Whether honest clients hold images of source classes while the attack lasts. In the authors' "
    "code they do not, and of a compromised client's images the injection rate is of the sources.",
  )
  boost: float | None = option(
    None, "Factor of model_replacement; null is the number of clients in a round.", above=0
  )
  # The defence.
  aggregator: str = option(
    "mean", "How the server combines updates.", choices=aggregator_names.NAMES
  )
  noise_multiplier: float = option(
    0.0,
    "Of dp: standard deviation of the sum's noise, over norm_bound; of adaptive_dp: of that and of "
    "the estimate of the norm together.",
    at_least=0,
  )
  delta: float = option(
    1e-5, "Of dp and adaptive_dp, at which epsilon is given; below 1 / num_clients.", above=0
  )


def needs_target(attack: str) -> bool:
  """Whether an attack takes the target that it is given."""
  return attack not in (*CHOOSING, "none")


def num_adversaries(config: SemiTargetedConfig) -> int:
  """How many clients are compromised; none if nobody attacks."""
  if config.attack == "none":
    return 0
  return round(config.attacking_frequency * config.num_clients)


def check(config: SemiTargetedConfig) -> None:
  """Checks what can be checked without reading data or importing TensorFlow.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  run_options.check(config)
  run_options.check_classes(config, "sources", config.sources)
  run_options.check_classes(config, "target", [config.target])
  if len(config.sources) == datasets.NUM_CLASSES[config.dataset]:
    raise ConfigError("sources: leave a class out, MTA is the accuracy on the others")
  # Without attack, ATA is of the target that is given, too.
  if config.target in config.sources and config.attack not in CHOOSING:
    raise ConfigError(f"target: {config.target} is a source class")
  count = config.attacking_frequency * config.num_clients
  if config.attack != "none" and (abs(count - round(count)) > 1e-6 or round(count) < 1):
    raise ConfigError(
      f"attacking_frequency: {config.attacking_frequency} of {config.num_clients} clients is no "
      "whole number above 0"
    )
  if config.clients_per_round > config.num_clients:
    raise ConfigError(f"clients_per_round: there are {config.num_clients} clients")
  defence_options.check(config, config.clients_per_round)
  if config.boost is not None and config.attack != "model_replacement":
    raise ConfigError("boost: only with attack=model_replacement")
  if (config.noise_multiplier > 0) != (config.aggregator in aggregator_names.NOISY):
    names = " and ".join(aggregator_names.NOISY)
    raise ConfigError(f"noise_multiplier: {names} need it, no other aggregator has it")
  if config.noise_multiplier and config.delta * config.num_clients >= 1:
    raise ConfigError(f"delta: must be below 1 / {config.num_clients}, one over the clients")


CONFIG = SemiTargetedConfig
"""For sweeps, which know an experiment by its name."""
