"""How often a model calls reconstructions by the label that they were made with."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

Interval = tuple[float, float]


class Rates(NamedTuple):
  """Shares over several images, each reconstructed in as many copies.

  Attributes:
    copies: Share (a) of all copies that are called so.
    copies_interval: Its 95% interval, as if copies of an image were one: the widest it can be.
    images: Share (b) of the images with at least one such copy.
    images_interval: Its 95% interval.
    independent: 1 - (1 - a)^B, the share (b) of copies that are independent, and called so as often
      for each image as for any other. Where images differ, independent ones have less.
  """

  copies: float
  copies_interval: Interval
  images: float
  images_interval: Interval
  independent: float


def rates(hits: np.ndarray, copies: int) -> Rates:
  """Shares of copies and of images, with exact binomial intervals.

  Args:
    hits: int `[n]`, for each image how many of its copies are called so.
    copies: B, copies of each image.
  """
  share, of_images = float((hits / copies).mean()), float((hits > 0).mean())
  return Rates(
    share,
    _clopper_pearson(share, hits.size),
    of_images,
    _clopper_pearson(of_images, hits.size),
    share if copies == 1 else 1 - (1 - share) ** copies,
  )


SETTING = ["stack", "total_variation", "tensors"]
"""Columns that tell the ways to attack apart."""

_MEANS = [
  "hits_norm", "confidence", "hits_psnr", "others_psnr", "ssim", "identified", "seconds",
]  # fmt: skip


def settings(scores: pd.DataFrame) -> pd.DataFrame:
  """Shares by gradient and setting.

  Args:
    scores: A row for each image, gradient and setting, with `gradient`, those of `SETTING`, `hits`
      (copies called by the gradient's label), `hits_in_range` (after pixels are cut off at
      [-1, 1]), `true_hits` (called by the true label), `noise` (share of noise called by the
      gradient's label), `hits_norm` (the hits' share of the norms of all copies' gradients),
      `confidence`, `hits_psnr` and `others_psnr` (of those called so and of the others; NaN of
      none), `ssim`, `identified` and `seconds`.

  Returns:
    A row for each gradient and setting: how many images; (a) as `copies` and (b) as `images`, with
    the bounds of their intervals, and beside them what noise reaches, and independent copies;
    (a) in range, and with the true label; and means of what else the scores hold.
  """
  rows = []
  for key, found in scores.groupby(["gradient", *SETTING], sort=False):
    stack = key[1]
    all_copies = stack * len(found)
    shares = rates(found["hits"].to_numpy(), stack)
    rows.append(
      {
        **dict(zip(["gradient", *SETTING], key, strict=True)),
        "num_images": len(found),
        "copies": shares.copies,
        "copies_low": shares.copies_interval[0],
        "copies_high": shares.copies_interval[1],
        "copies_in_range": found["hits_in_range"].sum() / all_copies,
        "copies_true": found["true_hits"].sum() / all_copies,
        "copies_noise": found["noise"].mean(),
        "images": shares.images,
        "images_low": shares.images_interval[0],
        "images_high": shares.images_interval[1],
        "images_independent": shares.independent,
        "images_noise": (1 - (1 - found["noise"]) ** stack).mean(),
        **found[_MEANS].mean().to_dict(),
      }
    )
  return pd.DataFrame(rows)


def _clopper_pearson(share: float, trials: int) -> Interval:
  """As in `scipy.stats.binomtest`, also where the share is of no whole number of successes."""
  successes, failures = share * trials, (1 - share) * trials
  low = stats.beta.ppf(0.025, successes, failures + 1) if successes > 0 else 0.0
  high = stats.beta.ppf(0.975, successes + 1, failures) if failures > 0 else 1.0
  return float(low), float(high)
