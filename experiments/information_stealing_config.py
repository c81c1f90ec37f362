"""Configuration of one run of GAN information stealing."""

import dataclasses

from experiments import run_options
from experiments.options import ConfigError, option

SUMMARY = """\
Runs GAN information stealing on a federation: one client without any data trains a generator \
against the global model, once that is good, to reconstruct a class of a victim, and trains its \
own model on the images with an additional label. By default each class has an honest client (11 \
clients with ten classes); with victim_classes there is one honest client, the victim.
Watch the accuracy while it runs; read summary.json, metrics.csv and images/ in the results folder \
afterwards."""


@dataclasses.dataclass
class InformationStealingConfig(run_options.RunOptions):
  """Options of `python -m experiments.information_stealing`."""

  preset: str = option(
    "quick",
    "Values for every option that is not given: quick runs in a minute on the embedded digits, "
    "paper is the published setting.",
    choices=("quick", "paper"),
  )
  # Who holds what.
  victim_classes: list[int] = option(
    [], "Classes of the only honest client; none gives each class an honest client of its own."
  )
  images_per_class: int = option(5000, "Training images of each class.", at_least=1)
  # The federation.
  model: str = option(
    "information_stealing", "Global model with C + 1 outputs: a name or package.module:function."
  )
  rounds: int = option(120, "Rounds.", at_least=1)
  samples_per_round: int = option(
    50, "Images that a client trains on in a round, drawn anew in each.", at_least=1
  )
  batch_size: int = option(16, "Images in a step.", at_least=1)
  local_epochs: int = option(1, "Passes over a round's images.", at_least=1)
  learning_rate: float = option(0.005, "Of the local Adam (beta_1 0.5).", above=0)
  keep_optimizer_state: bool = option(
    True, "Whether a client's Adam goes on where the last round left it; the paper does not say."
  )
  aggregator: str = option(
    "mean",
    "How the server combines updates. Before its attack the adversary has nothing to train on and "
    "sends zeros, which nonempty_mean leaves out.",
    choices=("mean", "nonempty_mean"),
  )
  # The attack.
  attack: str = option(
    "information_stealing", "Or none, as a control.", choices=("information_stealing", "none")
  )
  target: int = option(1, "Class that the adversary reconstructs.", at_least=0)
  start_accuracy: float = option(
    0.9,
    "The attack starts once accuracy on the honest clients' classes is above this.",
    at_least=0,
    below=1,
  )
  latest_start: int = option(
    100, "Round, from 0, in which it starts even so; the report then says it.", at_least=1
  )
  generator: str = option("information_stealing", "Generator: a name or package.module:function.")
  noise: str = option(
    "uniform", "What it makes images of; the paper says both.", choices=("uniform", "normal")
  )
  generator_steps: int = option(
    500,
    "Updates of the generator in a round; the paper's 500 epochs, as passes over the images that "
    "it draws, would be hundreds of times as many.",
    at_least=1,
  )
  generator_batch_size: int = option(16, "Images in an update.", at_least=1)
  generator_learning_rate: float = option(1e-3, "Of its Adam (beta_1 0.5).", above=0)
  total_variation: float = run_options.smoothness_prior()
  generated_images: int = option(5000, "Images that it generates in a round.", at_least=1)
  image_every: int = option(5, "Rounds between two pictures.", at_least=1)


def check(config: InformationStealingConfig) -> None:
  """Checks what can be checked without reading data or importing TensorFlow.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  run_options.check(config)
  run_options.check_classes(config, "target", [config.target])
  run_options.check_classes(config, "victim_classes", config.victim_classes)
  if config.victim_classes and config.target not in config.victim_classes:
    raise ConfigError(f"target: the victim does not hold {config.target}; add it to victim_classes")
  if config.samples_per_round > config.generated_images:
    raise ConfigError("generated_images: must be samples_per_round or more")


CONFIG = InformationStealingConfig
"""For sweeps, which know an experiment by its name."""
