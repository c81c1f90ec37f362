"""The generator that ggl searches, trained on the server's own images or taken from another run."""

import pathlib

import tensorflow as tf
import tqdm

from experiments import data, saved_config, trained
from experiments.leakage_config import ATTACKS, LeakageConfig
from models import ggl
from tff_attacks.data.datasets import Images
from tff_attacks.leakage import wgan
from tff_attacks.simulation.results import Results

_NAME = "generator"


def build(config: LeakageConfig, image_shape: tuple[int, int, int]) -> tf.keras.Model | None:
  """The generator with its initial weights, or those of the folder that `start_from` names.

  Raises:
    ValueError: If they cannot be read or trained, or it cannot make such images.
  """
  if not ATTACKS[config.attack].generator:
    return None
  tf.keras.utils.set_random_seed(config.seed)
  generator = ggl.generator(image_shape)
  if config.start_from is not None:
    # With these equal the server's own images are the same ones, and none of a client's here.
    saved_config.check_start(config, (*data.sources(config), "seed", "auxiliary_images"))
    trained.read(generator, pathlib.Path(config.start_from), _NAME)
  elif config.generator_steps and config.auxiliary_images < wgan.BATCH_SIZE:
    raise ValueError(
      f"auxiliary_images: {config.attack} needs {wgan.BATCH_SIZE} to train its generator on"
    )
  return generator


def train(
  config: LeakageConfig, generator: tf.keras.Model, auxiliary: Images, results: Results
) -> None:
  """Trains it in place and keeps its weights, if this has to be done and was not done before.

  Raises:
    ValueError: If the server has too few images.
  """
  if config.start_from is not None or not config.generator_steps:
    return
  if (results.folder / f"{_NAME}.npz").exists():
    trained.read(generator, results.folder, _NAME)
    return
  tf.keras.utils.set_random_seed(config.seed)
  critic = ggl.critic(generator.output_shape[1:])
  with tqdm.tqdm(total=config.generator_steps, unit="step", desc="generator") as bar:

    def watch(step, distance):
      bar.set_postfix(distance=f"{distance:.3g}")
      bar.update(step - bar.n)

    wgan.train(
      generator, critic, auxiliary.images, config.generator_steps, config.seed,
      folder=str(results.folder / "generator"), watch=watch,
    )  # fmt: skip
  trained.write(results, _NAME, generator)
