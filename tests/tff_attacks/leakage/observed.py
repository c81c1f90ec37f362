"""What tests of server-side attacks share: images, and the gradient of a batch of them."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from sklearn import datasets as sk_datasets

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import leakage
from tff_attacks.learning import local_training

GRADIENT = local_training.plain_gradient(local_training.cross_entropy(from_logits=True))
CLASSES = 10


def pictures(seed, count, size):
  """Crops of photographs, enlarged or shrunk to the size."""
  rng = np.random.default_rng(seed)
  photographs = sk_datasets.load_sample_images().images
  crops = []
  for _ in range(count):
    photograph = photographs[rng.integers(2)]
    top, left = rng.integers(0, 427 - 160), rng.integers(0, 640 - 160)
    crops.append(photograph[top : top + 160, left : left + 160])
  pixels = tf.image.resize(np.stack(crops), [size, size], method="area").numpy()
  return Images((pixels / 127.5 - 1).astype(np.float32), np.arange(count, dtype=np.int32) % CLASSES)


def reference_gradient(model_fn, observation, images, soft_labels):
  """The gradient of the mean cross-entropy, as Keras has it: one array a trainable weight."""
  model = keras_state.build(model_fn, observation.weights)
  with tf.GradientTape() as tape:
    losses = tf.nn.softmax_cross_entropy_with_logits(soft_labels, model(images))
    loss = tf.reduce_mean(losses)
  return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]


def total_variation(images):
  return sum(np.abs(np.diff(images, axis=axis)).sum() for axis in (1, 2)) / images.size


def observe(model_fn, data, seed):
  weights = keras_state.initial_weights(model_fn, seed)
  return leakage.observe_gradient(keras_state.build(model_fn, weights), GRADIENT, data)


def observe_training(model_fn, data, seed, batch_size, epochs, learning_rate=0.01):
  """What a client sends after local training."""
  weights = keras_state.initial_weights(model_fn, seed)
  training = local_training.local_training(
    tff.learning.optimizers.build_sgdm(learning_rate), GRADIENT, batch_size, epochs
  )
  model = keras_state.build(model_fn)
  seed = tf.constant([seed, 0])
  sent = training.train(model, weights, training.initialize(weights), data, seed)
  update = ModelWeights(*tf.nest.map_structure(np.asarray, tuple(sent.update)))
  count = len(data.labels)
  return leakage.Observation(weights, update, count, batch_size, epochs, learning_rate)
