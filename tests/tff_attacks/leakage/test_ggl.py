"""GGL finds what its generator can make; one that was not trained finds nothing."""

import functools

import cma
import numpy as np
import pytest
import tensorflow as tf

from models import ggl as networks
from models import leakage as models
from tests.tff_attacks.leakage.observed import CLASSES, observe, reference_gradient
from tff_attacks.data import datasets
from tff_attacks.leakage import ggl, wgan
from tff_attacks.metrics import leakage as metrics

IMAGE_SHAPE = (28, 28, 1)
mlp = functools.partial(models.mlp, IMAGE_SHAPE, CLASSES)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]


def decoder(seed):
  """From 16 numbers to a digit."""
  layers = tf.keras.layers
  tf.keras.utils.set_random_seed(seed)
  return tf.keras.Sequential(
    [
      layers.Input([16]),
      layers.Dense(128, activation="relu"),
      layers.Dense(784, activation="tanh"),
      layers.Reshape(IMAGE_SHAPE),
    ]
  )


@functools.lru_cache
def trained_decoder(seed):
  """Half an autoencoder of the training images; its codes have mean 0 and variance 1."""
  images = datasets.load("digits").train.images
  layers = tf.keras.layers
  made = decoder(seed)
  encoder = tf.keras.Sequential(
    [
      layers.Input(IMAGE_SHAPE),
      layers.Flatten(),
      layers.Dense(128, activation="relu"),
      layers.Dense(16),
      layers.BatchNormalization(center=False, scale=False),
    ]
  )
  autoencoder = tf.keras.Sequential([encoder, made])
  autoencoder.compile(tf.keras.optimizers.legacy.Adam(1e-3), "mse")
  autoencoder.fit(images, images, batch_size=32, epochs=40, verbose=0)
  return made


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trained_generator_beats_the_mean_image(seed):
  test = datasets.load("digits").test
  data = test.take([seed])
  mean = metrics.mean_guess(1, data, test.take(slice(10, None))).psnr
  scores = {}
  for name, generator in (("trained", trained_decoder(seed)), ("untrained", decoder(seed))):
    found = ggl.ggl(mlp, generator, evaluations=2500)(observe(mlp, data, seed), seed)
    assert found.labels.tolist() == data.labels.tolist()
    scores[name] = metrics.score(found.images, data, data).psnr
  assert scores["trained"] > mean + 6
  assert scores["untrained"] < mean + 3


