"""Turns the configuration of a semi-targeted attack into a federation."""

import functools
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from experiments import data as data_lib
from experiments import semi_targeted_config
from experiments.options import ConfigError
from experiments.semi_targeted_config import SemiTargetedConfig
from models import registry
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import distance_aware, label_flipping, scaling
from tff_attacks.data import datasets, partition
from tff_attacks.learning import aggregation, local_training, process
from tff_attacks.simulation import evaluation, loop

CONVERGED = "converged.npz"
"""In a results folder: the global model's weights when the attack began."""


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: Training and test set.
    data: Each client's images.
    adversaries: The compromised clients.
    model_fn: Builds the global model.
    parameters: The attack's.
    federation: The TFF process and the functions that make its states.
    evaluate: Weights -> loss and confusion matrix on the test set.
    sample: Round -> the clients that take part.
    weights: The converged model of another run, or None.
  """

  dataset: datasets.Dataset
  data: datasets.ClientImages
  adversaries: list[int]
  model_fn: keras_state.ModelFn
  parameters: Any
  federation: process.Federation
  evaluate: Any
  sample: loop.Sample
  weights: keras_state.ModelWeights | None


def prepare(config: SemiTargetedConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data, model or aggregator cannot be had as asked.
  """
  try:
    return _prepare(config)
  except (ValueError, FileNotFoundError) as error:
    raise ConfigError(str(error)) from error


def _prepare(config: SemiTargetedConfig) -> Setup:
  dataset = data_lib.load(config.dataset, config.data_dir, config.test_images)
  rng = np.random.default_rng(config.seed)
  owned = partition.random_samples(
    rng, dataset.train.labels.size, config.num_clients, config.samples_per_client
  )
  data = datasets.ClientImages(dataset.train, owned)
  count = semi_targeted_config.num_adversaries(config)
  adversaries = sorted(rng.permutation(config.num_clients)[:count].tolist())
  for source in config.sources:
    if source not in dataset.test.labels:
      raise ValueError(f"test_images: no test image of class {source}")
    if count and not any(source in data.labels(client) for client in adversaries):
      raise ValueError(f"sources: no compromised client holds class {source}")
  model_fn, contract = _model(config, dataset)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  labels = np.arange(dataset.num_classes, dtype=np.int32)
  sources = np.isin(labels, config.sources)
  parameters = label_flipping.Parameters(
    sources, np.where(sources, np.int32(config.target), labels), config.injection_rate
  )
  # Until the driver has evaluated it, the accuracy is 0.
  parameters = parameters._replace(start_accuracy=-1.0)
  attack = _attack(config, parameters, contract.from_logits)
  training = local_training.local_training(
    local_training.build_optimizer("adam", config.learning_rate),
    local_training.plain_gradient(loss_fn),
    config.batch_size,
    config.local_epochs,
    keep_optimizer_state=False,
  )
  aggregator = aggregation.build_aggregator(
    config.aggregator,
    aggregation.Assumptions(
      config.clients_per_round, config.byzantine, config.norm_bound, config.noise_multiplier
    ),
  )
  return Setup(
    dataset,
    data,
    adversaries,
    model_fn,
    parameters,
    process.build_federation(model_fn, training, attack, aggregator),
    evaluation.build_evaluation(model_fn, loss_fn, dataset.test),
    _sample(config),
    _converged(config, model_fn),
  )


def _model(config: SemiTargetedConfig, dataset: datasets.Dataset):
  function = registry.find("model", config.model, registry.GLOBAL_MODELS)
  model_fn = functools.partial(function, dataset.image_shape, dataset.num_classes)
  model = registry.build("model", config.model, model_fn)
  contract = registry.check_global_model(model, dataset.image_shape, dataset.num_classes)
  if config.attack.startswith("ada"):
    distance_aware.build(model)
  return model_fn, contract


def _attack(config: SemiTargetedConfig, parameters, from_logits: bool) -> attack_lib.ClientAttack:
  flipping = functools.partial(label_flipping.label_flipping, parameters)
  boost = scaling.model_replacement(config.boost or config.clients_per_round)
  ada = functools.partial(distance_aware.distance_aware, parameters, from_logits=from_logits)
  attacks = {
    "none": attack_lib.honest,
    "label_flipping": flipping,
    "train_and_scale": functools.partial(flipping, poison_update=scaling.train_and_scale),
    "model_replacement": functools.partial(flipping, poison_update=boost),
    "ada_full": functools.partial(ada, full_knowledge=True),
    "ada_partial": functools.partial(ada, full_knowledge=False),
  }
  return attacks[config.attack]()


def _sample(config: SemiTargetedConfig) -> loop.Sample:
  draw = tff.simulation.build_uniform_sampling_fn(
    range(config.num_clients), random_seed=config.seed + 1
  )
  return lambda round_number: [int(i) for i in draw(round_number, config.clients_per_round)]


def _converged(config: SemiTargetedConfig, model_fn) -> keras_state.ModelWeights | None:
  """The converged model of another run, if there is one to start from.

  Raises:
    ValueError: If it is not there, or of another shape.
  """
  if config.start_from is None:
    return None
  path = pathlib.Path(config.start_from) / CONVERGED
  try:
    weights = read_weights(path)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise ValueError(f"start_from: {path} cannot be read: {error}") from error
  expected = keras_state.initial_weights(model_fn, 0)
  shapes = [[w.shape for w in tf.nest.flatten(one)] for one in (weights, expected)]
  if shapes[0] != shapes[1]:
    raise ValueError(f"start_from: the weights in {path} are not those of model={config.model}")
  return weights


def write_weights(path: pathlib.Path, weights: keras_state.ModelWeights) -> None:
  """Writes weights to a file, complete or not at all."""
  temporary = path.with_suffix(".tmp.npz")
  arrays = {
    f"{kind}{i:04d}": np.asarray(array)
    for kind, part in weights._asdict().items()
    for i, array in enumerate(part)
  }
  np.savez_compressed(temporary, **arrays)
  temporary.replace(path)


def read_weights(path: pathlib.Path) -> keras_state.ModelWeights:
  """Reads what `write_weights` has written."""
  with np.load(path) as arrays:
    return keras_state.ModelWeights(
      *([arrays[n] for n in sorted(arrays) if n[:-4] == kind] for kind in keras_state.PARTS)
    )
