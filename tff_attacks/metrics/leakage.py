"""How near reconstructions come to the images that they are of, beside what a guess would reach.

Scores of a pair mean nothing by themselves: PSNR rises with a picture's flatness, and with more
candidates than reconstructions the best match is good by chance. So each stands beside nulls:
guesses that were matched to the true images in the same way.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize
from scipy.spatial import distance

from tff_attacks.data.datasets import Images

COPY_DB = 25
"""PSNR above which an image is a copy."""


class Scores(NamedTuple):
  """Means over the matched pairs.

  Attributes:
    mse: Mean squared error of pixels in [0, 1].
    psnr: Peak signal-to-noise ratio in dB, of pixels in [0, 1], an image counting 100 at most;
      10 is no likeness.
    copied: Share above `COPY_DB`.
    ssim: Structural similarity, at most 1.
    correlation: Of pixels, which counts neither brightness nor contrast; 0 where either image is
      flat.
    identified: Share whose nearest image among those of the true label is the true image.
  """

  mse: float
  psnr: float
  copied: float
  ssim: float
  correlation: float
  identified: float


class Matching(NamedTuple):
  """Reconstructions with their true images.

  Attributes:
    order: int `[n]`, indices of true images.
    images: float `[n, height, width, channels]`, the reconstructions, fitted if of any scale.
  """

  order: np.ndarray
  images: np.ndarray


def match(found: np.ndarray, true: np.ndarray, any_scale: bool = False) -> Matching:
  """The true image for each reconstruction, none taken twice, with the least sum of MSE.

  Args:
    found: float `[n, height, width, channels]`.
    true: float `[m, height, width, channels]`, m >= n.
    any_scale: Whether brightness, contrast and sign of a reconstruction are unknown: it is matched
      by the absolute correlation, and gets those that fit its true image best.

  Raises:
    ValueError: If there are fewer true images than reconstructions.
  """
  if len(found) > len(true):
    raise ValueError(f"there are {len(found)} reconstructions of {len(true)} images")
  if not any_scale:
    return Matching(optimize.linear_sum_assignment(_distances(found, true))[1], found)
  directions, targets = (_directions(images) for images in (found, true))
  _, order = optimize.linear_sum_assignment(-np.abs(directions @ targets.T))
  matched = true[order]
  means = matched.mean(axis=(1, 2, 3), keepdims=True)
  gains = (directions * (matched - means).reshape(len(found), -1)).sum(axis=1, keepdims=True)
  return Matching(order, means + (gains * directions).reshape(found.shape))


class Comparison(NamedTuple):
  """Reconstructions beside guesses.

  Attributes:
    matching: The reconstructions, matched.
    found: Their scores.
    guess: Those of other people's images, see `random_guess`.
    mean: Those of the mean of all of them, see `mean_guess`.
  """

  matching: Matching
  found: Scores
  guess: Scores
  mean: Scores


def compare(
  found: np.ndarray, true: Images, others: Images, seed: int, any_scale: bool = False
) -> Comparison:
  """Scores reconstructions, and guesses that are matched and looked for in the same way.

  Args:
    found: float `[n, height, width, channels]` in [-1, 1].
    true: The client's images, n or more.
    others: Images that are not the client's.
    seed: Of the guess.
    any_scale: See `match`.

  Raises:
    ValueError: If there are fewer true images, or too few others.
  """
  count = len(found)
  matching, scores = _score_matched(found, true, others, any_scale)
  return Comparison(
    matching,
    scores,
    random_guess(count, true, others, seed, any_scale),
    mean_guess(count, true, others, any_scale),
  )


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
  psnr = psnr_of_each(found, matched.images)
  return Scores(
    mse=float(((pixels - true) ** 2).mean()),
    psnr=float(psnr.mean()),
    copied=float((psnr > COPY_DB).mean()),
    ssim=float(ssim.mean()),
    correlation=float(_correlations(pixels, true).mean()),
    identified=float(np.mean(list(_identified(found, matched, candidates)))),
  )


def psnr_of_each(found: np.ndarray, matched: np.ndarray) -> np.ndarray:
  """PSNR `[n]` of images in [-1, 1], see `Scores`."""
  return np.minimum(tf.image.psnr(_unit(found), _unit(matched), 1.0).numpy(), 100)


def random_guess(
  count: int, true: Images, others: Images, seed: int, any_scale: bool = False
) -> Scores:
  """A null: images of other people, with labels of the client's.

  Args:
    count: Number of reconstructions.
    true: The client's images.
    others: Images that are not the client's.
    seed: Chooses them.
    any_scale: See `match`.

  Raises:
    ValueError: If there is no other image of a label.
  """
  rng = np.random.default_rng(seed)
  drawn = []
  for label in rng.choice(true.labels, count, replace=False):
    of_label = np.flatnonzero(others.labels == label)
    if not of_label.size:
      raise ValueError(f"there is no other image of class {label}")
    drawn.append(rng.choice(of_label))
  rest = others.take(np.delete(np.arange(len(others.labels)), drawn))
  return _score_matched(others.images[drawn], true, rest, any_scale)[1]


def mean_guess(count: int, true: Images, others: Images, any_scale: bool = False) -> Scores:
  """A null: the mean of all other images, in place of each reconstruction."""
  mean = others.images.mean(axis=0)
  return _score_matched(np.repeat(mean[np.newaxis], count, axis=0), true, others, any_scale)[1]


def label_accuracy(counts: np.ndarray, labels: np.ndarray) -> float:
  """The share of found labels that are right, in some order.

  Of K found for K images it is 1 - sum of |errors of counts| / 2K.

  Args:
    counts: int `[classes]`, how often each label was found; as often as there are images, or less.
    labels: int `[n]`, the true ones.
  """
  true = np.bincount(labels, minlength=counts.size)
  return float(1 - np.maximum(counts - true, 0).sum() / counts.sum())


def guess_label_accuracy(count: int, labels: np.ndarray, num_classes: int) -> float:
  """The mean `label_accuracy` of a guess: equally many labels of each class, the rest at random.

  Args:
    count: How many labels are guessed.
    labels: int `[n]`, the true ones.
    num_classes: Of how many classes.
  """
  each, rest = divmod(count, num_classes)
  true = np.bincount(labels, minlength=num_classes)
  right = np.minimum(true, each) + rest / num_classes * (true > each)
  return float(right.sum() / count)


def _score_matched(
  found: np.ndarray, true: Images, others: Images, any_scale: bool
) -> tuple[Matching, Scores]:
  candidates = Images(*(np.concatenate(parts) for parts in zip(true, others, strict=True)))
  matching = match(found, true.images, any_scale)
  return matching, score(matching.images, true.take(matching.order), candidates)


def _correlations(found, true):
  return (_directions(found) * _directions(true)).sum(axis=1)


def _directions(images: np.ndarray) -> np.ndarray:
  """Images `[n, pixels]` with mean 0 and norm 1, or 0 where they are flat."""
  centred = images.reshape(len(images), -1).astype(np.float64)
  centred -= centred.mean(axis=1, keepdims=True)
  norms = np.linalg.norm(centred, axis=1, keepdims=True)
  # What rounding leaves of a flat image must not be scaled up to norm 1.
  flat = norms <= 1e-6 * np.sqrt(centred.shape[1])
  return np.divide(centred, norms, out=np.zeros_like(centred), where=~flat)


def _identified(found, matched, candidates):
  for one, image, label in zip(found, matched.images, matched.labels, strict=True):
    of_label = candidates.images[candidates.labels == label]
    nearest = of_label[_distances(one[np.newaxis], of_label).argmin()]
    yield np.array_equal(nearest, image)


def _distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
  """Sums of squared differences `[n, m]` of images in [-1, 1]."""
  flat = (np.clip(images, -1, 1).reshape(len(images), -1) for images in (found, true))
  return distance.cdist(*flat, "sqeuclidean")


def _unit(images: np.ndarray) -> np.ndarray:
  return ((np.clip(images, -1, 1) + 1) / 2).astype(np.float32)
