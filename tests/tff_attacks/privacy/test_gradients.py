"""The triad for records and microbatches: plain without privacy, clipped mean, noise."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras

from tests import tiny
from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training
from tff_attacks.privacy import microbatches, noise, records

LOSSES = local_training.per_example_cross_entropy(from_logits=True)
SEED = tf.constant([3, 4])
NO_CLIP = 1e6


def network(dropout):
  """Every kind of layer with a fast norm, one of them in a model of its own."""
  layers = tf.keras.layers
  inner = tf.keras.Sequential(
    [layers.Input([3, 3, 40]), layers.Conv2D(32, 3, activation="tanh"), layers.Flatten()]
  )
  inputs = layers.Input(tiny.IMAGE_SHAPE)
  hidden = layers.Conv2D(40, 3, strides=2, use_bias=False)(inputs)
  hidden = layers.Dropout(dropout)(layers.LeakyReLU()(hidden))
  hidden = layers.Dropout(dropout)(inner(hidden))
  hidden = layers.Dropout(0.5)(hidden, training=False)
  hidden = layers.Dense(8, activation="relu")(hidden)
  return tf.keras.Model(inputs, layers.Dense(tiny.NUM_CLASSES)(hidden))


def model_with(dropout=0.5, seed=0):
  weights = keras_state.initial_weights(lambda: network(dropout), seed)
  return keras_state.build(lambda: network(dropout), weights)


def private(mode, clip=NO_CLIP, noise=0.0, size=3):
  """A gradient function, and how many records a clipped gradient is the mean of."""
  if mode == "records":
    return tf.function(records.gradient(LOSSES, clip, noise)), 1
  return tf.function(microbatches.gradient(LOSSES, clip, noise, size)), size


def clipped_mean(model, batch, clip, size):
  """The reference: one gradient at a time, in NumPy, of one forward pass."""
  with tf.GradientTape(persistent=True) as tape:
    outputs = keras_state.call(model, batch.images, keras_state.fold_in(SEED, 0))
    losses = LOSSES(batch.labels, outputs)
    groups = [tf.reduce_mean(losses[i : i + size]) for i in range(0, len(batch.labels), size)]
  total = [np.zeros(v.shape) for v in model.trainable_variables]
  for loss in groups:
    gradient = [g.numpy().astype(float) for g in tape.gradient(loss, model.trainable_variables)]
    norm = np.sqrt(sum((g**2).sum() for g in gradient))
    total = [t + g * min(1, clip / norm) for t, g in zip(total, gradient, strict=True)]
  return [t / len(groups) for t in total]


def assert_close(first, second):
  """Within 1e-5 of the largest number of each tensor."""
  for a, b in zip(first, second, strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_equal_tensors_get_different_noise():
  first, second = noise.add_noise([tf.zeros([9])] * 2, 1.0, SEED)
  assert (first.numpy() != second.numpy()).all()


@pytest.mark.parametrize("mode", ["records", "microbatches"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
class TestTriad:
  def test_no_noise_and_no_clipping_is_plain_training(self, mode, dropout):
    batch, model = tiny.images(1, 12), model_with(dropout)
    gradient, _ = private(mode)
    loss, found = gradient(model, batch, SEED)
    plain = local_training.plain_gradient(tiny.LOSS_FN)
    expected_loss, expected = plain(model, batch, keras_state.fold_in(SEED, 0))
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    assert_close(found, expected)

  @pytest.mark.parametrize("count", [12, 10])  # 10 leaves a microbatch of one record.
  def test_the_clipped_mean_is_that_of_a_loop(self, mode, dropout, count):
    batch, model, clip = tiny.images(2, count), model_with(dropout), 0.7
    gradient, size = private(mode, clip)
    expected = clipped_mean(model, batch, clip, size)
    unclipped = clipped_mean(model, batch, NO_CLIP, size)
    assert np.abs(expected[-1] - unclipped[-1]).max() > 1e-3  # Something is clipped.
    assert_close(gradient(model, batch, SEED)[1], expected)

  def test_noise_has_its_standard_deviation(self, mode, dropout):
    batch, model = tiny.images(3, 12), model_with(dropout)
    clip, multiplier = 0.5, 1.3
    silent, size = private(mode, clip)
    noised, _ = private(mode, clip, multiplier)
    difference = [
      (a - b).numpy().ravel()
      for a, b in zip(noised(model, batch, SEED)[1], silent(model, batch, SEED)[1], strict=True)
    ]
    sample = np.concatenate(difference)
    assert sample.size > 10_000
    assert sample.std() == pytest.approx(clip * multiplier / (12 / size), rel=0.02)
    assert abs(sample.mean()) < 4 * sample.std() / np.sqrt(sample.size)

  def test_noise_and_dropout_come_from_the_seed(self, mode, dropout):
    batch, model = tiny.images(4, 6), model_with(dropout)
    gradient, _ = private(mode, 1.0, 1.0)
    (_, first), (_, again) = gradient(model, batch, SEED), gradient(model, batch, SEED)
    _, other = gradient(model, batch, SEED + 1)
    for a, b, c in zip(first, again, other, strict=True):
      np.testing.assert_array_equal(a, b)
      assert np.abs(a - c).max() > 0.01


def test_no_record_exceeds_the_clipping_norm():
  """With Dropout: the norm must be that of the gradient with the same mask."""
  model, clip = model_with(dropout=0.5), 0.3
  gradient, _ = private("records", clip)
  reached = 0
  for i in range(30):
    record = tiny.images(i, 1)
    norm = tf.linalg.global_norm(gradient(model, record, tf.constant([i, 7]))[1])
    assert norm <= clip * (1 + 1e-5)
    reached += int(norm > clip * (1 - 1e-5))
  assert reached > 10


def test_microbatches_of_one_record_are_records():
  batch, model = tiny.images(5, 7), model_with()
  first = private("microbatches", 0.4, 1.5, size=1)[0](model, batch, SEED)[1]
  second = private("records", 0.4, 1.5)[0](model, batch, SEED)[1]
  assert_close(first, second)


@pytest.mark.parametrize(
  ("optimizer", "tff_optimizer"),
  [
    (dp_optimizer_keras.DPKerasSGDOptimizer, tff.learning.optimizers.build_sgdm(0.1)),
    (dp_optimizer_keras.DPKerasAdamOptimizer, tff.learning.optimizers.build_adam(0.1)),
  ],
)
def test_training_in_microbatches_is_tf_privacys(optimizer, tff_optimizer):
  """Without noise, which TF Privacy does not seed, and Dropout: three steps."""
  data, model = tiny.images(6, 12), model_with(dropout=0.0)
  weights = keras_state.read(model)
  training = local_training.local_training(
    tff_optimizer, microbatches.gradient(LOSSES, 0.5, 0.0, 2), batch_size=4, shuffle=False
  )
  trained = training.train(model, weights, training.initialize(weights), data, SEED)
  theirs = optimizer(0.5, 0.0, num_microbatches=2, learning_rate=0.1)
  keras_state.assign(model, weights)
  for i in range(0, 12, 4):
    batch = Images(data.images[i : i + 4], data.labels[i : i + 4])
    theirs.minimize(
      lambda b=batch: LOSSES(b.labels, model(b.images)), model.trainable_variables,
      tape=tf.GradientTape(),
    )  # fmt: skip
  for update, before, after in zip(
    trained.update.trainable, weights.trainable, keras_state.read(model).trainable, strict=True
  ):
    np.testing.assert_allclose(update, after - before, atol=2e-6)
