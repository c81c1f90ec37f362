"""Turns a CRPA configuration into a federation under attack."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from experiments import data as data_lib
from experiments import defence_options, privacy_options
from experiments.crpa_config import INJECTED, CRPAConfig
from experiments.options import ConfigError, bad_input
from models import registry
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import crpa, injection
from tff_attacks.data import datasets, partition
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, aggregator_names, local_training, process
from tff_attacks.privacy import microbatches, models, records
from tff_attacks.simulation import evaluation

_WARM_UP_IMAGES = 3000
_WARM_UP_BATCH = 256


class Compiled(NamedTuple):
  """What runs of equal shapes share; it is traced once, whatever the classes and the seed.

  Attributes:
    dataset: Training and test set.
    model_fn: Builds the global model.
    generator: A generator to show images with.
    has_additional_class: Whether the global model has an output for generated images.
    loss_fn: (labels, model output) -> mean cross-entropy.
    training: What every client does.
    attack: What an adversary does differently; its parameters are but an example.
    federation: The TFF process and the functions that make its states.
    evaluate: Evaluates weights on the test set.
  """

  dataset: datasets.Dataset
  model_fn: keras_state.ModelFn
  generator: tf.keras.Model
  has_additional_class: bool
  loss_fn: local_training.LossFn
  training: local_training.LocalTraining
  attack: attack_lib.ClientAttack
  federation: process.Federation
  evaluate: Callable[[keras_state.ModelWeights], evaluation.Evaluation]


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    compiled: What it shares with other runs.
    split: Who holds how much of what, and who attacks.
    data: Each client's images.
    parameters: The attack's parameters; None without attack.
    privacy: What protects the honest clients, and how well.
  """

  compiled: Compiled
  split: partition.Split
  data: list[Images]
  parameters: attack_lib.Parameters
  privacy: privacy_options.Privacy


class _Shapes(NamedTuple):
  """The options that a trace depends on."""

  dataset: str
  data_dir: str | None
  test_images: int
  model: str
  generator: str
  optimizer: str
  learning_rate: float
  batch_size: int
  local_epochs: int
  aggregator: str
  byzantine: int
  norm_bound: float | None
  generator_optimizer: str
  injected_images: int
  attack: str
  privacy: str
  l2_norm_clip: float
  noise_multiplier: float
  adversary_noise: bool
  keep_discriminator: bool
  microbatch_size: int
  num_clients: int


