"""Turns the configuration of a reconstruction into a federation with a curious server."""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from experiments import data as data_lib
from experiments import leakage_attacks, leakage_generator
from experiments.leakage_config import ATTACKS, LeakageConfig
from experiments.options import bad_input
from models import imprint, registry
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.data import datasets, partition
from tff_attacks.data.datasets import Images
from tff_attacks.leakage import leakage, robbing
from tff_attacks.learning import aggregation, local_training, process


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: Training set, and the test images, which no client has: all of them, among which
      reconstructions look for their own.
    evaluated: Those that accuracy is measured on.
    data: Each client's images.
    auxiliary: The server's own images, or None.
    model_fn: Builds the global model.
    loss_fn: (labels, model output) -> mean cross-entropy.
    gradient: Of one batch.
    federation: The TFF process, and the functions that make its states.
    observing: The same, whose server keeps apart what it is sent.
    generator: Of ggl, or None.
    attack: The server's; ggl's generator may still have to be trained.
  """

  dataset: datasets.Dataset
  evaluated: Images
  data: list[Images]
  auxiliary: Images | None
  model_fn: keras_state.ModelFn
  loss_fn: local_training.LossFn
  gradient: local_training.GradientFn
  federation: process.Federation
  observing: process.Federation
  generator: tf.keras.Model | None
  attack: leakage.Reconstruct


@bad_input()
def prepare(config: LeakageConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data, model or attack cannot be had as asked.
  """
  dataset = data_lib.load(config.dataset, config.data_dir, 0, config.image_size)
  evaluated = data_lib.first(dataset.test, config.test_images)
  data, auxiliary = _distribute(config, dataset)
  _check_labels(config, dataset, data, auxiliary)
  name = config.model or ATTACKS[config.attack].model
  wrap = None
  if config.imprint_bins:
    thresholds = robbing.thresholds(config.imprint_bins, auxiliary)
    small = config.imprint_weights == "small"
    wrap = functools.partial(imprint.imprint, thresholds=thresholds, small=small)
  model_fn, _, contract = registry.global_model(
    name, dataset.image_shape, dataset.num_classes, wrap=wrap
  )
  if config.labels == "rlu" and contract.num_outputs > dataset.num_classes:
    raise ValueError("labels: rlu needs a model without a class for generated images")
  generator = leakage_generator.build(config, dataset.image_shape)
  attack = leakage_attacks.build(config, model_fn, generator)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  gradient = local_training.plain_gradient(loss_fn)
  training = local_training.local_training(
    _optimizer(config), gradient, config.batch_size, config.local_epochs
  )
  # Observing costs a copy of each client's update. Both are built before any model is called:
  # TFF builds in graphs of TF 1, after which Keras refuses to trace older models.
  federation, observing = (
    process.build_federation(
      model_fn, training, attack_lib.honest(), aggregation.build_aggregator("mean"), observe
    )
    for observe in (False, True)
  )
  return Setup(
    dataset, evaluated, data, auxiliary, model_fn, loss_fn, gradient, federation, observing,
    generator, attack,
  )  # fmt: skip


def learning_rate(config: LeakageConfig, round_number: int) -> float:
  """That of the local steps in a round, from 0."""
  return config.learning_rate * config.learning_rate_decay**round_number


def observe(
  config: LeakageConfig,
  setup: Setup,
  server: process.ServerState,
  client: process.ClientState,
  data: Images,
) -> leakage.Observation:
  """What the server sees of a client in the next round, or of one batch of it.

  An imprint block is as it was at first: the server sends it anew to those whom it attacks.

  Args:
    config: The configuration.
    setup: Its setup.
    server: The server's state.
    client: The client's.
    data: The images that it trains on.
  """
  if config.imprint_bins:
    server = _with_new_block(server, keras_state.initial_weights(setup.model_fn, config.seed))
  if config.mode == "gradient":
    model = keras_state.build(setup.model_fn, server.weights)
    return leakage.observe_gradient(model, setup.gradient, data, setup.auxiliary)
  return leakage.observe_round(
    setup.observing,
    server,
    client,
    data,
    config.batch_size,
    config.local_epochs,
    learning_rate(config, int(server.round)),
    setup.auxiliary,
  )


def _with_new_block(
  server: process.ServerState, initial: keras_state.ModelWeights
) -> process.ServerState:
  block, rest = initial.trainable[: imprint.NUM_ARRAYS], server.weights.trainable
  weights = server.weights._replace(trainable=[*block, *rest[imprint.NUM_ARRAYS :]])
  return server._replace(weights=weights)


def _optimizer(config: LeakageConfig) -> tff.learning.optimizers.Optimizer:
  steps = -(-config.samples_per_client // config.batch_size) * config.local_epochs
  return tff.learning.optimizers.schedule_learning_rate(
    local_training.build_optimizer("sgd", config.learning_rate),
    lambda step: learning_rate(config, tf.cast(step // steps, tf.float32)),
  )


def _distribute(
  config: LeakageConfig, dataset: datasets.Dataset
) -> tuple[list[Images], Images | None]:
  """Each client's images, all clients equally large, and the server's.

  The server's depend on the seed alone, so that what it learned of them serves other federations.
  """
  rng = np.random.default_rng(config.seed)
  count, size = config.num_clients, config.samples_per_client
  order = rng.permutation(dataset.train.labels.size)
  own, rest = np.split(order, [config.auxiliary_images])
  if count * size > rest.size:
    raise ValueError(
      f"samples_per_client: {count} clients need {count * size} images, the training set has "
      f"{rest.size} beside the server's {own.size}"
    )
  labels = dataset.train.labels[rest]
  if config.partition == "iid":
    owned = partition.random_samples(rng, rest.size, count, size)
  else:
    per_class = np.bincount(labels, minlength=dataset.num_classes).min()
    table = partition.dirichlet(rng, config.alpha, count, dataset.num_classes, per_class)
    owned = [indices[:size] for indices in partition.assign(labels, table, rng)]
    if min(map(len, owned)) < size:
      raise ValueError(
        f"samples_per_client: {count} clients of equal size and whole classes have "
        f"{min(map(len, owned))} images, not {size}; more with fewer auxiliary_images"
      )
  auxiliary = dataset.train.take(own) if own.size else None
  return [dataset.train.take(rest[indices]) for indices in owned], auxiliary


def _check_labels(
  config: LeakageConfig, dataset: datasets.Dataset, data: list[Images], auxiliary: Images | None
) -> None:
  """Checks that guesses, and the server, have images of the classes that they need."""
  of_victims = [data[i].labels for i in range(config.victims)] or [np.array([])]
  held = np.unique(np.concatenate(of_victims))
  if missing := set(held) - set(dataset.test.labels):
    raise ValueError(f"dataset: no test image of class {missing.pop():g}")
  classes = range(dataset.num_classes)
  known = set() if auxiliary is None else set(auxiliary.labels)
  if config.labels == "rlu" and (missing := set(classes) - known):
    raise ValueError(
      f"auxiliary_images: labels=rlu needs images of every class, the server has none of "
      f"{missing.pop()}"
    )
