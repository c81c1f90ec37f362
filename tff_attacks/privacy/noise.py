"""Gaussian noise that comes from a seed: TF Privacy's own cannot be repeated."""

from typing import Any

import dp_accounting
import tensorflow as tf
from tensorflow_privacy.privacy.dp_query import gaussian_query

from tff_attacks import keras_state


def add_noise(tensors: Any, stddev: float | tf.Tensor, seed: tf.Tensor) -> Any:
  """Adds independent Gaussian noise to every number.

  Args:
    tensors: A structure of float tensors.
    stddev: Standard deviation of the noise.
    seed: int32 `[2]`; equal seeds give equal noise.

  Returns:
    The same structure.
  """
  flat = [
    t + tf.random.stateless_normal(tf.shape(t), keras_state.fold_in(seed, i), stddev=stddev)
    for i, t in enumerate(tf.nest.flatten(tensors))
  ]
  return tf.nest.pack_sequence_as(tensors, flat)


class SeededSumQuery(gaussian_query.GaussianSumQuery):
  """TF Privacy's clipped sum with Gaussian noise, which is drawn from a seed.

  Attributes:
    seed: int32 `[2]`, to be set before each `get_noised_result`.
  """

  seed: tf.Tensor

  def get_noised_result(self, sample_state, global_state):
    """Implements `tensorflow_privacy.DPQuery.get_noised_result`."""
    noised = add_noise(sample_state, global_state.stddev, self.seed)
    multiplier = global_state.stddev / global_state.l2_norm_clip
    return noised, global_state, dp_accounting.GaussianDpEvent(multiplier)
