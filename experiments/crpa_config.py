"""Configuration of one CRPA run."""

import dataclasses

from experiments import defence_options, privacy_options, run_options
from experiments.options import ConfigError, option
from tff_attacks.data import partition as partition_lib

SUMMARY = """\
Runs the combined reconstruction and poisoning attack on a federation. One client trains a GAN \
against the global model to reconstruct class G, which it has never seen, labels the images with \
class T and trains on them.
Watch the accuracy and the attack accuracy (the share of G test images that the global model calls \
T) while it runs; read summary.json, metrics.csv and images/ in the results folder afterwards."""

INJECTED = ("noise", "other_class", "real")
"""Controls: attacks that inject images which no GAN made."""


@dataclasses.dataclass
class CRPAConfig(
  defence_options.DefenceOptions, privacy_options.PrivacyOptions, run_options.RunOptions
):
  """Options of `python -m experiments.crpa`."""

  preset: str = option(
    "quick",
    "Values for every option that is not given: quick runs in minutes on the embedded digits, "
    "small on MNIST-sized data, paper is the published setting.",
    choices=("quick", "small", "paper"),
  )
  # Who holds what.
  num_clients: int = option(10, "Clients; all take part in every round.", at_least=2)
  partition: str = option(
    "dirichlet",
    "Who holds what: Dirichlet(alpha), one class per client, two classes per client (shards), or "
    "all classes alike (iid).",
    choices=partition_lib.NAMES,
  )
  alpha: float = option(
    0.0, "Concentration of partition=dirichlet; 0 is one class per client.", at_least=0
  )
  images_per_class: int = option(
    500, "Training images of each class, over all clients together.", at_least=1
  )
  size_sigma: float = option(
    0.0,
    "Unequal amounts of data: the clients' shares of their images are log-normal with this "
    "standard deviation of the logarithm; the largest client keeps all.",
    at_least=0,
  )
  max_draws: int = option(
    10_000,
    "Dirichlet partitions to draw before giving up the search for a client that is fit to be the "
    "adversary.",
    at_least=1,
  )
  # The federation.
  model: str = option(
    "crpa", "Global model: a name in models/registry.py, or your own package.module:function."
  )
  rounds: int = option(60, "Rounds.", at_least=1)
  batch_size: int = option(25, "Images in a step, of local training and of the GAN.", at_least=1)
  local_epochs: int = option(1, "Passes over the local data in a round.", at_least=1)
  optimizer: str = option(
    "adam", "Local optimizer; its state persists over the rounds.", choices=("adam", "sgd")
  )
  learning_rate: float = option(1e-3, "Of the local optimizer.", above=0)
  warm_up_epochs: int = option(
    0, "Epochs of central training on 3,000 images before the first round.", at_least=0
  )
  # The attack.
  attack: str = option(
    "crpa",
    "What the adversary does: crpa; nothing (none); or, as controls, the same poisoning with "
    "images that no GAN made, the same at each adversary: uniform noise, real images of another "
    "class (other_class: neither G nor T, and what they hold least of), or real ones of G (real).",
    choices=("crpa", "none", *INJECTED),
  )
  reconstruct: int = option(4, "Class G, which the adversary reconstructs.", at_least=0)
  poison: int = option(9, "Class T: what the global model shall call images of G.", at_least=0)
  adversary: str = option(
    "clean",
    "Which client attacks: clean takes the first one that is fit, original follows the published "
    "code (client 0, or 3 if T is 0, whatever it holds), or the index of a fit client.",
  )
  num_adversaries: int = option(
    1, "Clients that attack, each by itself; the first one's images are judged.", at_least=1
  )
  adversary_lacks: str = option(
    "both",
    "What makes a client fit: it holds neither G nor T (both), no G (reconstruct, as in the "
    "published code), or anything (none).",
    choices=partition_lib.LACKS,
  )
  free_rider: bool = option(False, "The adversaries have no data of their own.")
  poison_images: int = option(50, "Generated images among an adversary's data.", at_least=0)
  generated_label: str = option(
    "poison",
    "Their label: T (poison), the additional class C (extra: reconstruction alone), or a fixed "
    "random one other than G.",
    choices=("poison", "extra", "random"),
  )
  start_round: int = option(0, "First round, from 0, in which the attack may start.", at_least=0)
  start_accuracy: float = option(
    0.0,
    "The attack starts once test accuracy was above this: from the second round on at the "
    "earliest, with -1 from the first.",
    at_least=-1,
    below=1,
  )
  generator: str = option("crpa", "Generator: crpa or your own package.module:function.")
  generator_steps: int = option(
    0,
    "GAN steps in a round, which begins at the first of its own images; 0 is one pass over them.",
    at_least=0,
  )
  generator_optimizer: str = option(
    "sgd", "Optimizer of the generator (adam with beta_1 0.5).", choices=("adam", "sgd")
  )
  generator_learning_rate: float = option(
    1e-3, "Of the generator; 0 keeps it untrained.", at_least=0
  )
  discriminator_learning_rate: float = option(
    1e-4, "Of the SGD of the discriminator; 0 keeps it as downloaded.", at_least=0
  )
  keep_discriminator: bool = option(
    False,
    "Whether an adversary's local training goes on from the discriminator that its GAN has trained "
    "(as in the code of `Privacy attack in federated learning is not easy`), or from the global "
    "model.",
  )
  total_variation: float = run_options.smoothness_prior()
  image_every: int = option(5, "Rounds between two pictures with their scores.", at_least=1)


