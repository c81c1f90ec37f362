import numpy as np
import pytest

from tff_attacks.data import datasets
from tff_attacks.metrics import reconstruction

TRAIN = datasets.load("digits").train
FOURS = TRAIN.images[TRAIN.labels == 4]


def quality(generated, recognised_as=4):
  return reconstruction.quality(
    generated, TRAIN.images, TRAIN.labels, 4, lambda images: np.full(len(images), recognised_as)
  )


def test_real_images_score_as_real():
  test = datasets.load("digits").test
  scores = quality(test.images[test.labels == 4])
  assert scores.recognised == 1
  assert scores.correlation > 0.95 > scores.other_correlation
  assert scores.distance_ratio == pytest.approx(1, abs=0.15)
  assert scores.diversity == pytest.approx(1, abs=0.1)


def test_a_fooled_classifier_is_exposed_by_the_other_judges():
  noise = np.sign(np.random.default_rng(0).uniform(-1, 1, FOURS.shape)).astype(np.float32)
  scores = quality(noise)
  assert scores.recognised == 1
  assert abs(scores.correlation) < 0.2
  assert scores.distance_ratio > 2


def test_a_collapsed_generator_has_no_diversity():
  scores = quality(np.repeat(FOURS[:1], 50, axis=0))
  assert scores.diversity == pytest.approx(0, abs=1e-6)
  assert scores.distance_ratio == pytest.approx(0, abs=1e-6)


def test_distances_equal_a_loop():
  generated = TRAIN.images[:7]
  scores = reconstruction.quality(
    generated, TRAIN.images, TRAIN.labels, 4, lambda x: np.zeros(len(x)), sample=9
  )

  def distance(a, b):
    return np.sqrt(((a - b) ** 2).sum())

  def mean_of_pairs(x):
    return np.mean([distance(a, b) for i, a in enumerate(x) for b in x[i + 1 :]])

  real = FOURS[:9]
  nearest = np.mean([min(distance(g, r) for r in real) for g in generated])
  among = np.mean(
    [min(distance(a, b) for j, b in enumerate(real) if i != j) for i, a in enumerate(real)]
  )
  assert scores.distance_ratio == pytest.approx(nearest / among, rel=1e-5)
  assert scores.diversity == pytest.approx(mean_of_pairs(generated) / mean_of_pairs(real), rel=1e-5)


def test_a_single_real_image_has_no_nearest():
  one = np.flatnonzero(TRAIN.labels == 4)[:1]
  keep = np.append(one, np.flatnonzero(TRAIN.labels != 4))
  scores = reconstruction.quality(
    FOURS[:2], TRAIN.images[keep], TRAIN.labels[keep], 4, lambda x: np.zeros(len(x))
  )
  assert np.isnan(scores.distance_ratio)


def test_a_blank_image_correlates_with_nothing():
  assert quality(np.zeros_like(FOURS)).correlation == 0


def test_euclidean_distance_in_each_normalisation():
  generated = np.stack([np.full([2, 2, 1], v) for v in (-1.0, 1.0)])
  real = np.stack([np.full([2, 2, 1], v) for v in (-1.0, 0.0, 1.0)])
  # Pixels differ by 0, 1, 2 and 2, 1, 0; four pixels each.
  found = reconstruction.euclidean_distance(generated, real)
  assert found == pytest.approx((2.0, 1.0, 0.5))