def test_same_seed_same_image():
  data = datasets.load("digits").test.take([0])
  attack = ggl.ggl(mlp, decoder(0), evaluations=60)
  first, again, other = (attack(observe(mlp, data, 0), seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.images, again.images)
  assert np.abs(first.images - other.images).max() > 1e-3


def test_several_images_are_refused():
  data = datasets.load("digits").test.take([0, 1])
  with pytest.raises(ValueError, match="tells the label of one image, not of 2"):
    ggl.ggl(mlp, decoder(0))(observe(mlp, data, 0), 0)


def test_training_brings_the_generator_nearer():
  """Mean and standard deviation of its pixels come to those of the images, which are flat."""
  rng = np.random.default_rng(0)
  images = np.broadcast_to(rng.uniform(0.4, 0.8, [256, 1, 1, 1]), [256, 8, 8, 1])
  tf.keras.utils.set_random_seed(0)
  generator, critic = networks.generator((8, 8, 1), 16), networks.critic((8, 8, 1), 16)
  noise = tf.random.stateless_normal([256, networks.NOISE_SIZE], [0, 0])
  seen = []
  wgan.train(
    generator,
    critic,
    images.astype(np.float32),
    400,
    0,
    1e-3,
    watch=lambda *values: seen.append(values),
  )
  found = generator(noise, training=False).numpy()
  assert found.mean() == pytest.approx(0.6, abs=0.15)
  assert found.std(axis=(1, 2, 3)).mean() < 0.3
  assert [step for step, _ in seen] == list(range(1, 401))


@pytest.mark.parametrize("norm", [0.5, 1, 3])
@pytest.mark.parametrize("size", [2, 5])
def test_the_penalty_of_a_linear_critic(size, norm):
  """Its gradient is its kernel, whatever the image."""
  rng = np.random.default_rng(0)
  kernel = rng.standard_normal([size, size, 3])
  kernel *= norm / np.linalg.norm(kernel)
  images = tf.constant(rng.uniform(-1, 1, [4, size, size, 3]))
  penalty = wgan._penalty(lambda x: tf.reduce_sum(x * kernel, axis=(1, 2, 3)), images)
  assert float(penalty) == pytest.approx((norm - 1) ** 2, abs=1e-9)


def test_the_penalty_is_a_mean_over_the_images():
  """The gradient of half a sum of squares is the image."""
  images = np.random.default_rng(0).uniform(-1, 1, [4, 5, 5, 3])
  images *= np.reshape([0.01, 0.1, 0.5, 1], [4, 1, 1, 1])
  penalty = wgan._penalty(lambda x: tf.reduce_sum(x**2, axis=(1, 2, 3)) / 2, tf.constant(images))
  norms = np.sqrt((images**2).sum(axis=(1, 2, 3)))
  assert float(penalty) == pytest.approx(((norms - 1) ** 2).mean())


def test_training_repeats():
  images = datasets.load("digits").train.images[:64, ::2, ::2]
  weights = []
  for _ in range(2):
    tf.keras.utils.set_random_seed(0)
    generator, critic = networks.generator((14, 14, 1), 8), networks.critic((14, 14, 1), 8)
    wgan.train(generator, critic, images, 2, 0)
    weights.append(generator.get_weights())
  for one, other in zip(*weights, strict=True):
    np.testing.assert_array_equal(one, other)


def test_too_few_evaluations():
  with pytest.raises(ValueError, match="evaluations: must be 12 or more, a generation"):
    ggl.ggl(mlp, decoder(0), evaluations=11)


def test_too_few_images():
  with pytest.raises(ValueError, match="needs 64 images to be trained on, not 3"):
    wgan.train(networks.generator((8, 8, 1), 8), networks.critic((8, 8, 1), 8), np.zeros([3]), 1, 0)


def test_training_goes_on_where_it_was(tmp_path):
  images = datasets.load("digits").train.images[:64, ::2, ::2]
  weights = []
  for folder in (None, str(tmp_path)):
    steps = [2] if folder is None else [1, 2]
    for end in steps:
      # What is resumed must not need the weights that it began with.
      tf.keras.utils.set_random_seed(end - steps[0])
      generator, critic = networks.generator((14, 14, 1), 8), networks.critic((14, 14, 1), 8)
      wgan.train(generator, critic, images, end, 0, folder=folder, checkpoint_every=1)
    weights.append(generator.get_weights())
  for one, other in zip(*weights, strict=True):
    np.testing.assert_array_equal(one, other)


def test_the_first_loss():
  """The least of the first generation."""
  data = datasets.load("digits").test.take([0])
  observation = observe(mlp, data, 0)
  made = decoder(0)
  population = cma.CMAEvolutionStrategy(np.zeros(16), 1.0, {"seed": 1, "verbose": -9}).ask()
  found = ggl.ggl(mlp, made, len(population), divergence=0.7)(observation, 0)
  expected = []
  for point in np.array(population, np.float32):
    image = made(point[np.newaxis]).numpy()
    gradient = reference_gradient(mlp, observation, image, np.eye(CLASSES)[data.labels])
    pairs = zip(gradient, observation.update.trainable, strict=True)
    distance = sum(((g + u) ** 2).sum() for g, u in pairs) / len(gradient)
    gaussian = 0.5 * (point.mean() ** 2 + point.var() - 1 - np.log(point.var()))
    expected.append(distance + 0.7 * gaussian)
  assert found.losses[0] == pytest.approx(min(expected), rel=1e-3)
