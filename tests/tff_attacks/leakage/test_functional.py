import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.leakage import functional, leakage
from tff_attacks.learning import local_training

IMAGE_SHAPE = (6, 6, 2)
CLASSES = 3
layers = tf.keras.layers


def chain(outputs, *parts):
  for part in parts:
    outputs = part(outputs)
  return outputs


def residual(x):
  x = layers.Conv2D(4, 3, activation="tanh")(x)
  return layers.Flatten()(x + layers.Conv2D(4, 3, padding="same", activation="tanh")(x))


def squeeze_and_excitation(x):
  x = layers.Conv2D(4, 3, activation="tanh")(x)
  gates = chain(
    x,
    layers.GlobalAveragePooling2D(keepdims=True),
    layers.Dense(3, "relu"),
    layers.Dense(4, "sigmoid"),
  )
  return layers.Flatten()(x * gates)


def concatenation(x):
  x = layers.Conv2D(3, 3, activation="sigmoid")(x)
  x = layers.Concatenate()([x, layers.Conv2D(2, 1, activation="tanh")(x)])
  return layers.Flatten()(x)


# Mostly tanh: a sigmoid is nearly straight here, so that a layer next to it may add less to the
# second order than is tolerated.
BODIES = {
  "dense": lambda x: chain(x, layers.Flatten(), layers.Dense(7, "tanh")),
  "conv": lambda x: chain(
    x, layers.Conv2D(4, 3, padding="same", activation="sigmoid"), layers.Flatten()
  ),
  "strided": lambda x: chain(x, layers.Conv2D(4, 3, 2, activation="elu"), layers.Flatten()),
  "average pooling": lambda x: chain(
    x, layers.Conv2D(4, 3, activation="tanh"), layers.AveragePooling2D(2), layers.Flatten()
  ),
  "max pooling": lambda x: chain(
    x, layers.Conv2D(4, 3, activation="tanh"), layers.MaxPool2D(2), layers.Flatten()
  ),
  "overlapping max pooling": lambda x: chain(
    x, layers.Conv2D(4, 3, activation="tanh"), layers.MaxPool2D(3, 2, "same"), layers.Flatten()
  ),
  "relu": lambda x: chain(x, layers.Flatten(), layers.Dense(9, "relu")),
  "relu layer": lambda x: chain(x, layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten()),
  "leaky relu": lambda x: chain(x, layers.Conv2D(4, 3), layers.LeakyReLU(), layers.Flatten()),
  "batch normalisation": lambda x: chain(
    x,
    layers.Conv2D(4, 3),
    layers.BatchNormalization(),
    layers.Activation("tanh"),
    layers.Flatten(),
  ),
  "global pooling": lambda x: chain(
    x, layers.Conv2D(4, 3, activation="elu"), layers.GlobalAveragePooling2D()
  ),
  "dropout": lambda x: chain(x, layers.Flatten(), layers.Dense(7, "tanh"), layers.Dropout(0.5)),
  "zero padding": lambda x: chain(
    x,
    layers.Conv2D(3, 3, activation="tanh"),
    layers.ZeroPadding2D(((1, 2), (0, 1))),
    layers.Conv2D(4, 3, activation="tanh"),
    layers.Flatten(),
  ),
  "imprint block": lambda x: chain(
    x,
    layers.Flatten(),
    layers.Dense(5, "relu"),
    layers.Dense(72),
    layers.Reshape(IMAGE_SHAPE),
    layers.Conv2D(4, 3, activation="tanh"),
    layers.Flatten(),
  ),
  "residual": residual,
  "squeeze and excitation": squeeze_and_excitation,
  "concatenation": concatenation,
}


def model_of(body, softmax=False):
  inputs = layers.Input(IMAGE_SHAPE)
  last = layers.Dense(CLASSES, activation="softmax" if softmax else None)
  return tf.keras.Model(inputs, last(BODIES[body](inputs)))


