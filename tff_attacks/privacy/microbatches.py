"""DP-SGD as the CRPA study has it: TF Privacy's optimizers, and their microbatches.

A batch is split into microbatches, and the gradient of each one's *mean* loss is clipped.
With one record in each this is record-level DP-SGD, slowly; with one microbatch, as in the
study, the whole batch is a single record: its noise is not divided by the batch size, and
a record may change the sum by twice the clipping norm (`accounting`).
"""

import tensorflow as tf
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training
from tff_attacks.privacy import noise


def gradient(
  loss_fn: local_training.PerExampleLossFn,
  l2_norm_clip: float,
  noise_multiplier: float,
  microbatch_size: int,
) -> local_training.GradientFn:
  """The gradients of `DPKerasSGDOptimizer` and `DPKerasAdamOptimizer`.

  Args:
    loss_fn: Loss of each record.
    l2_norm_clip: Largest norm of a microbatch's gradient.
    noise_multiplier: Standard deviation of the noise of the sum, over `l2_norm_clip`.
    microbatch_size: Records in a microbatch; the last of a batch may be smaller.

  Returns:
    A `local_training.GradientFn`.
  """

  def compute(
    model: tf.keras.Model, batch: Images, seed: tf.Tensor
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    query = noise.SeededSumQuery(l2_norm_clip, l2_norm_clip * noise_multiplier)
    query.seed = keras_state.fold_in(seed, 1)
    optimizer = dp_optimizer_keras.GenericDPSGDOptimizer(query)
    with tf.GradientTape(persistent=True) as tape:
      outputs = keras_state.call(model, batch.images, keras_state.fold_in(seed, 0))
      losses = loss_fn(batch.labels, outputs)
      microbatches = tf.range(tf.size(batch.labels)) // microbatch_size
      microbatch_losses = tf.math.segment_mean(losses, microbatches)
    pairs = optimizer._compute_gradients(microbatch_losses, model.trainable_variables, tape=tape)
    return tf.reduce_mean(losses), [g for g, _ in pairs]

  return compute
