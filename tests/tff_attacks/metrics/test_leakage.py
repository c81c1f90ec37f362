import itertools

import numpy as np
import pytest
from scipy import signal

from tff_attacks.data.datasets import Images
from tff_attacks.metrics import leakage


def images(count, seed=0, classes=3):
  rng = np.random.default_rng(seed)
  pixels = rng.uniform(-1, 1, [count, 16, 16, 3]).astype(np.float32)
  return Images(pixels, np.arange(count) % classes)


def test_a_perfect_reconstruction():
  true = images(40).take(np.arange(4))
  scores = leakage.score(true.images, true, images(40))
  assert scores.mse == 0
  assert scores.ssim == pytest.approx(1)
  assert scores.identified == 1
  assert scores.psnr == 100
  assert scores.copied == 1


@pytest.mark.parametrize(("decibels", "copied"), [(24, 0), (26, 1)])
def test_a_copy_is_above_25_decibels(decibels, copied):
  true = images(4)
  true = true._replace(images=true.images / 2)  # So that nothing is cut off.
  found = true.images + 2 * 10 ** (-decibels / 20)
  scores = leakage.score(found, true, true)
  assert scores.psnr == pytest.approx(decibels, abs=0.01)
  assert scores.copied == copied


def reference_ssim(first, second):
  """Wang et al., 2004, with an 11x11 Gaussian window that stays within the image."""
  axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
  window = np.outer(axis, axis) / axis.sum() ** 2

  def smooth(image):
    return signal.convolve2d(image, window, "valid")

  channels = []
  for a, b in zip(np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0), strict=True):
    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    similarity /= (mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2)
    channels.append(similarity.mean())
  return np.mean(channels)


def test_scores_of_noisy_copies_are_those_of_their_formulas():
  true = images(3)
  found = np.clip(true.images + np.random.default_rng(1).normal(0, 0.4, true.images.shape), -1, 1)
  scores = leakage.score(found, true, true)
  pairs = [((a + 1) / 2, (b + 1) / 2) for a, b in zip(found, true.images, strict=True)]
  psnr = [-10 * np.log10(np.mean((a - b) ** 2)) for a, b in pairs]
  assert scores.psnr == pytest.approx(np.mean(psnr), rel=1e-4)
  assert scores.ssim == pytest.approx(np.mean([reference_ssim(*pair) for pair in pairs]), abs=1e-4)
  correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
  assert scores.correlation == pytest.approx(np.mean(correlations), rel=1e-5)


def test_a_flat_image_correlates_with_nothing():
  true = images(2)
  flat = np.full_like(true.images, 0.25)
  assert leakage.score(flat, true, true).correlation == 0
  assert leakage.score(true.images / 2 + 0.1, true, true).correlation == pytest.approx(1)


def test_what_is_outside_the_range_is_cut_off():
  true = images(2)._replace(images=np.ones([2, 16, 16, 3], np.float32))
  assert leakage.score(5 * true.images, true, true).mse == 0


def test_matching_finds_the_permutation():
  true = images(6)
  order = np.array([3, 0, 5, 1])
  found = true.images[order] + 0.05
  assert leakage.match(found, true.images).order.tolist() == order.tolist()
  with pytest.raises(ValueError, match="there are 6 reconstructions of 4 images"):
    leakage.match(true.images, true.images[:4])


def test_no_true_image_is_matched_twice():
  """Two reconstructions of the same image: the worse one takes another."""
  true = images(2)
  found = np.stack([true.images[0], 0.9 * true.images[0]])
  assert leakage.match(found, true.images).order.tolist() == [0, 1]


def test_scale_and_sign_are_fitted_where_they_are_not_known():
  true = images(5)
  gains = np.array([2.0, -1.0, -0.3, 1.0])[:, None, None, None]
  found = gains * true.images[[3, 0, 4, 1]] + 0.2
  order, fitted = leakage.match(found, true.images, any_scale=True)
  assert order.tolist() == [3, 0, 4, 1]
  np.testing.assert_allclose(fitted, true.images[order], atol=1e-6)
  assert np.abs(leakage.match(found, true.images).images - fitted).max() > 0.5


