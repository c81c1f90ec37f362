"""CPA with feature inversion: features told apart, and images that have them."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import leakage as models
from tests.tff_attacks.leakage.observed import CLASSES, observe, pictures
from tests.tff_attacks.leakage.test_cocktail_party import correlation
from tff_attacks.data import datasets
from tff_attacks.leakage import feature_inversion

COUNT = 8


def cnn():
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input([28, 28, 1]),
      layers.Conv2D(16, 3, padding="same", activation="relu"),
      layers.Conv2D(32, 3, 2, padding="same", activation="relu"),
      layers.Flatten(),
      layers.Dense(256, activation="relu"),
      layers.Dense(CLASSES),
    ]
  )


@pytest.mark.parametrize(
  "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_the_images_behind_the_features(seed, shared_data):
  test = datasets.load("fashion_mnist", shared_data).test
  chosen = np.random.default_rng(seed).permutation(len(test.labels))
  data, others = test.take(chosen[:COUNT]), test.take(chosen[COUNT : 2 * COUNT])
  # Features are less alike than the source's weights assume of those of ImageNet.
  attack = feature_inversion.feature_inversion(
    cnn, steps=2000, learning_rate=1e-2, decorrelation=0.1, one_sign=1.0, inversion_steps=200
  )
  found = correlation(attack(observe(cnn, data, seed), seed).images, data.images)
  assert found > correlation(others.images, data.images) + 0.2
  assert found > 0.75


def test_images_stay_in_their_range():
  data = pictures(0, 2, 16)
  model_fn = functools.partial(models.cnn, (16, 16, 3), CLASSES)
  attack = feature_inversion.feature_inversion(model_fn, steps=3, inversion_steps=3)
  seen, steps = [], []

  def watch(step, loss, images):
    steps.append(step)
    seen.append(images())

  found = attack(observe(model_fn, data, 0), 0, watch)
  assert found.images.shape == data.images.shape
  assert np.abs(found.images).max() <= 1
  assert len(found.losses) == len(seen) == 6
  assert steps == list(range(1, 7))
  assert all(images.shape == data.images.shape for images in seen)


def test_refusals():
  layers = tf.keras.layers

  def convolutional():
    return tf.keras.Sequential(
      [layers.Input([16, 16, 3]), layers.Conv2D(CLASSES, 3), layers.GlobalAveragePooling2D()]
    )

  data = pictures(0, 2, 16)
  with pytest.raises(ValueError, match="needs a fully connected layer"):
    feature_inversion.feature_inversion(convolutional)

  def of_squares():
    return tf.keras.Sequential([layers.Input([4, 4, 3]), layers.Dense(2), layers.Flatten()])

  with pytest.raises(ValueError, match="needs a fully connected layer of features"):
    feature_inversion.feature_inversion(of_squares)
  few = functools.partial(models.cnn, (16, 16, 3), CLASSES)
  observation = observe(few, data, 0)._replace(num_samples=600)
  with pytest.raises(ValueError, match="512 units of 4096 features of the first"):
    feature_inversion.feature_inversion(few)(observation, 0)