def batch(count, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.uniform(-1, 1, [count, *IMAGE_SHAPE]).astype(np.float32)
  return Images(images, rng.integers(0, CLASSES, count).astype(np.int32))


@pytest.mark.parametrize("softmax", [False, True])
def test_the_inference_gradient_of_a_stacked_image_is_that_of_the_image(softmax):
  tf.keras.utils.set_random_seed(0)
  model = model_of("batch normalisation", softmax)
  data = batch(1)
  stacked = data.take(np.zeros(5, np.int32))
  statistics = [v.numpy() for v in model.non_trainable_variables]
  (one, of_one), (several, of_several) = (
    functional.inference_gradient(model, part, None) for part in (data, stacked)
  )
  assert float(one) == pytest.approx(float(several), rel=1e-5)
  for g, h in zip(of_one, of_several, strict=True):
    np.testing.assert_allclose(g, h, atol=1e-6)
  for v, before in zip(model.non_trainable_variables, statistics, strict=True):
    np.testing.assert_array_equal(v, before)


def test_the_inference_gradient_is_that_of_training_without_layers_that_know_the_difference():
  tf.keras.utils.set_random_seed(0)
  model = keras_state.build(lambda: model_of("conv"))
  model.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in model.get_weights()])
  loss, gradients = functional.inference_gradient(model, batch(4), None)
  plain = local_training.plain_gradient(local_training.cross_entropy(from_logits=True))
  expected_loss, expected = plain(model, batch(4), tf.constant([0, 0]))
  assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
  for g, h in zip(gradients, expected, strict=True):
    np.testing.assert_allclose(g, h, atol=1e-5)


@pytest.mark.parametrize(("body", "softmax"), [*((body, False) for body in BODIES), ("conv", True)])
def test_second_order_gradients_agree_with_finite_differences(body, softmax):
  """Of a sum of squares of the gradient, in a random direction of the images."""
  # With these seeds no rectifier or maximum turns within three steps of the difference; the
  # gradient would jump there.
  tf.keras.utils.set_random_seed(0)
  model = model_of(body, softmax)
  data = batch(3)
  labels = tf.one_hot(data.labels, CLASSES)
  rng = np.random.default_rng(1)
  direction = rng.standard_normal(data.images.shape).astype(np.float32)

  def objective(images):
    return tf.add_n([tf.reduce_sum(g**2) for g in functional.gradients(model, images, labels)])

  images = tf.constant(data.images)
  with tf.GradientTape() as tape:
    tape.watch(images)
    value = objective(images)
  found = float(tf.reduce_sum(tape.gradient(value, images) * direction))
  step = 1e-3
  ends = [float(objective(images + sign * step * direction)) for sign in (1, -1)]
  expected = (ends[0] - ends[1]) / (2 * step)
  assert found == pytest.approx(expected, rel=0.02, abs=1e-3 * float(value))