def test_fitted_scales_are_those_of_least_squares():
  found, true = images(1, seed=1), images(1)
  _, fitted = leakage.match(found.images, true.images, any_scale=True)
  design = np.stack([found.images.ravel(), np.ones(found.images.size)], axis=1)
  gain, offset = np.linalg.lstsq(design, true.images.ravel(), rcond=None)[0]
  np.testing.assert_allclose(fitted, gain * found.images + offset, atol=1e-5)


def test_guesses_are_fitted_as_reconstructions_are():
  everything = images(60)
  true, others = everything.take(np.arange(6)), everything.take(np.arange(6, 60))
  for any_scale in (False, True):
    compared = leakage.compare(-true.images, true, others, 0, any_scale)
    assert (compared.found.psnr > 99) == any_scale
    guess = leakage.random_guess(6, true, others, 0, any_scale)
    assert compared.guess == guess
    assert compared.mean == leakage.mean_guess(6, true, others, any_scale)
  assert guess.psnr > leakage.random_guess(6, true, others, 0).psnr


def test_identified_looks_among_images_of_the_label():
  candidates = images(30)
  true = candidates.take(np.arange(6))
  found = true.images.copy()
  found[0] = candidates.images[3]  # Another image of label 0.
  # Of all images one of label 2 is nearest, of those of label 1 its own.
  found[1] = 0.4 * true.images[1] + 0.6 * candidates.images[2]
  assert leakage.score(found, true, candidates).identified == 5 / 6


def test_nulls():
  everything = images(60)
  true, others = everything.take(np.arange(6)), everything.take(np.arange(6, 60))
  random = leakage.random_guess(6, true, others, 0)
  mean = leakage.mean_guess(6, true, others)
  # Two uniform pixels in [0, 1] differ by 1/6 in the mean square, one and the mean by 1/12.
  assert random.mse == pytest.approx(1 / 6, rel=0.05)
  assert mean.mse == pytest.approx(1 / 12, rel=0.05)
  assert mean.psnr == pytest.approx(-10 * np.log10(1 / 12), abs=0.2)
  assert random.copied == mean.copied == 0


def test_guesses_are_matched_as_reconstructions_are():
  """One guess among many true images is better than its fair share."""
  everything = images(600, classes=1)
  true, others = everything.take(np.arange(300)), everything.take(np.arange(300, 600))
  one = leakage.random_guess(1, true, others, 0)
  assert one.mse < leakage.random_guess(300, true, others, 0).mse


def test_a_guess_identifies_by_chance():
  """One in as many as there are images of the label that were not drawn."""
  found = []
  for seed in range(100):
    everything = images(6, seed, classes=1)
    true, others = everything.take(np.arange(2)), everything.take(np.arange(2, 6))
    found.append(leakage.random_guess(2, true, others, seed).identified)
  assert 0.1 < np.mean(found) < 0.6


def test_too_few_others():
  everything = images(6)
  true, others = everything.take(np.array([0, 3])), everything.take(np.array([1, 2]))
  with pytest.raises(ValueError, match="there is no other image of class 0"):
    leakage.random_guess(2, true, others, 0)


def test_label_accuracy():
  labels = np.array([0, 0, 1, 2])
  assert leakage.label_accuracy(np.array([2, 1, 1]), labels) == 1
  assert leakage.label_accuracy(np.array([0, 1, 3]), labels) == 0.5
  assert leakage.label_accuracy(np.array([0, 4, 0]), labels) == 0.25
  # Fewer were found than there are.
  assert leakage.label_accuracy(np.array([2, 0, 0]), labels) == 1
  assert leakage.label_accuracy(np.array([0, 1, 2]), labels) == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [1, 2, 7, 10, 33])
def test_label_accuracy_of_a_guess(count):
  rng = np.random.default_rng(count)
  labels = rng.integers(0, 5, 12)
  guesses = [
    leakage.label_accuracy(
      np.bincount([*np.tile(np.arange(5), count // 5), *rest], minlength=5), labels
    )
    for rest in itertools.combinations(range(5), count % 5)
  ]
  assert leakage.guess_label_accuracy(count, labels, 5) == pytest.approx(np.mean(guesses))
