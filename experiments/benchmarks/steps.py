"""One step of DP-SGD in several implementations, all on the same batch and model."""

import functools
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import tensorflow as tf
from tensorflow_privacy.privacy.fast_gradient_clipping import clip_grads
from tensorflow_privacy.privacy.optimizers import (
  dp_optimizer_keras,
  dp_optimizer_keras_vectorized,
)

from models import crpa
from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training
from tff_attacks.privacy import noise, records
from tff_attacks.simulation import results

_CLIP, _NOISE, _LEARNING_RATE = 1.5, 0.3, 0.25
_LOSS = local_training.cross_entropy(from_logits=True)
_LOSSES = local_training.per_example_cross_entropy(from_logits=True)

Step = Callable[[], Any]


def build(name: str, batch_size: int, num_microbatches: int, seed: int) -> Step:
  """Returns a function that makes one step with the CRPA study's global model.

  Args:
    name: A key of `GRADIENTS`.
    batch_size: Images of the batch.
    num_microbatches: Of `optimizer`.
    seed: Of batch, weights, Dropout and noise.
  """
  rng = np.random.default_rng(seed)
  batch = Images(
    tf.constant(rng.uniform(-1, 1, [batch_size, 28, 28, 1]), tf.float32),
    tf.constant(rng.integers(0, 10, batch_size), tf.int32),
  )
  model = keras_state.build(
    crpa.discriminator, keras_state.initial_weights(crpa.discriminator, seed)
  )
  model.compile(loss=_LOSS)  # TF Privacy's functions ask the model for its loss.
  gradient = GRADIENTS[name](num_microbatches)

  @tf.function
  def step(batch, seed):
    _, gradients = gradient(model, batch, seed)
    for variable, value in zip(model.trainable_variables, gradients, strict=True):
      variable.assign_sub(_LEARNING_RATE * value)

  return functools.partial(step, batch, tf.constant([seed, 0]))


def peak_memory(name: str, batch_size: int, num_microbatches: int, seed: int) -> float:
  """Memory that two steps add to a process of their own, in MiB."""
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    return pool.apply(_peak_memory, (name, batch_size, num_microbatches, seed))


def _peak_memory(name: str, batch_size: int, num_microbatches: int, seed: int) -> float:
  step = build(name, batch_size, num_microbatches, seed)
  before = psutil.Process().memory_info().rss / 2**20
  for _ in range(2):
    step()
  return results.peak_memory_mb(os.getpid()) - before


def _noised(sums, seed, count):
  noised = noise.add_noise(sums, _CLIP * _NOISE, seed)
  return [g / tf.cast(count, tf.float32) for g in noised]


def _vectorized_map(model, batch, seed):
  """Every record by itself, with its own Dropout, vectorized by TensorFlow."""

  def clipped(record):
    image, label, index = record
    with tf.GradientTape() as tape:
      outputs = keras_state.call(model, image[tf.newaxis], keras_state.fold_in(seed, index))
      loss = _LOSSES(label[tf.newaxis], outputs)[0]
    return loss, tf.clip_by_global_norm(tape.gradient(loss, model.trainable_variables), _CLIP)[0]

  losses, gradients = tf.vectorized_map(clipped, (*batch, tf.range(tf.size(batch.labels))))
  sums = [tf.reduce_sum(g, axis=0) for g in gradients]
  return tf.reduce_mean(losses), _noised(sums, seed, tf.size(batch.labels))


def _optimizer(optimizer_fn, num_microbatches, model, batch, seed):
  """An optimizer of TF Privacy, as it is used with Keras."""
  optimizer = optimizer_fn(_CLIP, _NOISE, num_microbatches)
  with tf.GradientTape(persistent=True) as tape:
    losses = _LOSSES(batch.labels, keras_state.call(model, batch.images, seed))
  pairs = optimizer._compute_gradients(losses, model.trainable_variables, tape=tape)
  return tf.reduce_mean(losses), [g for g, _ in pairs]


def _tf_privacy_ghost(model, batch, seed):
  """TF Privacy's own use of fast gradient norms, with our layers: two forward passes."""
  keras_state.seed_layers(model, seed)
  clipped, _, loss = clip_grads.compute_clipped_gradients_and_outputs(
    model, _CLIP, records.registry(), batch.images, batch.labels, clipping_loss=_LOSS
  )
  # The loss is a mean already.
  return loss, noise.add_noise(clipped, _CLIP * _NOISE / batch.labels.shape[0], seed)


GRADIENTS = {
  "plain": lambda _: local_training.plain_gradient(_LOSS),
  "records": lambda _: records.gradient(_LOSSES, _CLIP, _NOISE),
  "tf_privacy_ghost": lambda _: tf.autograph.experimental.do_not_convert(_tf_privacy_ghost),
  "vectorized_map": lambda _: _vectorized_map,
  "vectorized_optimizer": lambda _: functools.partial(
    _optimizer, dp_optimizer_keras_vectorized.VectorizedDPKerasSGDOptimizer, None
  ),
  "optimizer": lambda num_microbatches: functools.partial(
    _optimizer, dp_optimizer_keras.DPKerasSGDOptimizer, num_microbatches
  ),
}
"""Functions from the number of microbatches to a `local_training.GradientFn`."""