@pytest.mark.parametrize("softmax", [False, True])
def test_the_gradient_is_that_of_training(softmax):
  tf.keras.utils.set_random_seed(0)
  model = model_of("conv", softmax)
  data = batch(5)
  found = functional.gradients(model, data.images, tf.one_hot(data.labels, CLASSES))
  gradient = local_training.plain_gradient(local_training.cross_entropy(not softmax))
  observed = leakage.observe_gradient(model, gradient, data)
  for one, other in zip(found, leakage.mean_gradient(observed), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_weights_are_those_before_the_batch():
  """Its statistics are not the server's to see."""
  model = model_of("batch normalisation")
  gradient = local_training.plain_gradient(local_training.cross_entropy(from_logits=True))
  before = tf.nest.map_structure(np.array, keras_state.read(model))
  observed = leakage.observe_gradient(model, gradient, batch(5))
  for one, other in zip(before.non_trainable, observed.weights.non_trainable, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("batch_size", "epochs"), [(5, 1), (2, 1), (2, 3)])
def test_unrolled_steps_are_those_of_local_training(batch_size, epochs):
  tf.keras.utils.set_random_seed(0)
  model = model_of("conv")
  data = batch(5)
  training = local_training.local_training(
    tff.learning.optimizers.build_sgdm(0.2),
    local_training.plain_gradient(local_training.cross_entropy(from_logits=True)),
    batch_size,
    epochs,
    shuffle=False,
  )
  weights = tf.nest.map_structure(np.asarray, keras_state.read(model))
  trained = keras_state.build(lambda: model_of("conv"))
  sent = training.train(trained, weights, training.initialize(weights), data, tf.constant([0, 0]))
  observation = leakage.Observation(weights, sent.update, 5, batch_size, epochs, 0.2)
  epoch = functional.batches(tf.constant(data.images), tf.one_hot(data.labels, CLASSES), batch_size)
  found = functional.simulate(model, epoch * epochs, 0.2)
  for one, other in zip(found, leakage.mean_gradient(observation), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_layers_get_their_variables_back():
  model = model_of("batch normalisation")
  variables = [id(v) for v in model.trainable_variables]
  before = model(np.ones([1, *IMAGE_SHAPE])).numpy()
  with functional.weights_as(model, [tf.zeros_like(v) for v in model.trainable_variables]):
    assert not model(np.ones([1, *IMAGE_SHAPE])).numpy().any()
  np.testing.assert_array_equal(model(np.ones([1, *IMAGE_SHAPE])), before)
  assert [id(v) for v in model.trainable_variables] == variables


@pytest.mark.parametrize(("epochs", "learning_rate"), [(2, 0.3), (20, 0.05)])
def test_gradients_flow_through_unrolled_steps(epochs, learning_rate):
  """Of the last weights, by one pixel, against finite differences: through 4 and 40 steps."""
  tf.keras.utils.set_random_seed(0)
  model = model_of("dense")
  data = batch(4)
  labels = tf.one_hot(data.labels, CLASSES)

  @tf.function
  def objective(images):
    epoch = functional.batches(images, labels, 2)
    found = functional.simulate(model, epoch * epochs, learning_rate)
    return tf.add_n([tf.reduce_sum(g**2) for g in found])

  images = tf.constant(data.images)
  with tf.GradientTape() as tape:
    tape.watch(images)
    value = objective(images)
  gradient = tape.gradient(value, images).numpy()
  where = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
  step = np.zeros_like(data.images)
  step[where] = 1e-2
  expected = float(objective(images + step) - objective(images - step)) / 2e-2
  assert gradient[where] == pytest.approx(expected, rel=0.02)


UNROLLED = """
import resource, sys
import tensorflow as tf
from tff_attacks.leakage import functional

layers = tf.keras.layers
steps = int(sys.argv[1])
body = [layers.Conv2D(32, 3, padding="same", activation="tanh") for _ in range(3)]
ends = layers.Input((32, 32, 3)), layers.GlobalAveragePooling2D(), layers.Dense(10)
model = tf.keras.Sequential([ends[0], *body, *ends[1:]])
images = tf.random.stateless_normal([steps * 20, 32, 32, 3], [0, 0])
labels = tf.one_hot(tf.range(steps * 20) % 10, 10)

@tf.function
def slope(images):
  with tf.GradientTape() as tape:
    tape.watch(images)
    found = functional.simulate(model, functional.batches(images, labels, 20), 0.01)
    loss = tf.add_n([tf.reduce_sum(g**2) for g in found])
  return tape.gradient(loss, images)

assert bool(tf.reduce_all(tf.math.is_finite(slope(images))))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_forty_steps_take_the_memory_of_few():
  """Where the inside of a step, not its weights, is what memory is taken for."""

  def peak(steps):
    command = [sys.executable, "-c", UNROLLED, str(steps)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

  assert peak(40) - peak(4) < 850 * 1024  # KiB; with the inside of all steps it is 1,100 MiB.
