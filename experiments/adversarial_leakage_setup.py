"""The models of adversarial leakage: the target, and others trained on the same data."""

import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tqdm

from experiments import data, saved_config, trained
from experiments.adversarial_leakage_config import AdversarialLeakageConfig
from experiments.options import bad_input
from models import registry
from tff_attacks import keras_state
from tff_attacks.data.datasets import Dataset
from tff_attacks.learning import central_training, local_training
from tff_attacks.simulation.results import Results

_BATCH = 100
_TRAINING = ("seed", "training_steps", "batch_size", "learning_rate", "augment")
"""What a trained model depends on, beside its data."""


class Network(NamedTuple):
  """A model that can be trained.

  Attributes:
    model_fn: Builds it.
    from_logits: Whether its outputs are logits.
  """

  model_fn: keras_state.ModelFn
  from_logits: bool


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    dataset: The models are trained on its training set; its test images are reconstructed.
    networks: By name, the target first.
    mean: float32 `[channels]`, of the training images' pixels. Images are sought, as in the
      published code, as (image - mean) / std.
    std: The same.
  """

  dataset: Dataset
  networks: dict[str, Network]
  mean: np.ndarray
  std: np.ndarray


@bad_input()
def prepare(config: AdversarialLeakageConfig) -> Setup:
  """Loads the data and builds every model once.

  Raises:
    ConfigError: If data or models cannot be had as asked.
  """
  dataset = data.load(config.dataset, config.data_dir, config.test_images, config.image_size)
  if config.control and dataset.num_classes < 3:
    raise ValueError(
      f"control: a wrong label needs 3 classes or more, there are {dataset.num_classes}; "
      "give control=false"
    )
  if config.start_from is not None:
    saved_config.check_start(config, (*data.sources(config), *_TRAINING))
  networks = {}
  for option, name in [("model", config.model), *(("transfer", n) for n in config.transfer)]:
    model_fn, model, contract = registry.global_model(
      name, dataset.image_shape, dataset.num_classes, option
    )
    networks[name] = Network(model_fn, contract.from_logits)
    if name == config.model:
      keras_state.last_layer(model)
    folder = _trained_in(config, name)
    if folder is not None:
      trained.read(model, folder, _file(name))
  pixels = dataset.train.images.reshape([-1, dataset.image_shape[-1]])
  mean, std = pixels.mean(axis=0, dtype=np.float64), pixels.std(axis=0, dtype=np.float64)
  return Setup(dataset, networks, mean.astype(np.float32), std.astype(np.float32))


def train(
  config: AdversarialLeakageConfig, setup: Setup, name: str, results: Results
) -> tf.keras.Model:
  """The trained model of this name: read where it is there already, or else trained and kept."""
  network, file = setup.networks[name], _file(name)
  weights = keras_state.initial_weights(network.model_fn, config.seed)
  model = keras_state.build(network.model_fn, weights)
  done = results.folder / f"{file}.npz"
  folder = done.parent if done.exists() else _trained_in(config, name)
  if folder is not None:
    trained.read(model, folder, file)
    return model
  images, labels = setup.dataset.train
  with tqdm.tqdm(total=config.training_steps, unit="step", desc=f"training {name}") as bar:

    def watch(step, loss):
      bar.set_postfix(loss=f"{loss:.3g}")
      bar.update(step - bar.n)

    central_training.train(
      model, local_training.cross_entropy(network.from_logits), images, labels,
      config.training_steps, config.seed, config.batch_size, config.learning_rate, config.augment,
      str(results.checkpoints / file), watch=watch,
    )  # fmt: skip
  trained.write(results, file, model)
  return model


def classify(model: tf.keras.Model, images: np.ndarray) -> np.ndarray:
  """Classes int `[n]` of images, -1 where the outputs are no numbers."""
  outputs = model.predict(images, _BATCH, verbose=0)
  return np.where(np.isfinite(outputs).all(axis=1), outputs.argmax(axis=1), -1)


def _trained_in(config: AdversarialLeakageConfig, name: str) -> pathlib.Path | None:
  """The folder that `start_from` names, if the model is there, as the target has to be."""
  if config.start_from is None:
    return None
  folder = pathlib.Path(config.start_from)
  there = name == config.model or (folder / f"{_file(name)}.npz").exists()
  return folder if there else None


def _file(name: str) -> str:
  return "model_" + name.replace(":", ".")
