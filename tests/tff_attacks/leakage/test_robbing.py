"""Robbing the Fed reads images off one gradient, as many as lie alone between two thresholds."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import imprint
from models import leakage as models
from tests.tff_attacks.leakage.observed import CLASSES, observe, observe_training
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import robbing
from tff_attacks.metrics import leakage as metrics

IMAGE_SHAPE = (16, 16, 3)
COUNT = 64


def photographs(seed, count):
  """Noise of various brightness."""
  rng = np.random.default_rng(seed)
  brightness = np.clip(rng.normal(0.1, 0.2, [count, 1, 1, 1]), -0.6, 0.6)
  pixels = brightness + rng.uniform(-0.4, 0.4, [count, *IMAGE_SHAPE])
  return Images(pixels.astype(np.float32), rng.integers(0, CLASSES, count).astype(np.int32))


def model_with(thresholds, small=False):
  backbone = functools.partial(models.cnn, IMAGE_SHAPE, CLASSES)
  return imprint.imprint(backbone, thresholds, small)


def copied(found, data):
  """Share of the true images with a reconstruction above 25 dB."""
  order = metrics.match(found.images, data.images).order
  errors = (((found.images - data.images[order]) / 2) ** 2).mean(axis=(1, 2, 3))
  return (-10 * np.log10(errors + 1e-12) > 25).sum() / len(data.labels)


def alone(thresholds, data):
  """Share of the images without another one between their thresholds."""
  bins = np.searchsorted(thresholds, data.images.mean(axis=(1, 2, 3)), side="right") - 1
  return np.mean(np.bincount(bins, minlength=len(thresholds))[bins] == 1)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_it_copies_the_images_that_are_alone_in_their_bin(seed, small):
  data = photographs(seed, COUNT)
  bounds = robbing.thresholds(128, auxiliary=photographs(100 + seed, 2000))
  model_fn = model_with(bounds, small)
  found = robbing.robbing_the_fed(model_fn)(observe(model_fn, data, seed), seed)
  share = copied(found, data)
  # By chance (1 - 1 / 128)^63 = 0.61 of them are alone; of others, one may outweigh the rest.
  assert share >= 0.45
  assert alone(bounds, data) - 0.02 <= share <= alone(bounds, data) + 0.15


def test_knowing_the_brightness_helps():
  data = photographs(0, COUNT)
  shares = []
  for auxiliary in (None, photographs(100, 2000)):
    model_fn = model_with(robbing.thresholds(128, auxiliary))
    found = robbing.robbing_the_fed(model_fn)(observe(model_fn, data, 0), 0)
    shares.append(copied(found, data))
  assert 0.2 < shares[0] < shares[1]


def test_rounding_is_no_image():
  """A step of a large model's weights leaves rounding in the bins without any image."""
  data = photographs(0, 20)
  model_fn = model_with(robbing.thresholds(64))
  observation = observe_training(model_fn, data, 0, 20, 1, 0.1)
  observation = observation._replace(num_samples=64, batch_size=64)
  found = robbing.robbing_the_fed(model_fn)(observation, 0)
  bins = np.unique(np.searchsorted(robbing.thresholds(64), data.images.mean(axis=(1, 2, 3))))
  assert len(found.images) == len(bins)


def test_one_image_is_exact():
  data = photographs(0, 1)
  model_fn = model_with(robbing.thresholds(20))
  found = robbing.robbing_the_fed(model_fn)(observe(model_fn, data, 0), 0)
  np.testing.assert_allclose(found.images[0], data.images[0], atol=1e-3)


def test_thresholds():
  assert (np.diff(robbing.thresholds(500)) > 0).all()
  assert robbing.thresholds(500)[0] < -1
  data = photographs(0, 1000)
  bounds = robbing.thresholds(10, data)
  bins = np.searchsorted(bounds, data.images.mean(axis=(1, 2, 3)), side="right") - 1
  assert np.bincount(bins, minlength=10).tolist() == [100] * 10


@pytest.mark.parametrize("small", [False, True])
def test_the_model_behind_the_block_sees_how_bright_an_image_is(small):
  """Units differ in their thresholds only."""
  bounds, data = np.array([-0.5, 0.0, 0.5], np.float32), photographs(0, 9)
  model = model_with(bounds, small)()
  first, _, second, *_ = model.get_weights()
  gain = 1 if small else 1e-3
  np.testing.assert_array_equal(first, np.full_like(first, gain / np.prod(IMAGE_SHAPE)))
  np.testing.assert_array_equal(second[0], second[2])
  assert (np.std(second[0]) > 0) == small
  block = tf.keras.Model(model.input, model.layers[4].output)
  brightness = data.images.mean(axis=(1, 2, 3), keepdims=True)
  seen = np.maximum(brightness - bounds, 0).sum(axis=-1, keepdims=True)
  row = second[0].reshape(IMAGE_SHAPE) if small else np.ones(IMAGE_SHAPE)
  np.testing.assert_allclose(block(data.images), seen * row, atol=1e-4)


def test_a_pretrained_model_keeps_its_weights():
  backbone = models.cnn(IMAGE_SHAPE, CLASSES)
  backbone.set_weights([np.full_like(w, 0.25) for w in backbone.get_weights()])
  model = imprint.imprint(lambda: backbone, np.array([-0.5, 0.5]))()
  for found, expected in zip(
    model.get_weights()[imprint.NUM_ARRAYS :], backbone.get_weights(), strict=True
  ):
    np.testing.assert_array_equal(found, expected)


def client(small, seed):
  """What is read off the update of a client with four batches of ten, and its images."""
  data = photographs(seed, 40)
  model_fn = model_with(robbing.thresholds(100, photographs(100, 2000)), small)
  observation = observe_training(model_fn, data, 0, 10, 1, 0.1)
  return robbing.robbing_the_fed(model_fn)(observation, 0), data


@pytest.mark.parametrize("seed", range(3))
def test_behind_a_cnn_the_published_weights_diverge_and_small_ones_do_not(seed):
  """The paper's failure, and the cause that it suspects."""
  with pytest.raises(ValueError, match="the client's training diverged"):
    client(False, seed)
  found, data = client(True, seed)
  assert copied(found, data) > 0.4


def test_refusals():
  with pytest.raises(ValueError, match="thresholds: must rise"):
    model_with(np.array([0.0, 0.0]))
  plain = functools.partial(models.cnn, IMAGE_SHAPE, CLASSES)
  data = photographs(0, 2)
  with pytest.raises(ValueError, match="model: needs an imprint block at its beginning"):
    robbing.robbing_the_fed(plain)
  model_fn = model_with(robbing.thresholds(4))
  observation = observe(model_fn, data, 0)
  broken = ModelWeights([np.full_like(u, np.nan) for u in observation.update.trainable], [])
  with pytest.raises(ValueError, match="update: holds numbers that are not finite"):
    robbing.robbing_the_fed(model_fn)(observation._replace(update=broken), 0)
  kernel, bias, *rest = observation.update.trainable
  nothing = ModelWeights([np.zeros_like(kernel), np.zeros_like(bias), *rest], [])
  with pytest.raises(ValueError, match="update: no unit of the imprint block was active"):
    robbing.robbing_the_fed(model_fn)(observation._replace(update=nothing), 0)
