import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from models import crpa as models
from tests import tiny
from tests.tiny import poison
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import crpa
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, local_training, process


def test_gan_step_and_poisoning_equal_plain_keras():
  """Parity (a): the published networks, one pass of two GAN steps, written in plain Keras."""
  batch, noise_size, num_classes = 4, models.NOISE_SIZE, 10
  rng = np.random.default_rng(0)
  real = Images(rng.uniform(-1, 1, [8, 28, 28, 1]).astype(np.float32), np.zeros(8, np.int32))
  attack = crpa.crpa(
    crpa.Parameters(4, 9, 6, generator_learning_rate=0.05, discriminator_learning_rate=0.01),
    models.generator,
    noise_size,
    num_classes,
    tff.learning.optimizers.build_sgdm(1.0),
    tiny.LOSS_FN,
    batch,
  )
  state, data = poison(attack, real, model_fn=models.discriminator)

  start = attack.initialize(attack.parameters, 5)
  generator, discriminator = models.generator(), models.discriminator()
  keras_state.assign(generator, start.generator)
  keras_state.assign(discriminator, keras_state.initial_weights(models.discriminator, 0))
  cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  generator_optimizer = tf.keras.optimizers.SGD(0.05)
  discriminator_optimizer = tf.keras.optimizers.SGD(0.01)
  for step in range(2):
    noise = tf.random.stateless_normal(
      [batch, noise_size], tf.random.experimental.stateless_fold_in([3, 4], step)
    )
    part = slice(step * batch, (step + 1) * batch)
    with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
      fake = discriminator(generator(noise, training=True), training=False)
      generator_loss = cross_entropy(np.full(batch, 4), fake)
      discriminator_loss = cross_entropy(
        real.labels[part], discriminator(real.images[part], training=False)
      ) + cross_entropy(np.full(batch, 10), fake)
    generator_gradient = generator_tape.gradient(generator_loss, generator.trainable_variables)
    discriminator_gradient = discriminator_tape.gradient(
      discriminator_loss, discriminator.trainable_variables
    )
    generator_optimizer.apply_gradients(
      zip(generator_gradient, generator.trainable_variables, strict=True)
    )
    discriminator_optimizer.apply_gradients(
      zip(discriminator_gradient, discriminator.trainable_variables, strict=True)
    )
  expected = generator(tf.random.stateless_normal([6, noise_size], start.seed), training=False)

  tf.nest.map_structure(
    lambda ours, keras: np.testing.assert_allclose(ours, keras, atol=1e-5),
    state.generator,
    keras_state.read(generator),
  )
  moved = np.abs(state.generator.trainable[0] - start.generator.trainable[0]).max()
  assert moved > 1e-4
  np.testing.assert_allclose(state.generator_loss, generator_loss, rtol=1e-5)
  np.testing.assert_array_equal(data.images[:8], real.images)
  np.testing.assert_allclose(data.images[8:], expected, atol=1e-5)
  assert data.labels.numpy().tolist() == [0] * 8 + [9] * 6


@pytest.mark.parametrize(
  ("round_number", "accuracy", "changes", "starts"),
  [
    (0, 0.0, {}, True),
    (0, 0.0, {"start_accuracy": 0.0}, False),  # As in the original: never in the first round.
    (1, 0.1, {"start_accuracy": 0.0}, True),
    (1, 0.1, {"start_round": 2}, False),
    (2, 0.1, {"start_round": 2}, True),
    (5, 0.5, {"start_accuracy": 0.5}, False),
    (5, 0.51, {"start_accuracy": 0.5}, True),
  ],
)
def test_when_the_attack_starts(round_number, accuracy, changes, starts):
  state, data = poison(tiny.attack(**changes), tiny.images(0, 8), round_number, accuracy)
  assert bool(state.started) == starts
  assert data.labels.shape[0] == 8 + 5 * starts


def test_once_started_it_goes_on():
  attack, data = tiny.attack(start_accuracy=0.5), tiny.images(0, 8)
  state, _ = poison(attack, data, accuracy=0.6)
  state, poisoned = poison(attack, data, accuracy=0.1, state=state)
  assert poisoned.labels.shape[0] == 13


def test_fresh_images_replace_those_of_the_last_round():
  attack, data = tiny.attack(), tiny.images(0, 8)
  state, first = poison(attack, data)
  _, second = poison(attack, data, state=state)
  assert second.labels.shape == first.labels.shape
  assert np.abs(first.images[8:] - second.images[8:]).max() > 1e-4


@pytest.mark.parametrize(("label", "expected"), [(2, {2}), (3, {3}), (-1, {0, 2})])
def test_labels_of_generated_images(label, expected):
  _, data = poison(tiny.attack(label=label, poison_images=40), tiny.images(0, 8))
  assert set(data.labels[8:].numpy().tolist()) == expected


