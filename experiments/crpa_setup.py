"""Turns a CRPA configuration into a federation under attack."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError
from models import registry
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import crpa
from tff_attacks.data import datasets, partition
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, local_training, process

_WARM_UP_IMAGES = 3000
_WARM_UP_BATCH = 256


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: Training and test set.
    split: Who holds how much of what, and who attacks.
    data: Each client's images.
    model_fn: Builds the global model.
    generator_fn: Builds the generator.
    loss_fn: (labels, model output) -> mean cross-entropy.
    training: What every client does.
    attack: What the adversary does differently.
    federation: The TFF process and the functions that make its states.
  """

  dataset: datasets.Dataset
  split: partition.Split
  data: list[Images]
  model_fn: keras_state.ModelFn
  generator_fn: keras_state.ModelFn
  loss_fn: local_training.LossFn
  training: local_training.LocalTraining
  attack: attack_lib.ClientAttack
  federation: process.Federation


def prepare(config: CRPAConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data, models or partition cannot be had as asked.
  """
  try:
    dataset = datasets.load(config.dataset, config.data_dir)
    if not (dataset.test.labels == config.reconstruct).any():
      raise ValueError(f"reconstruct: no test image of class {config.reconstruct}")
    split, data = distribute(config, dataset)
    model_fn = functools.partial(
      registry.find("model", config.model, registry.GLOBAL_MODELS),
      dataset.image_shape,
      dataset.num_classes,
    )
    generator_fn = functools.partial(
      registry.find("generator", config.generator, registry.GENERATORS), dataset.image_shape
    )
    contract = registry.check_global_model(
      registry.build("model", config.model, model_fn), dataset.image_shape, dataset.num_classes
    )
    noise_size = registry.check_generator(
      registry.build("generator", config.generator, generator_fn), dataset.image_shape
    )
  except (ValueError, FileNotFoundError) as error:
    raise ConfigError(str(error)) from error

  _check_additional_class(config, contract, dataset.num_classes)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  training = local_training.local_training(
    _optimizer(config.optimizer, config.learning_rate),
    local_training.plain_gradient(loss_fn),
    config.batch_size,
    config.local_epochs,
  )
  attack = attack_lib.honest()
  if config.attack == "crpa":
    attack = crpa.crpa(
      attack_parameters(config, dataset.num_classes),
      generator_fn,
      noise_size,
      dataset.num_classes,
      _optimizer(config.generator_optimizer, config.generator_learning_rate, beta_1=0.5),
      loss_fn,
      config.batch_size,
    )
  federation = process.build_federation(
    model_fn, training, attack, aggregation.build_aggregator(config.aggregator)
  )
  return Setup(
    dataset,
    split,
    data,
    model_fn,
    generator_fn,
    loss_fn,
    training,
    attack,
    federation,
  )


def distribute(
  config: CRPAConfig, dataset: datasets.Dataset
) -> tuple[partition.Split, list[Images]]:
  """Draws the partition, chooses the adversary and fills the clients.

  Raises:
    ValueError: If no partition has a fit adversary or the images do not suffice.
  """
  rng = np.random.default_rng(config.seed)
  sizes = (config.num_clients, dataset.num_classes, config.images_per_class)
  if config.partition == "dirichlet" and config.alpha > 0:
    draw = functools.partial(partition.dirichlet, rng, config.alpha, *sizes)
    max_draws = config.max_draws
  else:
    draw = functools.partial(partition.FIXED.get(config.partition, partition.one_class), *sizes)
    max_draws = 1
  original = config.adversary == "original"
  split = partition.search(
    draw,
    config.reconstruct,
    config.poison,
    "reconstruct" if original else config.adversary_lacks,
    max_draws,
    int(config.adversary) if config.adversary.isdigit() else None,
  )
  if original:
    split = partition.as_original(split, config.poison)
  if config.free_rider:
    split.table[split.adversary] = 0
  for field in ("reconstruct", "poison"):
    label = getattr(config, field)
    if not split.table[:, label].any():
      raise ValueError(f"{field}: no client holds class {label} in this partition")
  empty = np.flatnonzero(split.table.sum(axis=1) == 0)
  if empty.size and not (config.free_rider and empty.tolist() == [split.adversary]):
    raise ValueError(
      f"images_per_class: {config.images_per_class} leaves client {empty[0]} without data"
    )
  data = [
    dataset.train.take(owned) for owned in partition.assign(dataset.train.labels, split.table, rng)
  ]
  return split, data


def attack_parameters(config: CRPAConfig, num_classes: int) -> crpa.Parameters:
  """The attack's parameters."""
  labels = {"poison": config.poison, "extra": num_classes, "random": crpa.RANDOM_LABELS}
  return crpa.Parameters(
    reconstruct=config.reconstruct,
    label=labels[config.generated_label],
    poison_images=config.poison_images,
    generator_learning_rate=config.generator_learning_rate,
    discriminator_learning_rate=config.discriminator_learning_rate,
    steps=config.generator_steps,
    total_variation=config.total_variation,
    start_round=config.start_round,
    start_accuracy=config.start_accuracy,
  )


def initial_states(
  config: CRPAConfig, setup: Setup
) -> tuple[process.ServerState, list[process.ClientState]]:
  """Returns the server's and the clients' states before the first round."""
  weights = keras_state.initial_weights(setup.model_fn, config.seed)
  if config.warm_up_epochs:
    weights = _warm_up(config, setup, weights)
  clients = [
    setup.federation.initial_client(
      config.seed, index, setup.attack.parameters if index == setup.split.adversary else None
    )
    for index in range(config.num_clients)
  ]
  return setup.federation.initial_server(weights), clients


def _warm_up(config: CRPAConfig, setup: Setup, weights: keras_state.ModelWeights):
  """Trains centrally on images of all classes, as the original can."""
  training = local_training.local_training(
    _optimizer(config.optimizer, config.learning_rate),
    local_training.plain_gradient(setup.loss_fn),
    _WARM_UP_BATCH,
    config.warm_up_epochs,
  )
  rng = np.random.default_rng(config.seed)
  chosen = rng.permutation(setup.dataset.train.labels.size)[:_WARM_UP_IMAGES]
  weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
  output = training.train(
    keras_state.build(setup.model_fn),
    weights,
    training.initialize(weights),
    setup.dataset.train.take(chosen),
    tf.constant([config.seed, 1]),
  )
  return tf.nest.map_structure(lambda w, u: (w + u).numpy(), weights, output.update)


def _optimizer(name: str, learning_rate: float, beta_1: float = 0.9):
  if name == "adam":
    return tff.learning.optimizers.build_adam(learning_rate, beta_1)
  return tff.learning.optimizers.build_sgdm(learning_rate)


def _check_additional_class(config: CRPAConfig, contract: registry.Contract, num_classes: int):
  if contract.num_outputs > num_classes or config.attack == "none":
    return
  if config.generated_label == "extra":
    raise ConfigError(f"generated_label: extra needs a model with {num_classes + 1} outputs")
  if config.discriminator_learning_rate > 0:
    raise ConfigError(
      f"discriminator_learning_rate: must be 0 for a model with {num_classes} outputs, it has no "
      "class for generated images"
    )
