"""Configuration of one reconstruction by the server."""

import dataclasses
from typing import Any, NamedTuple

from experiments import run_options
from experiments.options import ConfigError, option

SUMMARY = """\
Plays a curious server: it sees one gradient of a client, or the update that a client sends in a \
round of federated averaging, and reconstructs the client's images from it. The federation is \
trained for so many rounds before. Each score stands beside what a guess reaches.
Watch the loss and the PSNR while it runs; read scores.csv, summary.json and images/ in the \
results folder afterwards. Ctrl-C keeps the best reconstruction so far."""


class Attack(NamedTuple):
  """An attack, and how it is usually run.

  Attributes:
    function: Where in `tff_attacks.leakage` it is built, by (model_fn, **settings): a setting is
      what has a number or a bool as its default; `infer_labels`, `generator` and `generator_fn`
      are handed in. Not imported here, as TensorFlow takes seconds.
    model: On which global model.
    quick: Settings with which it ends within minutes, in place of the published ones; or `{}`.
    one_image: Whether it looks for a single image.
    generator: Whether it gets a generator, trained on the server's own images.
    one_batch: Whether, as published, it takes the update for the gradient of one batch.
    last_layer: Whether it looks at the last layer, which must then be fully connected.
    mixtures: Whether it needs a unit of the first fully connected layer for each image.
    any_scale: Whether it knows neither brightness nor contrast of an image, nor its sign.
    searches: Whether it takes steps.
  """

  function: str
  model: str
  quick: dict[str, Any]
  one_image: bool = False
  generator: bool = False
  one_batch: bool = False
  last_layer: bool = True
  mixtures: bool = False
  any_scale: bool = False
  searches: bool = True


ATTACKS = {
  "dlg": Attack("gradient_matching:dlg", "lenet", {"steps": 600}, one_batch=True),
  "idlg": Attack("gradient_matching:idlg", "lenet", {"steps": 600}, one_image=True),
  "inverting_gradients": Attack(
    "gradient_matching:inverting_gradients", "cnn", {"steps": 600, "total_variation": 1e-3}
  ),
  "dlf": Attack("dlf:dlf", "dlf_cnn", {}),
  "ggl": Attack("ggl:ggl", "cnn", {"evaluations": 2500}, one_image=True, generator=True),
  "grnn": Attack("grnn:grnn", "lenet", {"steps": 1500}, one_batch=True),
  "cocktail_party": Attack(
    "cocktail_party:cocktail_party", "mlp", {"steps": 2000, "learning_rate": 0.01},
    one_batch=True, last_layer=False, mixtures=True, any_scale=True,
  ),
  "feature_inversion": Attack(
    "feature_inversion:feature_inversion",
    "vgg16",
    {
      "steps": 2000, "learning_rate": 0.01, "decorrelation": 0.1, "one_sign": 1.0,
      "inversion_steps": 600,
    },
    one_batch=True, last_layer=False, mixtures=True,
  ),
  "robbing_the_fed": Attack(
    "robbing:robbing_the_fed", "resnet18", {}, last_layer=False, searches=False
  ),
}  # fmt: skip
"""Their functions get the options: `steps=` is their keyword `steps` or `evaluations`, and every
other keyword whose default is a number or a bool can be set by `attack_options=`. They call their
`watch` after every step (the progress bar, Ctrl-C and `max_minutes` live in it), and raise
`leakage.UnusableError` for a client that tells them nothing."""

LABELS = ("idlg", "yin", "zsaa", "dimitrov", "irlg", "rlu")