def test_random_labels_are_fixed():
  attack, data = tiny.attack(label=crpa.RANDOM_LABELS), tiny.images(0, 8)
  state, first = poison(attack, data)
  _, second = poison(attack, data, state=state)
  np.testing.assert_array_equal(first.labels, second.labels)


def test_steps_default_to_one_pass():
  """A step moves BatchNorm's statistics by 1%: count the steps by their decay."""

  def passes(steps, images):
    state, _ = poison(tiny.attack(steps=steps), tiny.images(0, images))
    variance = state.generator.non_trainable[1].numpy()
    return variance

  for images, steps in ((9, 2), (11, 3)):  # Of 4 images each, rounded.
    np.testing.assert_allclose(passes(0, images), passes(steps, images), atol=1e-6)
  assert np.abs(passes(3, 11) - passes(2, 11)).max() > 1e-5


def test_a_free_rider_attacks_without_data():
  state, data = poison(tiny.attack(), tiny.images(0, 0))
  assert data.labels.numpy().tolist() == [2] * 5
  assert np.isfinite(data.images).all()
  assert all(np.isfinite(w).all() for w in state.generator.trainable)


def test_a_model_without_the_additional_class():
  def without():
    return tf.keras.Sequential(
      [
        tf.keras.layers.Input(tiny.IMAGE_SHAPE),
        *tiny.global_model().layers[:-1],
        tf.keras.layers.Dense(tiny.NUM_CLASSES),
      ]
    )

  state, data = poison(tiny.attack(), tiny.images(0, 8), model_fn=without)
  assert np.isfinite(data.images).all()
  assert np.isfinite(state.generator_loss)


def test_total_variation_smooths():
  def variation(weight):
    attack = tiny.attack(total_variation=weight, steps=30, poison_images=20)
    _, data = poison(attack, tiny.images(0, 8))
    return float(tf.reduce_mean(tf.image.total_variation(data.images[8:])))

  assert variation(20.0) < 0.8 * variation(0.0)


def test_the_generator_learns_the_class():
  attack = tiny.attack(
    tff.learning.optimizers.build_adam(0.1), steps=60, generator_learning_rate=0.02
  )
  first, _ = poison(tiny.attack(steps=1), tiny.images(0, 8))
  state, _ = poison(attack, tiny.images(0, 8))
  assert state.generator_loss < 0.5 * first.generator_loss


def test_the_generators_optimizer_goes_on_in_the_next_round():
  attack, data = tiny.attack(tff.learning.optimizers.build_adam(0.1), steps=2), tiny.images(0, 8)
  first, _ = poison(attack, data)
  second, _ = poison(attack, data, state=first)
  assert [int(state.generator_optimizer["step"]) for state in (first, second)] == [2, 4]


@pytest.mark.parametrize("name", ["sgdm", "adam"])
def test_sgd_and_adam_take_the_parameters_learning_rate(name):
  optimizer = getattr(tff.learning.optimizers, f"build_{name}")(0.1)
  attack = tiny.attack(optimizer, generator_learning_rate=0.25)
  state = attack.initialize(attack.parameters, 0)
  assert float(state.generator_optimizer["learning_rate"]) == 0.25


@pytest.mark.parametrize("keep", [False, True])
def test_local_training_may_go_on_from_the_discriminator(keep):
  """With a step of zero, the update is all that it goes on from."""
  still = tff.learning.optimizers.build_sgdm(0.0)
  attack = tiny.attack(poison_images=0, discriminator_learning_rate=0.1, start_accuracy=0.0)
  own = local_training.local_training(
    still, local_training.plain_gradient(tiny.LOSS_FN), tiny.BATCH_SIZE, keep_model=keep
  )
  training = tiny.training(still)
  attack = attack._replace(training=own)
  federation = process.build_federation(
    tiny.global_model, training, attack, aggregation.build_aggregator("mean")
  )
  weights = keras_state.initial_weights(tiny.global_model, 0)
  to_tensors = functools.partial(tf.nest.map_structure, tf.convert_to_tensor)
  model = keras_state.build(tiny.global_model)
  workspace = attack.build(model)
  for accuracy, moves in ((0.0, False), (0.5, keep)):  # It does not start before there is any.
    context = attack_lib.Context(weights, np.int32(1), np.float32(accuracy))
    client = federation.initial_client(3, 0, attack.parameters)
    output = process.client_round(
      model, training, attack, workspace, *map(to_tensors, (context, client, tiny.images(0, 8)))
    )
    assert (np.abs(output.update.trainable[0]).max() > 1e-3) == moves
