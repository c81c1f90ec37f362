"""Configuration of adversarial images out of a leaked gradient."""

import dataclasses

from experiments import run_options
from experiments.options import ConfigError, option

SUMMARY = """\
A model is trained; the gradient of a test image, stacked to a batch of copies of itself, is \
inverted; and the model is asked what the reconstructions are. The source finds that it calls \
unrecognisable pictures by the image's true label, even where it had called the image wrongly.
Each share stands beside what noise reaches, what independent copies would reach, and what the \
same search reaches with the gradient of a wrong label. Other models, trained on the same data, \
are asked, too.
Read report.md, scores.csv and images/ in the results folder. It can be stopped at any time and \
goes on with resume=<folder>."""

TENSORS = ("all", "alike", "largest")
GROWING = ("images",)
"""Options that a resume may raise."""

CALLS = {"misclassified": "wrongly", "correct": "rightly"}
"""How the target calls the test images that are chosen."""


@dataclasses.dataclass
class AdversarialLeakageConfig(run_options.FolderOptions):
  """Options of `python -m experiments.adversarial_leakage`."""

  preset: str = option(
    "quick",
    "Values for every option that is not given: quick runs within three minutes on the embedded "
    "digits, paper is the published setting.",
    choices=("quick", "paper"),
  )
  # The target, and other models.
  model: str = option("resnet8", "The target: a name or package.module:function.")
  transfer: list[str] = option(
    ["mlp", "lenet"], "Other models, trained on the same data, that are asked, too."
  )
  training_steps: int = option(250, "Minibatches of AdamW that each is trained with.", at_least=1)
  batch_size: int = option(32, "Images in one.", at_least=1)
  learning_rate: float = option(2e-3, "The highest of the training.", above=0)
  augment: bool = option(
    False, "Whether training images are shifted by up to an eighth, and half of them mirrored."
  )
  start_from: str | None = option(
    None, "Results folder of a run whose trained models this one takes; null trains them."
  )
  # The images.
  choose: str = option(
    "misclassified", "Test images that the target calls wrongly, or rightly.",
    choices=tuple(CALLS),
  )  # fmt: skip
  images: int = option(
    5, "How many of them; fewer, if there are no more. resume= can add some.", at_least=1
  )
  control: bool = option(
    True,
    "Whether the gradient of a wrong label, neither the true one nor what the target calls the "
    "image, is inverted as well.",
  )
  # The attack, each combination.
  stacks: list[int] = option([1, 2, 4], "Copies of the image in a batch.", at_least=1)
  total_variations: list[float] = option(
    [0.1], "Weights of the smoothness prior, of standardised pixels.", at_least=0
  )
  tensors: list[str] = option(
    ["all"],
    "How gradients are compared: all entries together, all tensors with each counting alike, "
    "or the ten tensors with the largest norms alone.",
    choices=TENSORS,
  )
  steps: int = option(200, "Of the search.", at_least=1)
  box: bool = option(
    False,
    "Whether images stay between black and white during the search, as in Equation (1) of the "
    "paper; its code lets them leave.",
  )


def check(config: AdversarialLeakageConfig) -> None:
  """Checks what can be checked without reading data or importing TensorFlow.

  Raises:
    ConfigError: If a value cannot be run.
  """
  run_options.check_data(config)
  for name in ("stacks", "total_variations", "tensors"):
    values = getattr(config, name)
    if len(set(values)) < len(values):
      raise ConfigError(f"{name}: a value is named twice")
  networks = [config.model, *config.transfer]
  if len(set(networks)) < len(networks):
    raise ConfigError("transfer: a model is named twice")
