import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from models import leakage as models
from tests.tff_attacks.leakage.observed import CLASSES, observe, pictures
from tff_attacks.data import datasets
from tff_attacks.leakage import cocktail_party, leakage, search
from tff_attacks.leakage.cocktail_party import cocktail_party as attack

COUNT = 8


def mlp():
  return models.mlp((28, 28, 1), CLASSES)


def correlation(found, true):
  """Mean |correlation| of each true image with its reconstruction, either sign."""
  found, true = (x.reshape(len(x), -1) for x in (found, true))
  table = np.abs(np.corrcoef(found, true)[: len(found), len(found) :])
  rows, columns = optimize.linear_sum_assignment(-table)
  return table[rows, columns].mean()


@pytest.mark.parametrize(
  "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_it_tells_the_images_of_a_batch_apart(seed, shared_data):
  test = datasets.load("fashion_mnist", shared_data).test
  data = test.take(np.random.default_rng(seed).choice(len(test.labels), COUNT, replace=False))
  observation = observe(mlp, data, seed)
  reconstruct = attack(mlp, steps=2000, learning_rate=1e-2)
  found = correlation(reconstruct(observation, seed).images, data.images)
  mixed = leakage.mean_gradient(observation)[0].T
  mixtures = cocktail_party.whitening_matrix(mixed, COUNT) @ mixed
  assert found >= 0.7  # 0.77 to 0.86; it varies between processors.
  assert found > correlation(mixtures, data.images) + 0.1


def test_each_image_is_scaled_by_itself():
  observation = observe(mlp, datasets.load("digits").test.take(slice(COUNT)), 0)
  shown = []
  found = attack(mlp, steps=2)(observation, 0, lambda step, loss, images: shown.append(images()))
  for images in (found.images, *shown):
    assert images.shape == (COUNT, 28, 28, 1)
    np.testing.assert_allclose(images.min(axis=(1, 2, 3)), -1, atol=1e-6)
    np.testing.assert_allclose(images.max(axis=(1, 2, 3)), 1, atol=1e-6)


def test_whitened_mixtures():
  rng = np.random.default_rng(0)
  sources = rng.uniform(-1, 1, [3, 500])
  mixtures = rng.standard_normal([10, 3]) @ sources + 4
  centred = mixtures - mixtures.mean(axis=1, keepdims=True)
  found = cocktail_party.whitening_matrix(mixtures, 3) @ centred
  np.testing.assert_allclose(found @ found.T / 500, np.eye(3), atol=1e-9)
  # They span what the centred sources span.
  centred = sources - sources.mean(axis=1, keepdims=True)
  assert np.linalg.matrix_rank(np.concatenate([found, centred]), tol=1e-6) == 3


def test_the_contrast_finds_sources_that_do_not_peak():
  """Without any prior; half of what the mixtures hold if its sign is wrong, or its weight 0."""
  rng = np.random.default_rng(3)
  sources = rng.uniform(-1, 1, [2, 4000])
  found, _ = cocktail_party.separate(
    rng.standard_normal([6, 2]) @ sources, 2, lambda _: 0.0, 0.05, 2.0, 1.0, 500, 1e-2,
    search.unwatched, lambda values: values,
  )  # fmt: skip
  assert correlation(found, sources) > 0.99


@pytest.mark.parametrize("shape", [(3, 50), (50, 3)])
def test_fewer_mixtures_than_sources_are_refused(shape):
  with pytest.raises(ValueError, match=f"{shape[0]} units of {shape[1]} features.* 4 images apart"):
    cocktail_party.separate(
      np.ones(shape), 4, lambda _: 0.0, 0.05, 2.0, 1.0, 5, 1e-2, search.unwatched, lambda x: x
    )


def test_rounding_is_no_source():
  rng = np.random.default_rng(0)
  mixtures = (rng.standard_normal([10, 2]) @ rng.uniform(-1, 1, [2, 500])).astype(np.float32)
  found = cocktail_party.whitening_matrix(mixtures.astype(np.float64), 3) @ mixtures
  assert np.sort(found.std(axis=1))[0] < 0.1


def test_similarity():
  eye = np.eye(3, dtype=np.float32)
  assert float(cocktail_party.similarity(tf.constant(eye), 12.4)) == pytest.approx(0)
  same = tf.constant([[1.0, 0.0], [-2.0, 0.0]])
  assert float(cocktail_party.similarity(same, 2.0)) == pytest.approx((np.exp(2) - 1) / 2)


def test_refusals():
  data = pictures(0, COUNT, 16)
  cnn = functools.partial(models.cnn, (16, 16, 3), CLASSES)
  with pytest.raises(ValueError, match="needs a fully connected first layer"):
    attack(cnn)
  few = functools.partial(models.mlp, (16, 16, 3), CLASSES)
  observation = observe(few, data, 0)._replace(num_samples=300)
  with pytest.raises(ValueError, match="256 units of 768 features of the first fully connected"):
    attack(few)(observation, 0)
