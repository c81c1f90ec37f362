import functools
import itertools

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from models import crpa as crpa_models
from tests import tiny
from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training

SEED = tf.constant([0, 0])


built = functools.cache(keras_state.build)


def tensors(weights):
  return tf.nest.map_structure(tf.convert_to_tensor, weights)


def run(training, data, model_fn=tiny.global_model, weights=None, state=None, seed=SEED):
  weights = tensors(weights or keras_state.initial_weights(model_fn, 0))
  state = training.initialize(weights) if state is None else state
  return training.train(built(model_fn), weights, state, Images(*data), seed)


def test_an_epoch_equals_keras_fit():
  """Parity (a): one local epoch of the CRPA model, dropout off, order fixed, last batch kept."""

  def without_dropout():
    config = crpa_models.discriminator().get_config()
    for layer in config["layers"]:
      if layer["class_name"] == "Dropout":
        layer["config"]["rate"] = 0.0
    return tf.keras.Sequential.from_config(config)

  rng = np.random.default_rng(0)
  data = Images(
    rng.uniform(-1, 1, [23, 28, 28, 1]).astype(np.float32),
    rng.integers(0, 11, 23).astype(np.int32),
  )
  training = tiny.training(tff.learning.optimizers.build_adam(1e-3), batch_size=5, shuffle=False)
  weights = keras_state.initial_weights(without_dropout, 1)
  output = run(training, data, without_dropout, weights)

  reference = without_dropout()
  keras_state.assign(reference, weights)
  reference.compile(tf.keras.optimizers.Adam(1e-3), tiny.LOSS_FN)
  history = reference.fit(*data, batch_size=5, shuffle=False, verbose=0)
  for before, update, after in zip(
    weights.trainable, output.update.trainable, reference.trainable_variables, strict=True
  ):
    assert np.abs(update).max() > 1e-4
    np.testing.assert_allclose(before + update, after, atol=1e-5)
  np.testing.assert_allclose(output.loss, history.history["loss"][0], rtol=1e-5)


def test_optimizer_state_persists():
  training, data = tiny.training(), tiny.images(0, 10)
  once = run(training, data)
  assert once.optimizer["step"] == 3
  assert run(training, data, state=once.optimizer).optimizer["step"] == 6


def test_epochs_and_shuffling_follow_the_seed():
  data = tiny.images(0, 10)
  training = tiny.training(epochs=2)
  first, again, other = (run(training, data, seed=tf.constant([s, 0])) for s in (1, 1, 2))
  np.testing.assert_array_equal(first.update.trainable[0], again.update.trainable[0])
  assert np.abs(first.update.trainable[0] - other.update.trainable[0]).max() > 1e-6
  assert first.optimizer["step"] == 6


def test_each_epoch_has_an_order_of_its_own_and_counts_for_the_loss():
  epochs = []

  def gradient(model, batch, seed):
    def note(labels):
      epochs.append(labels.numpy().tolist())
      return float(len(epochs))

    loss = tf.ensure_shape(tf.py_function(note, [batch.labels], tf.float32), [])
    return loss, [tf.zeros_like(variable) for variable in model.trainable_variables]

  sgd = tff.learning.optimizers.build_sgdm(0.1)
  training = local_training.local_training(sgd, gradient, batch_size=8, epochs=2)
  output = run(training, tiny.images(0, 8)._replace(labels=np.arange(8)))
  first, second = epochs
  assert sorted(first) == sorted(second) == list(range(8))
  assert first != second
  assert output.loss == (1 + 2) / 2


def test_shuffling_loses_no_sample():
  """With SGD and one batch, order cannot matter."""
  data = tiny.images(0, 10)
  sgd = tff.learning.optimizers.build_sgdm(0.1)
  shuffled, ordered = (
    run(tiny.training(sgd, batch_size=10, shuffle=shuffle), data) for shuffle in (True, False)
  )
  np.testing.assert_allclose(shuffled.update.trainable[0], ordered.update.trainable[0], atol=1e-6)


def test_a_round_may_use_a_few_samples_drawn_anew():
  """With SGD and one batch, the update tells which samples were used."""
  data, sgd = tiny.images(0, 5), tff.learning.optimizers.build_sgdm(0.1)
  gradient = local_training.plain_gradient(tiny.LOSS_FN)
  training = local_training.local_training(sgd, gradient, 5, samples_per_round=2)
  everything = local_training.local_training(sgd, gradient, 5)
  updates = []
  for seed in (1, 3):
    found = run(training, data, seed=tf.constant([seed, 0]))
    matches = [
      chosen
      for chosen in itertools.combinations(range(5), 2)
      if np.allclose(
        run(everything, data.take(list(chosen))).update.trainable[0],
        found.update.trainable[0],
        atol=1e-6,
      )
    ]
    assert len(matches) == 1
    updates.append(matches[0])
  assert updates[0] != updates[1]


def test_the_optimizer_may_start_anew_in_each_round():
  gradient = local_training.plain_gradient(tiny.LOSS_FN)
  adam, data = tff.learning.optimizers.build_adam(0.01), tiny.images(0, 8)
  training = local_training.local_training(adam, gradient, 4, keep_optimizer_state=False)
  first = run(training, data)
  again = run(training, data, state=first.optimizer)
  assert again.optimizer == first.optimizer == ()
  np.testing.assert_array_equal(first.update.trainable[0], again.update.trainable[0])


def test_no_data_no_update():
  output = run(tiny.training(), tiny.images(0, 0))
  assert all(not np.any(u) for u in output.update.trainable)
  assert output.loss == 0


def test_batch_norm_statistics_are_part_of_the_update():
  output = run(tiny.training(), tiny.images(0, 10), lambda: tiny.global_model(batch_norm=True))
  assert all(np.any(u) for u in output.update.non_trainable)