@dataclasses.dataclass
class LeakageConfig(run_options.FolderOptions, run_options.RunOptions):
  """Options of `python -m experiments.leakage`."""

  preset: str = option(
    "quick",
    "Values for every option that is not given: quick runs in half a minute on the embedded "
    "digits, paper is the published federation, and each search as its source has it.",
    choices=("quick", "paper"),
  )
  # What the server sees.
  mode: str = option(
    "gradient",
    "gradient: that of one batch, at the global weights; federated: a client's update out of a "
    "round, before it is aggregated.",
    choices=("gradient", "federated"),
  )
  rounds: int = option(0, "Rounds of training before; 0 attacks the initial weights.", at_least=0)
  victims: int = option(
    1, "Clients that are attacked, one after another; with 0 the federation is only trained.",
    at_least=0,
  )  # fmt: skip
  auxiliary_images: int = option(
    500, "Images that the server has of its own, none of any client.", at_least=0
  )
  # The federation.
  num_clients: int = option(10, "Clients; all take part in each round.", at_least=1)
  samples_per_client: int = option(40, "Training images of each.", at_least=1)
  partition: str = option(
    "iid", "How the classes are spread over the clients.", choices=("iid", "dirichlet")
  )
  alpha: float = option(0.5, "Concentration of the Dirichlet distribution.", above=0)
  model: str | None = option(
    None,
    "Global model: a name or package.module:function; null: the one that the attack is usually run "
    "on (" + ", ".join(f"{name}: {attack.model}" for name, attack in ATTACKS.items()) + ").",
  )
  imprint_bins: int = option(
    0, "Units of an imprint block before the model, as robbing_the_fed needs it.", at_least=0
  )
  imprint_weights: str = option(
    "published",
    "Of its second layer: published ones are large, and a step of training ruins them; small ones "
    "learn like any other layer.",
    choices=("published", "small"),
  )
  batch_size: int = option(10, "Images in a step.", at_least=1)
  local_epochs: int = option(1, "Passes over a client's images in a round.", at_least=1)
  learning_rate: float = option(0.1, "Of the local SGD in the first round.", above=0)
  learning_rate_decay: float = option(0.95, "Its factor from round to round.", above=0)
  # The attack.
  attack: str = option("inverting_gradients", "What the server does.", choices=tuple(ATTACKS))
  labels: str = option(
    "own",
    "How inverting_gradients and dlf get the labels: own (the former takes idlg for one image and "
    "looks for those of several together with them, the latter takes dimitrov), a label inference, "
    "or given (as an ablation).",
    choices=("own", *LABELS, "given"),
  )
  images: int | None = option(
    None,
    "How many images the attack looks for, which takes the update for one gradient of so many; "
    "null: a batch's where the attack is published so ("
    + ", ".join(name for name, attack in ATTACKS.items() if attack.one_batch)
    + "), else all that the client trained on, and its steps are known.",
    at_least=1,
  )
  search: str = option(
    "quick",
    "Settings of the attack: as published, or quick ones with which it ends within minutes.",
    choices=("quick", "published"),
  )
  steps: int | None = option(
    None, "Steps of its search (for ggl, gradients that it tries), in place of theirs.", at_least=1
  )
  attack_options: list[str] = option(
    [],
    "More settings in place of theirs, as [total_variation:0.001,unroll:false]: the keywords of "
    "the attack's function in tff_attacks.leakage.",
  )
  start_from: str | None = option(
    None, "Results folder of a run whose trained generator ggl takes; null trains one."
  )
  generator_steps: int = option(
    300, "Steps of that training, on the server's own images; 0 leaves it untrained.", at_least=0
  )
  max_minutes: float | None = option(
    None,
    "Gives a reconstruction up, and reports its projected cost, where it would take longer; null: "
    "never.",
    above=0,
  )


def check(config: LeakageConfig) -> None:
  """Checks what can be checked without reading data or importing TensorFlow.

  Raises:
    ConfigError: If a value, or a combination, cannot be run.
  """
  run_options.check(config)
  if config.victims > config.num_clients:
    raise ConfigError(f"victims: there are {config.num_clients} clients, not {config.victims}")
  if config.mode == "gradient" and config.batch_size > config.samples_per_client:
    raise ConfigError("batch_size: must be samples_per_client or less with mode=gradient")
  if config.attack == "robbing_the_fed" and not config.imprint_bins:
    raise ConfigError("imprint_bins: robbing_the_fed needs an imprint block, give 100")
  if config.steps is not None and not ATTACKS[config.attack].searches:
    raise ConfigError(f"steps: {config.attack} does not search, leave it out")
  if config.imprint_bins == 1:
    raise ConfigError("imprint_bins: must be 0, or 2 or more")
  if config.imprint_weights == "small" and not config.imprint_bins:
    raise ConfigError("imprint_weights: there is no imprint block, give imprint_bins=100")
  if config.images is not None and config.images > known_images(config):
    raise ConfigError(f"images: the client trains on {known_images(config)}")
  if config.labels == "given" and config.images not in (None, known_images(config)):
    raise ConfigError(f"images: labels=given has {known_images(config)} labels, leave it out")
  several = (sought_images(config) or known_images(config)) > 1
  for name, one_image in (
    (config.attack, ATTACKS[config.attack].one_image),
    (config.labels, config.labels == "idlg"),
  ):
    if one_image and several:
      raise ConfigError(f"images: {name} looks for a single one, give images=1")
  if config.alpha != 0.5 and config.partition != "dirichlet":
    raise ConfigError(f"alpha: only for partition=dirichlet, not {config.partition}")
  if config.start_from is not None and not ATTACKS[config.attack].generator:
    raise ConfigError(f"start_from: {config.attack} takes no generator")
  for setting in config.attack_options:
    if ":" not in setting:
      raise ConfigError(f"attack_options: {setting!r} is not allowed; allowed: <name>:<value>")


def known_images(config: LeakageConfig) -> int:
  """How many images the update, or the gradient, is of."""
  return config.batch_size if config.mode == "gradient" else config.samples_per_client


def sought_images(config: LeakageConfig) -> int | None:
  """How many images the attack takes the update for one gradient of; None if it does not."""
  if config.images is None and config.mode == "federated" and ATTACKS[config.attack].one_batch:
    return min(config.batch_size, config.samples_per_client)
  return config.images


CONFIG = LeakageConfig
"""For sweeps, which know an experiment by its name."""