@bad_input()
def prepare(config: CRPAConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data, models or partition cannot be had as asked.
  """
  injects = config.attack in INJECTED
  shapes = {name: getattr(config, name) for name in _Shapes._fields if hasattr(config, name)}
  shapes["injected_images"] = config.poison_images if injects else 0
  shapes["attack"] = "injection" if injects else config.attack
  if config.privacy == "clients":  # Noise makes an aggregator of its own.
    shapes["aggregator"] = {"fixed": "dp", "adaptive": "adaptive_dp"}[config.clipping]
    shapes["norm_bound"] = config.l2_norm_clip
  elif config.aggregator in aggregator_names.MEANS:
    shapes["num_clients"] = 0  # The trace does not depend on it.
  dataset = data_lib.load(config.dataset, config.data_dir, config.test_images)
  if not (dataset.test.labels == config.reconstruct).any():
    raise ValueError(f"reconstruct: no test image of class {config.reconstruct}")
  split, data = distribute(config, dataset)
  privacy = protection(config, split)
  shapes["noise_multiplier"] = privacy.mechanism.noise_multiplier
  shapes["microbatch_size"] = privacy.mechanism.microbatch_size
  compiled = _compile(_Shapes(**shapes))
  parameters: Any = None  # Without attack there is no adversary.
  if injects:
    parameters = injection_parameters(config, dataset, split)
  elif config.attack == "crpa":
    parameters = crpa_parameters(config, dataset.num_classes)
  _check_additional_class(config, compiled)
  return Setup(compiled, split, data, parameters, privacy)


@functools.lru_cache(maxsize=4)
def _compile(shapes: _Shapes) -> Compiled:
  dataset = data_lib.load(shapes.dataset, shapes.data_dir, shapes.test_images)
  model = registry.global_model(shapes.model, dataset.image_shape, dataset.num_classes)
  generator = registry.generator(shapes.generator, dataset.image_shape)
  model_fn, contract = model.model_fn, model.contract
  _check_private(shapes, model)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  training = _training(shapes, contract.from_logits)
  attack = attack_lib.honest()
  if shapes.attack == "crpa":
    attack = crpa.crpa(
      crpa.Parameters(reconstruct=0, label=0, poison_images=1),
      generator.model_fn,
      generator.noise_size,
      dataset.num_classes,
      local_training.build_optimizer(shapes.generator_optimizer, learning_rate=1.0, beta_1=0.5),
      loss_fn,
      shapes.batch_size,
    )
  elif shapes.attack == "injection":
    example = dataset.train.take(np.zeros(shapes.injected_images, int))
    attack = injection.injection(injection.Parameters(example))
  if not shapes.adversary_noise or shapes.keep_discriminator:
    own = shapes if shapes.adversary_noise else shapes._replace(noise_multiplier=0.0)
    attack = attack._replace(
      training=_training(own, contract.from_logits, keep_model=shapes.keep_discriminator)
    )
  federation = process.build_federation(model_fn, training, attack, aggregator(shapes))
  return Compiled(
    dataset,
    model_fn,
    generator.model,
    contract.num_outputs > dataset.num_classes,
    loss_fn,
    training,
    attack,
    federation,
    evaluation.build_evaluation(model_fn, loss_fn, dataset.test),
  )


def _check_private(shapes: _Shapes, model: registry.GlobalModel) -> None:
  """Checks that a model can be trained privately.

  Raises:
    ValueError: If it cannot.
  """
  privacy = shapes.privacy
  if privacy == "clients" and shapes.noise_multiplier:
    models.check_noised(model.model)
  try:
    if privacy in ("microbatches", "records"):
      models.check_separable(model.model_fn)
  except ValueError as error:
    raise ValueError(f"privacy: {privacy} does not go with this model: {error}") from error
  try:
    if privacy == "records":
      records.check_model(model.model)
  except ValueError as error:
    raise ValueError(
      f"privacy: records does not go with this model: {error}; privacy=microbatches with "
      "microbatches=<batch_size> clips every record, too, but takes very long"
    ) from error


def _training(
  shapes: _Shapes, from_logits: bool, keep_model: bool = False
) -> local_training.LocalTraining:
  return local_training.local_training(
    local_training.build_optimizer(shapes.optimizer, shapes.learning_rate),
    _gradient(shapes, from_logits),
    shapes.batch_size,
    shapes.local_epochs,
    keep_model=keep_model,
  )


def _gradient(shapes: _Shapes, from_logits: bool) -> local_training.GradientFn:
  losses = local_training.per_example_cross_entropy(from_logits)
  if shapes.privacy == "records":
    return records.gradient(losses, shapes.l2_norm_clip, shapes.noise_multiplier)
  if shapes.privacy == "microbatches":
    return microbatches.gradient(
      losses, shapes.l2_norm_clip, shapes.noise_multiplier, shapes.microbatch_size
    )
  return local_training.plain_gradient(local_training.cross_entropy(from_logits))


def aggregator(shapes: _Shapes | CRPAConfig) -> tff.aggregators.WeightedAggregationFactory:
  """How the server of a run, or of a sweep, combines updates.

  Raises:
    ValueError: See `aggregation.build_aggregator`.
  """
  server = None  # The means assume nothing.
  if shapes.aggregator not in aggregator_names.MEANS:
    server = defence_options.assumptions(shapes, shapes.num_clients)
  return aggregation.build_aggregator(shapes.aggregator, server)


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
    config.num_adversaries,
  )
  if original:
    split = partition.as_original(split, config.poison)
  if config.size_sigma:
    split = split._replace(table=partition.unequal(split.table, config.size_sigma, rng))
  if config.free_rider:
    split.table[split.adversaries] = 0
  if missing := np.flatnonzero(split.table.sum(axis=0) == 0).tolist():
    logging.warning("No client holds class %s; its test images count all the same.", missing)
  for field in ("reconstruct", "poison"):
    label = getattr(config, field)
    if not split.table[:, label].any():
      raise ValueError(f"{field}: no client holds class {label} in this partition")
  empty = np.flatnonzero(split.table.sum(axis=1) == 0)
  if not set(empty) <= set(split.adversaries if config.free_rider else []):
    raise ValueError(
      f"images_per_class: {config.images_per_class} leaves client {empty[0]} without data"
    )
  data = [
    dataset.train.take(owned) for owned in partition.assign(dataset.train.labels, split.table, rng)
  ]
  return split, data


def protection(config: CRPAConfig, split: partition.Split) -> privacy_options.Privacy:
  """What protects the clients of a partition.

  Raises:
    ValueError: If no noise is enough for `target_epsilon`, or delta is too large.
  """
  # Of adversaries, too: the run without attack, in which they are honest, has the same noise.
  sizes = split.table.sum(axis=1)
  return privacy_options.of(config, sizes[sizes > 0].tolist())


def crpa_parameters(config: CRPAConfig, num_classes: int) -> crpa.Parameters:
  """The parameters of `attack=crpa`."""
  return crpa.Parameters(
    reconstruct=config.reconstruct,
    label=_label(config, num_classes),
    poison_images=config.poison_images,
    generator_learning_rate=config.generator_learning_rate,
    discriminator_learning_rate=config.discriminator_learning_rate,
    steps=config.generator_steps,
    total_variation=config.total_variation,
    start_round=config.start_round,
    start_accuracy=config.start_accuracy,
  )


def injection_parameters(
  config: CRPAConfig, dataset: datasets.Dataset, split: partition.Split
) -> injection.Parameters:
  """The parameters of the controls, whose images no GAN made.

  Raises:
    ValueError: If there are too few such images.
  """
  rng = np.random.default_rng([config.seed, 2])
  count, train = config.poison_images, dataset.train
  if config.attack == "noise":
    images = rng.uniform(-1, 1, [count, *dataset.image_shape]).astype(np.float32)
  else:
    label = config.reconstruct
    if config.attack == "other_class":
      own = split.table[split.adversaries].sum(axis=0)
      # Stable: of several that they hold least of, the first, on any processor.
      order = np.argsort(own, kind="stable")
      excluded = {config.reconstruct, config.poison, *np.flatnonzero(~split.table.any(axis=0))}
      others = [c for c in order if c not in excluded]
      if not others:
        raise ValueError("attack: other_class needs a third class that a client holds")
      label = others[0]
    candidates = np.flatnonzero(train.labels == label)
    if candidates.size < count:
      raise ValueError(f"poison_images: {count}, but class {label} has {candidates.size} images")
    images = train.images[rng.choice(candidates, count, replace=False)]
  labels = np.full(count, _label(config, dataset.num_classes), np.int32)
  return injection.Parameters(Images(images, labels), config.start_round, config.start_accuracy)


def _label(config: CRPAConfig, num_classes: int) -> int:
  """The label of generated images."""
  labels = {"poison": config.poison, "extra": num_classes, "random": crpa.RANDOM_LABELS}
  return labels[config.generated_label]


def initial_states(
  config: CRPAConfig, setup: Setup
) -> tuple[process.ServerState, list[process.ClientState]]:
  """Returns the server's and the clients' states before the first round."""
  weights = keras_state.initial_weights(setup.compiled.model_fn, config.seed)
  if config.warm_up_epochs:
    weights = _warm_up(config, setup, weights)
  federation = setup.compiled.federation
  clients = [
    federation.initial_client(
      config.seed, index, setup.parameters if index in setup.split.adversaries else None
    )
    for index in range(config.num_clients)
  ]
  return federation.initial_server(weights, config.seed), clients


def _warm_up(
  config: CRPAConfig, setup: Setup, weights: keras_state.ModelWeights
) -> keras_state.ModelWeights:
  """Trains centrally on images of all classes, as the original can."""
  compiled = setup.compiled
  training = local_training.local_training(
    local_training.build_optimizer(config.optimizer, config.learning_rate),
    local_training.plain_gradient(compiled.loss_fn),
    _WARM_UP_BATCH,
    config.warm_up_epochs,
  )
  rng = np.random.default_rng(config.seed)
  chosen = rng.permutation(compiled.dataset.train.labels.size)[:_WARM_UP_IMAGES]
  weights = tf.nest.map_structure(tf.convert_to_tensor, weights)
  output = training.train(
    keras_state.build(compiled.model_fn),
    weights,
    training.initialize(weights),
    compiled.dataset.train.take(chosen),
    tf.constant([config.seed, 1]),
  )
  return tf.nest.map_structure(lambda w, u: (w + u).numpy(), weights, output.update)


def _check_additional_class(config: CRPAConfig, compiled: Compiled) -> None:
  if compiled.has_additional_class or config.attack == "none":
    return
  num_classes = compiled.dataset.num_classes
  if config.generated_label == "extra":
    raise ConfigError(f"generated_label: extra needs a model with {num_classes + 1} outputs")
  if config.attack == "crpa" and config.discriminator_learning_rate > 0:
    raise ConfigError(
      f"discriminator_learning_rate: must be 0 for a model with {num_classes} outputs, it has no "
      "class for generated images"
    )
