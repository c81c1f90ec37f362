"""A federation small enough for tests: 8x8 images, three classes."""

import functools

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import crpa
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training

IMAGE_SHAPE = (8, 8, 1)
NUM_CLASSES = 3
NOISE_SIZE = 4
BATCH_SIZE = 4
LOSS_FN = local_training.cross_entropy(from_logits=True)


def global_model(dropout: float = 0.0, batch_norm: bool = False) -> tf.keras.Model:
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input(IMAGE_SHAPE),
      layers.Conv2D(4, 3, strides=2, padding="same"),
      *([layers.BatchNormalization()] if batch_norm else []),
      layers.LeakyReLU(),
      layers.Dropout(dropout),
      layers.Flatten(),
      layers.Dense(NUM_CLASSES + 1),
    ]
  )


def generator() -> tf.keras.Model:
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input([NOISE_SIZE]),
      layers.Dense(64, use_bias=False),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Reshape([4, 4, 4]),
      layers.Conv2DTranspose(1, 4, strides=2, padding="same", use_bias=False, activation="tanh"),
    ]
  )


def images(seed: int, count: int, label: int | None = None) -> Images:
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, NUM_CLASSES, count) if label is None else np.full(count, label)
  pixels = rng.uniform(-1, 1, [count, *IMAGE_SHAPE]) * 0.3 + labels[:, None, None, None] - 1
  return Images(np.clip(pixels, -1, 1).astype(np.float32), labels.astype(np.int32))


def training(
  optimizer=None, batch_size: int = BATCH_SIZE, epochs: int = 1, shuffle: bool = True
) -> local_training.LocalTraining:
  return local_training.local_training(
    optimizer or tff.learning.optimizers.build_adam(0.01),
    local_training.plain_gradient(LOSS_FN),
    batch_size,
    epochs,
    shuffle,
  )


def parameters(**changes) -> crpa.Parameters:
  defaults = {"reconstruct": 1, "label": 2, "poison_images": 5, "steps": 2}
  return crpa.Parameters(**defaults | changes)


def attack(optimizer=None, **changes):
  """Attacks that differ in their parameters share their functions."""
  return _attack(optimizer)._replace(parameters=parameters(**changes))


@functools.cache
def _attack(optimizer):
  return crpa.crpa(
    parameters(),
    generator,
    NOISE_SIZE,
    NUM_CLASSES,
    optimizer or tff.learning.optimizers.build_sgdm(0.1),
    LOSS_FN,
    BATCH_SIZE,
  )


def poison(
  attack,
  data,
  round_number=1,
  accuracy=0.5,
  state=None,
  model_fn=global_model,
  weights=None,
  seed=3,
):
  """One call of poison_data outside of TFF."""
  if weights is None:
    weights = keras_state.initial_weights(model_fn, 0)
  context = attack_lib.Context(
    tf.nest.map_structure(tf.convert_to_tensor, weights),
    tf.constant(round_number),
    tf.constant(accuracy, tf.float32),
  )
  workspace = attack.build(keras_state.build(model_fn))
  state = attack.initialize(attack.parameters, 5) if state is None else state
  data = Images(*map(tf.convert_to_tensor, data))
  return attack.poison_data(workspace, state, context, data, tf.constant([seed, 4]))
