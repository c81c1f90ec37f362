import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.tiny import poison
from tff_attacks import keras_state
from tff_attacks.attacks import information_stealing
from tff_attacks.learning import aggregation, process
from tff_attacks.runtime import in_process

NOTHING = tiny.images(0, 0)


def attack(**changes):
  defaults = {
    "target": 1, "generated_images": 20, "drawn_images": 6, "steps": 3,
    "generator_learning_rate": 0.05, "start_accuracy": 0.9, "latest_start": 7,
  }  # fmt: skip
  return information_stealing.information_stealing(
    information_stealing.Parameters(**defaults | changes),
    tiny.generator,
    information_stealing.uniform_noise(tiny.NOISE_SIZE),
    tiny.NUM_CLASSES,
    tff.learning.optimizers.build_adam(1.0, beta_1=0.5, epsilon=1e-7),
    tiny.LOSS_FN,
    batch_size=4,
  )


@pytest.mark.parametrize(
  ("round_number", "accuracy", "started"),
  [(2, 0.9, -1), (2, 0.91, 2), (6, 0.0, -1), (7, 0.0, 7)],
)
def test_it_starts_above_the_accuracy_or_at_the_latest_round(round_number, accuracy, started):
  state, data = poison(attack(), NOTHING, round_number, accuracy)
  assert state.started == started
  assert data.labels.shape[0] == (0 if started < 0 else 6)


def test_once_started_it_goes_on_and_remembers_when():
  made = attack()
  state, _ = poison(made, NOTHING, round_number=3, accuracy=0.95)
  state, data = poison(made, NOTHING, round_number=4, accuracy=0.1, state=state)
  assert state.started == 3
  assert data.labels.shape[0] == 6


def test_the_generators_optimizer_goes_on_in_the_next_round():
  made = attack(steps=3)
  first, _ = poison(made, NOTHING, accuracy=0.95)
  second, _ = poison(made, NOTHING, accuracy=0.95, state=first)
  assert [int(state.generator_optimizer["step"]) for state in (first, second)] == [3, 6]


def test_generated_images_have_the_additional_label():
  _, data = poison(attack(), NOTHING, accuracy=0.95)
  np.testing.assert_array_equal(data.labels, np.full(6, tiny.NUM_CLASSES))
  assert data.images.shape == (6, *tiny.IMAGE_SHAPE)
  assert np.ptp(data.images.numpy(), axis=0).max() > 0  # They differ.


def test_the_generator_steps_equal_plain_keras():
  """Three updates with Adam against the frozen global model, then the drawn images."""
  made = attack()
  state, data = poison(made, NOTHING, accuracy=0.95)
  generator, discriminator = tiny.generator(), tiny.global_model()
  keras_state.assign(generator, made.initialize(made.parameters, 5).generator)
  weights = keras_state.initial_weights(tiny.global_model, 0)
  keras_state.assign(discriminator, weights)
  optimizer = tf.keras.optimizers.legacy.Adam(0.05, beta_1=0.5, epsilon=1e-7)
  fold_in = tf.random.experimental.stateless_fold_in
  seed = fold_in(tf.constant([3, 4]), 0)
  for step in range(3):
    noise = tf.random.stateless_uniform([4, tiny.NOISE_SIZE], fold_in(seed, step), -1.0, 1.0)
    with tf.GradientTape() as tape:
      output = discriminator(generator(noise, training=True))
      loss = tiny.LOSS_FN(np.full(4, 1), output)
    optimizer.apply_gradients(
      zip(
        tape.gradient(loss, generator.trainable_variables),
        generator.trainable_variables,
        strict=True,
      )
    )
  for found, expected in zip(state.generator.trainable, generator.trainable_variables, strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(state.generator_loss, loss, rtol=1e-4)
  # The drawn ones are among all that would be generated from the same noise.
  seed = fold_in(fold_in(tf.constant([3, 4]), 1), 1)
  everything = generator(
    tf.random.stateless_uniform([20, tiny.NOISE_SIZE], seed, -1.0, 1.0), training=False
  )
  distances = np.abs(data.images.numpy()[:, None] - everything.numpy()[None]).max(axis=(2, 3, 4))
  assert (distances.min(axis=1) < 1e-4).all()
  assert len(set(distances.argmin(axis=1))) == 6


def test_total_variation_smooths():
  def variation(weight):
    _, data = poison(attack(total_variation=weight, steps=30), NOTHING, accuracy=0.95)
    return float(tf.reduce_mean(tf.image.total_variation(data.images)))

  assert variation(20.0) < 0.8 * variation(0.0)


@pytest.mark.parametrize("aggregator", ["mean", "nonempty_mean"])
def test_before_it_starts_the_adversary_sends_nothing(tff_runtime, aggregator):
  """Zeros count in the mean, and are left out of the mean of those that have samples."""
  del tff_runtime
  made = attack()
  federation = process.build_federation(
    tiny.global_model, tiny.training(), made, aggregation.build_aggregator(aggregator)
  )
  weights = keras_state.initial_weights(tiny.global_model, 0)
  data = [tiny.images(0, 8), tiny.images(1, 5), NOTHING]

  def update(clients):
    states = [federation.initial_client(0, i, made.parameters if i == 2 else None) for i in clients]
    server = federation.initial_server(weights)
    after, _, _ = federation.process.next(server, states, [data[i] for i in clients])
    return [a - b for a, b in zip(after.weights.trainable, weights.trainable, strict=True)]

  share = 2 / 3 if aggregator == "mean" else 1
  for with_adversary, without in zip(update([0, 1, 2]), update([0, 1]), strict=True):
    np.testing.assert_allclose(with_adversary, without * share, atol=1e-6)


def test_a_client_without_data_has_the_weight_of_what_it_generates():
  """In a mean that leaves out those without samples, too."""
  made = attack()
  federation = process.build_federation(
    tiny.global_model, tiny.training(), made, aggregation.build_aggregator("nonempty_mean")
  )
  weights = keras_state.initial_weights(tiny.global_model, 0)
  data = [tiny.images(0, 8), tiny.images(1, 5), NOTHING]

  def after(clients):
    states = [federation.initial_client(0, i, made.parameters if i == 2 else None) for i in clients]
    with in_process.in_process():
      server = federation.initial_server(weights)._replace(accuracy=np.float32(0.95))
      server, *_ = federation.process.next(server, states, [data[i] for i in clients])
    return server.weights.trainable

  pairs = zip(after([0, 1, 2]), after([0, 1]), strict=True)
  assert max(np.abs(a - b).max() for a, b in pairs) > 1e-4


def test_noise():
  seed = tf.constant([1, 2])
  uniform = information_stealing.uniform_noise(3)(5000, seed)
  normal = information_stealing.normal_noise(3)(5000, seed)
  assert uniform.shape == normal.shape == (5000, 3)
  assert -1 <= tf.reduce_min(uniform) < -0.99
  assert normal.numpy().std() == pytest.approx(1, abs=0.02)


def test_another_target_needs_no_new_attack():
  made = attack()
  state = made.initialize(made.parameters._replace(target=2), 0)
  first, _ = poison(made, NOTHING, accuracy=0.95)
  second, _ = poison(made, NOTHING, accuracy=0.95, state=state)
  assert abs(float(first.generator_loss - second.generator_loss)) > 1e-4
