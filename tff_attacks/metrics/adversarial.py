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
    share if copies == 1 else 1 - (1 - share) ** copies,
  )


SETTING = ["stack", "total_variation", "tensors"]
"""Columns that tell the ways to attack apart."""


def settings(scores: pd.DataFrame) -> pd.DataFrame:
  """Shares by gradient and setting.

  Args:
    scores: A row for each image, gradient and setting, with `gradient`, those of `SETTING`, `hits`
      (copies called by the gradient's label), `hits_in_range` (after pixels are cut off at
      [-1, 1]), `true_hits` (called by the true label), `noise` (share of noise called by the
      gradient's label), `confidence`, `psnr`, `ssim`, `identified` and `seconds`.

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
        **found[["confidence", "psnr", "ssim", "identified", "seconds"]].mean().to_dict(),
      }
    )
  return pd.DataFrame(rows)


def _wilson(successes: int, trials: int) -> Interval:
  return tuple(stats.binomtest(successes, trials).proportion_ci(method="wilson"))