def check(config: CRPAConfig) -> None:
  """Checks what can be checked without reading data or importing TensorFlow.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  run_options.check(config)
  privacy_options.check(config)
  defence_options.check(config, config.num_clients)
  for field in ("reconstruct", "poison"):
    run_options.check_classes(config, field, [getattr(config, field)])
  if config.reconstruct == config.poison:
    raise ConfigError(f"poison: must differ from reconstruct, both are {config.poison}")
  if config.alpha and config.partition != "dirichlet":
    raise ConfigError(f"alpha: only for partition=dirichlet, not {config.partition}")
  clients = map(str, range(config.num_clients))
  if config.adversary not in ("clean", "original", *clients):
    raise ConfigError(
      f"adversary: {config.adversary!r} is not allowed; allowed: clean, original, or 0 to "
      f"{config.num_clients - 1}"
    )
  if config.adversary == "original" and config.num_clients < 4:
    raise ConfigError("num_clients: adversary=original needs at least 4")
  if config.num_adversaries >= config.num_clients:
    raise ConfigError(f"num_adversaries: must be below num_clients, {config.num_clients}")
  if config.adversary == "original" and config.num_adversaries > 1:
    raise ConfigError("num_adversaries: adversary=original has one")
  if config.keep_discriminator and config.attack != "crpa":
    raise ConfigError(f"keep_discriminator: attack={config.attack} has none, leave it out")
  if config.attack in INJECTED and not config.poison_images:
    raise ConfigError(f"poison_images: must be 1 or more with attack={config.attack}")
  if config.adversary == "original" and config.adversary_lacks != "both":
    raise ConfigError("adversary_lacks: adversary=original has its own way, leave it out")
  if config.start_round >= config.rounds:
    raise ConfigError(
      f"start_round: {config.start_round} is never reached; allowed: 0 to {config.rounds - 1}"
    )
  if config.attack in INJECTED and config.generated_label == "random":
    raise ConfigError("generated_label: random is for attack=crpa")
  if config.free_rider and config.attack == "crpa" and config.generator_steps == 0:
    raise ConfigError("generator_steps: must be given with free_rider, which has no own images")


CONFIG = CRPAConfig
"""For sweeps, which know an experiment by its name."""
