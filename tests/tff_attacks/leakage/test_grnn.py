import functools

import numpy as np
import pytest
import tensorflow as tf

from models import grnn as generators
from models import leakage as models
from tests.tff_attacks.leakage.observed import (
  CLASSES,
  observe,
  pictures,
  reference_gradient,
  total_variation,
)
from tff_attacks import keras_state
from tff_attacks.leakage import grnn, leakage
from tff_attacks.metrics import leakage as metrics

IMAGE_SHAPE = (16, 16, 3)
lenet = functools.partial(models.lenet, IMAGE_SHAPE, CLASSES)
generator = functools.partial(generators.generator, IMAGE_SHAPE, CLASSES)


@pytest.mark.parametrize(
  "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_one_image_of_the_sigmoid_lenet(seed):
  data = pictures(seed, 1, 16)._replace(labels=np.array([seed + 3], np.int32))
  found = grnn.grnn(lenet, generator, steps=1500)(observe(lenet, data, seed), seed)
  assert metrics.score(found.images, data, data).psnr > 25
  assert found.labels.tolist() == [seed + 3]


def test_what_is_shown_is_what_is_found():
  data = pictures(0, 2, 16)
  seen = []
  found = grnn.grnn(lenet, generator, steps=3)(
    observe(lenet, data, 0), 0, lambda step, loss, images: seen.append(images())
  )
  assert found.images.shape == (2, *IMAGE_SHAPE)
  assert np.abs(found.images).max() <= 1
  np.testing.assert_array_equal(seen[-1], found.images)
  again = grnn.grnn(lenet, generator, steps=3)(observe(lenet, data, 0), 0)
  np.testing.assert_array_equal(again.images, found.images)


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64])
def test_sizes_that_it_can_make(side):
  model = generators.generator((side, side, 1), CLASSES)
  images, logits = model(tf.zeros([2, generators.NOISE_SIZE]))
  assert images.shape == (2, side, side, 1)
  assert logits.shape == (2, CLASSES)


@pytest.mark.parametrize("side", [30, 36, 7])
def test_sizes_that_it_cannot_make(side):
  with pytest.raises(ValueError, match=f"The generator needs sides .*, found {side}x{side}"):
    generators.generator((side, side, 1), CLASSES)


def test_an_update_that_is_zero_is_refused():
  data = pictures(0, 1, 16)
  observation = observe(lenet, data, 0)
  zero = tf.nest.map_structure(np.zeros_like, observation.update)
  with pytest.raises(ValueError, match="update: is zero"):
    grnn.grnn(lenet, generator)(leakage.Observation(*observation)._replace(update=zero), 0)


def test_the_first_loss():
  data = pictures(0, 2, 16)
  observation = observe(lenet, data, 0)
  found = grnn.grnn(lenet, generator, steps=1, total_variation=0.3)(observation, 0)
  model = keras_state.build(generator, keras_state.initial_weights(generator, 0))
  noise = tf.random.stateless_normal([2, generators.NOISE_SIZE], [0, 0])
  images, logits = model(noise, training=True)
  gradient = reference_gradient(lenet, observation, images, tf.nn.softmax(logits))
  pairs = zip(gradient, observation.update.trainable, strict=True)
  difference = sum(((g + u) ** 2).sum() for g, u in pairs)
  expected = difference + np.sqrt(difference) + 0.3 * total_variation(images.numpy())
  assert found.losses[0] == pytest.approx(expected, rel=1e-4)
