"""How often a model calls reconstructions by the label that they were made with."""

from typing import NamedTuple

import numpy as np
from scipy import stats

Interval = tuple[float, float]


class Rates(NamedTuple):
  """Shares over several images, each reconstructed in as many copies.

  Attributes:
    copies: Share (a) of all copies that are called so.
    copies_interval: Its 95% interval, as if copies of an image were independent.
    images: Share (b) of the images with at least one such copy.
    images_interval: Its 95% interval.
    independent: The share (b) that independent copies with share (a) would have, 1 - (1 - a)^B.
  """

  copies: float
  copies_interval: Interval
  images: float
  images_interval: Interval
  independent: float


def rates(hits: np.ndarray, copies: int) -> Rates:
  """Shares of copies and of images, with Wilson's intervals.

  Args:
    hits: int `[n]`, for each image how many of its copies are called so.
    copies: B, copies of each image.
  """
  share = float(hits.sum()) / (hits.size * copies)
  return Rates(
    share,
    _wilson(int(hits.sum()), hits.size * copies),
    float((hits > 0).mean()),
    _wilson(int((hits > 0).sum()), hits.size),
    1 - (1 - share) ** copies,
  )


def paired_p_value(first: np.ndarray, second: np.ndarray) -> float:
  """Two-sided p-value of a sign-flip permutation test: is the mean of the differences zero?

  Args:
    first: float `[n]`.
    second: float `[n]`, of the same images.

  Returns:
    NaN where the two nowhere differ.
  """
  differences = first - second
  if not differences.any():
    return np.nan
  test = stats.permutation_test(
    (differences,), np.mean, permutation_type="samples", n_resamples=9999, random_state=0
  )
  return float(test.pvalue)


def _wilson(successes: int, trials: int) -> Interval:
  return tuple(stats.binomtest(successes, trials).proportion_ci(method="wilson"))
