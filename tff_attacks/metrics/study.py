"""Statistics over the pairs of a study: agreement with another one, and patterns."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats


class Agreement(NamedTuple):
  """How two measurements of the same pairs agree.

  Attributes:
    pairs: How many pairs both have.
    pearson: Linear correlation.
    spearman: Rank correlation.
    mean_absolute_difference: Mean of |first - second|.
  """

  pairs: int
  pearson: float
  spearman: float
  mean_absolute_difference: float


def agreement(first: pd.Series, second: pd.Series) -> Agreement:
  """Compares two series by their common index; correlations need three pairs."""
  both = pd.concat([first, second], axis=1, join="inner").dropna()
  one, other = both.to_numpy().T
  correlated = len(both) > 2 and one.std() > 0 and other.std() > 0
  return Agreement(
    len(both),
    float(stats.pearsonr(one, other)[0]) if correlated else float("nan"),
    float(stats.spearmanr(one, other)[0]) if correlated else float("nan"),
    float(np.abs(one - other).mean()) if len(both) else float("nan"),
  )


class Pattern(NamedTuple):
  """How much of the spread over pairs a class alone explains.

  Attributes:
    share: Share of the variance that the means of its rows, or columns, explain.
    p_value: How often shuffled values explain as much.
  """

  share: float
  p_value: float


def pattern(values: pd.Series, level: str, permutations: int = 9999) -> Pattern:
  """Tests whether values depend on one class of their pair, by permutation.

  Args:
    values: Indexed by pairs.
    level: Name of the index level whose classes are tested.
    permutations: Number of shuffles, always the same ones.

  Returns:
    Not numbers where the values do not vary, or one of them is not finite.
  """
  if not values.std() > 0 or not np.isfinite(values).all():
    return Pattern(float("nan"), float("nan"))
  codes = pd.factorize(values.index.get_level_values(level))[0]
  counts = np.bincount(codes)
  centred = values.to_numpy() - values.mean()

  def share(sample):
    return (np.bincount(codes, sample) ** 2 / counts).sum() / (sample**2).sum()

  rng = np.random.default_rng(0)
  observed = share(centred)
  shuffled = [share(rng.permutation(centred)) for _ in range(permutations)]
  exceeding = np.sum(np.array(shuffled) >= observed - 1e-12)
  return Pattern(float(observed), float((exceeding + 1) / (permutations + 1)))


def spread_over_noise(values: pd.DataFrame) -> float:
  """Range of the pairs' means over the pooled standard deviation of their seeds.

  Args:
    values: A row for each pair, a column for each seed; at least two seeds.
  """
  pooled = np.sqrt(values.var(axis=1, ddof=1).mean())
  means = values.mean(axis=1)
  return float((means.max() - means.min()) / pooled)
