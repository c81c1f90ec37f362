"""How near reconstructions come to the images that they are of, beside what a guess would reach.

Scores of a pair mean nothing by themselves: PSNR rises with a picture's flatness, and with more
candidates than reconstructions the best match is good by chance. So each stands beside nulls.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize

from tff_attacks.data.datasets import Images


class Scores(NamedTuple):
  """Means over the matched pairs.

  Attributes:
    mse: Mean squared error of pixels in [0, 1].
    psnr: Peak signal-to-noise ratio in dB, of pixels in [0, 1]; 10 is no likeness, 25 a good copy.
    ssim: Structural similarity, at most 1.
    identified: Share whose nearest image among those of the true label is the true image.
  """

  mse: float
  psnr: float
  ssim: float
  identified: float


def match(found: np.ndarray, true: np.ndarray) -> np.ndarray:
  """The true image for each reconstruction, none taken twice, with the least sum of MSE.

  Args:
    found: float `[n, height, width, channels]`.
    true: float `[m, height, width, channels]`, m >= n.

  Returns:
    int `[n]`, indices of true images.

  Raises:
    ValueError: If there are fewer true images than reconstructions.
  """
  if len(found) > len(true):
    raise ValueError(f"there are {len(found)} reconstructions of {len(true)} images")
  return optimize.linear_sum_assignment(_distances(found, true))[1]


def score(found: np.ndarray, matched: Images, candidates: Images) -> Scores:
  """Scores reconstructions against their true images.

  Args:
    found: float `[n, height, width, channels]` in [-1, 1]; what is outside is cut off.
    matched: The `n` true images.
    candidates: Among which each reconstruction looks for its own; the true ones are there.
  """
  pixels, true = _unit(found), _unit(matched.images)
  size = min(pixels.shape[1:3])
  ssim = tf.image.ssim(pixels, true, 1.0, filter_size=min(11, size)).numpy()
  return Scores(
    mse=float(((pixels - true) ** 2).mean()),
    psnr=float(tf.image.psnr(pixels, true, 1.0).numpy().mean()),
    ssim=float(ssim.mean()),
    identified=float(np.mean(list(_identified(found, matched, candidates)))),
  )


def random_guess(matched: Images, candidates: Images, seed: int) -> Scores:
  """A null: another image of the same label in place of each reconstruction."""
  rng = np.random.default_rng(seed)
  guesses = []
  for image, label in zip(matched.images, matched.labels, strict=True):
    of_label = candidates.images[candidates.labels == label]
    others = of_label[(of_label != image).any(axis=(1, 2, 3))]
    guesses.append(rng.choice(others) if len(others) else np.zeros_like(image))
  return score(np.stack(guesses), matched, candidates)


def mean_guess(matched: Images, candidates: Images) -> Scores:
  """A null: the mean of all candidates in place of each reconstruction."""
  mean = candidates.images.mean(axis=0)
  return score(np.broadcast_to(mean, matched.images.shape), matched, candidates)


def _identified(found, matched, candidates):
  for one, image, label in zip(found, matched.images, matched.labels, strict=True):
    of_label = candidates.images[candidates.labels == label]
    nearest = of_label[_distances(one[np.newaxis], of_label).argmin()]
    yield np.array_equal(nearest, image)


def _distances(found, true) -> np.ndarray:
  """Sums of squared differences `[n, m]` of images in [-1, 1]."""
  found, true = (np.clip(x, -1, 1).reshape(len(x), -1) for x in (found, true))
  return np.stack([((one - true) ** 2).sum(axis=1) for one in found])


def _unit(images) -> np.ndarray:
  return ((np.clip(images, -1, 1) + 1) / 2).astype(np.float32)
