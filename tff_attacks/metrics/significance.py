"""Whether a difference is more than chance."""

import numpy as np
from scipy import stats


def paired_p_value(first: np.ndarray, second: np.ndarray) -> float:
  """Two-sided p-value of a sign-flip permutation test: is the mean of the differences zero?

  Args:
    first: float `[n]`.
    second: float `[n]`, of the same cases.

  Returns:
    NaN for a single case, where the two nowhere differ, or where a difference is not finite.
  """
  differences = np.subtract(first, second)
  if differences.size < 2 or not differences.any() or not np.isfinite(differences).all():
    return np.nan
  test = stats.permutation_test(
    (differences,), np.mean, permutation_type="samples", n_resamples=9999, random_state=0
  )
  return float(test.pvalue)
