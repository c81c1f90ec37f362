"""Turns the configuration of GAN information stealing into a federation."""

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from experiments import data as data_lib
from experiments.information_stealing_config import InformationStealingConfig
from experiments.options import bad_input
from models import registry
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import information_stealing
from tff_attacks.data import datasets, partition
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, local_training, process


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: Training set, and the test images of the classes that honest clients hold.
    data: Each client's images, the adversary's (none) last.
    model_fn: Builds the global model.
    generator: A generator to show images with.
    draw_noise: (number, seed) -> its noise.
    from_logits: Whether the global model's outputs are logits.
    loss_fn: (labels, model output) -> mean cross-entropy.
    parameters: The attack's.
    federation: The TFF process and the functions that make its states.
  """

  dataset: datasets.Dataset
  data: list[Images]
  model_fn: keras_state.ModelFn
  generator: tf.keras.Model
  draw_noise: Any
  from_logits: bool
  loss_fn: local_training.LossFn
  parameters: information_stealing.Parameters
  federation: process.Federation


@bad_input()
def prepare(config: InformationStealingConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data or models cannot be had as asked.
  """
  dataset = data_lib.load(config.dataset, config.data_dir, config.test_images)
  data = _distribute(config, dataset)
  model_fn, _, contract = registry.global_model(
    config.model, dataset.image_shape, dataset.num_classes
  )
  generator = registry.generator(config.generator, dataset.image_shape)
  if contract.num_outputs != dataset.num_classes + 1:
    raise ValueError(f"model: needs {dataset.num_classes + 1} outputs, one for generated images")
  noises = {
    "uniform": information_stealing.uniform_noise,
    "normal": information_stealing.normal_noise,
  }
  draw_noise = noises[config.noise](generator.noise_size)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  adam = functools.partial(local_training.build_optimizer, "adam", beta_1=0.5)
  parameters: Any = information_stealing.Parameters(
    target=config.target,
    generated_images=config.generated_images,
    drawn_images=config.samples_per_round,
    steps=config.generator_steps,
    generator_learning_rate=config.generator_learning_rate,
    total_variation=config.total_variation,
    start_accuracy=config.start_accuracy,
    latest_start=config.latest_start,
  )
  if config.attack == "none":
    attack, parameters = attack_lib.honest(), None
  else:
    attack = information_stealing.information_stealing(
      parameters,
      generator.model_fn,
      draw_noise,
      dataset.num_classes,
      adam(config.generator_learning_rate),
      loss_fn,
      config.generator_batch_size,
    )
  training = local_training.local_training(
    adam(config.learning_rate),
    local_training.plain_gradient(loss_fn),
    config.batch_size,
    config.local_epochs,
    samples_per_round=config.samples_per_round,
    keep_optimizer_state=config.keep_optimizer_state,
  )
  federation = process.build_federation(
    model_fn, training, attack, aggregation.build_aggregator(config.aggregator)
  )
  held = np.unique(np.concatenate([images.labels for images in data]))
  test = dataset.test.take(np.isin(dataset.test.labels, held))
  for label in held:
    if label not in test.labels:
      raise ValueError(f"test_images: no test image of class {label}")
  return Setup(
    dataset._replace(test=test), data, model_fn, generator.model, draw_noise,
    contract.from_logits,
    loss_fn, parameters, federation,
  )  # fmt: skip


def _distribute(config: InformationStealingConfig, dataset: datasets.Dataset) -> list[Images]:
  """One class for each honest client, or the victim's classes; none for the adversary."""
  count = dataset.num_classes
  table = partition.one_class(count, count, config.images_per_class)
  if config.victim_classes:
    table = table[config.victim_classes].sum(axis=0, keepdims=True)
  table = np.pad(table, [(0, 1), (0, 0)])
  rng = np.random.default_rng(config.seed)
  return [dataset.train.take(owned) for owned in partition.assign(dataset.train.labels, table, rng)]
