"""How much a set of reconstructions resembles the class that it should show.

Several judges, since each alone is easily fooled: a classifier by an adversarial
pattern, the mean image by a single good copy, the distance by a blur.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import distance

RECOGNISED = 0.4
"""Least share that is called G for G to be reconstructed, see `succeeded`."""
CORRELATED = 0.2
"""And least correlation: five standard deviations of that of noise, of 28x28 pixels."""


class Quality(NamedTuple):
  """Scores of a set of reconstructions of class G.

  Attributes:
    recognised: Share that an independent classifier calls G.
    correlation: Pearson correlation of the mean reconstruction with G's mean image.
    other_correlation: The highest such correlation with any other class.
    distance_ratio: Mean distance of a reconstruction to its nearest real image of G,
      relative to the same among real images of G; 1 is as near as a real one.
    diversity: Mean distance between two reconstructions, relative to real images of G;
      near 0 when the generator has collapsed.
  """

  recognised: float
  correlation: float
  other_correlation: float
  distance_ratio: float
  diversity: float


def succeeded(recognised: Any, correlation: Any, other_correlation: Any) -> Any:
  """Whether a set of reconstructions shows class G: recognised, and like it more than like others.

  A classifier alone may recognise a pattern without any likeness; so the mean image must
  correlate with G, by more than noise does.

  Args:
    recognised: Of one `Quality`, or arrays of many.
    correlation: The same.
    other_correlation: The same.

  Returns:
    bool, or an array of them; False where they are not numbers.
  """
  alike = (correlation >= CORRELATED) & (correlation > other_correlation)
  return (recognised >= RECOGNISED) & alike


def quality(
  generated: np.ndarray,
  real: np.ndarray,
  labels: np.ndarray,
  reconstruct: int,
  classify: Callable[[np.ndarray], np.ndarray],
  sample: int = 200,
) -> Quality:
  """Judges reconstructions.

  Args:
    generated: float `[n, height, width, channels]`, the reconstructions.
    real: float `[m, height, width, channels]`, real images of all classes.
    labels: int `[m]`, their classes.
    reconstruct: Class G.
    classify: Images -> int `[n]`, predictions of an independent classifier.
    sample: Real images of G (the first ones) used for distances.

  Returns:
    The scores; not numbers if the reconstructions are not.
  """
  if not np.isfinite(generated).all():
    return Quality(*[float("nan")] * len(Quality._fields))
  flat = _flatten(generated)
  real_flat = _flatten(real)
  correlations = class_correlations(flat, real_flat, labels)
  of_class = real_flat[labels == reconstruct][:sample]
  return Quality(
    recognised=float(np.mean(classify(generated) == reconstruct)),
    correlation=float(correlations[reconstruct]),
    other_correlation=float(np.delete(correlations, reconstruct).max()),
    distance_ratio=_nearest(flat, of_class) / _nearest_other(of_class),
    diversity=float(distance.pdist(flat).mean() / distance.pdist(of_class).mean()),
  )


class EuclideanDistance(NamedTuple):
  """Mean Euclidean distance between a generated and a real image, in three normalisations.

  Attributes:
    distance: Pixels in [-1, 1].
    distance_unit: Pixels in [0, 1].
    distance_rms: Pixels in [0, 1], over the square root of their number: the distance of
      two pixels, root mean square.
  """

  distance: float
  distance_unit: float
  distance_rms: float


def euclidean_distance(generated: np.ndarray, real: np.ndarray) -> EuclideanDistance:
  """Averages the distance over all pairs of a generated and a real image.

  Source: GAN information stealing, Eq. 6, which does not say how pixels are scaled, nor which
  image of the victim's a generated one is compared with.

  Args:
    generated: float `[n, height, width, channels]` in [-1, 1].
    real: float `[m, height, width, channels]` in [-1, 1].
  """
  flat, real_flat = _flatten(generated), _flatten(real)
  mean = float(distance.cdist(flat, real_flat).mean())
  return EuclideanDistance(mean, mean / 2, mean / 2 / np.sqrt(flat.shape[1]))


def class_correlations(generated: np.ndarray, real: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Correlates the mean reconstruction with the mean image of each class.

  Args:
    generated: float `[n, pixels]`.
    real: float `[m, pixels]`.
    labels: int `[m]`, from 0 to C - 1.

  Returns:
    float `[C]`, Pearson correlations (0 where an image is constant).
  """
  means = [real[labels == label].mean(axis=0) for label in range(labels.max() + 1)]
  with np.errstate(invalid="ignore"):
    matrix = np.corrcoef([generated.mean(axis=0), *means])
  return np.nan_to_num(matrix[0, 1:])


def _nearest(images: np.ndarray, others: np.ndarray) -> float:
  return float(distance.cdist(images, others).min(axis=1).mean())


def _nearest_other(images: np.ndarray) -> float:
  if len(images) < 2:
    return float("nan")
  distances = distance.cdist(images, images)
  np.fill_diagonal(distances, np.inf)
  return float(distances.min(axis=1).mean())


def _flatten(images: np.ndarray) -> np.ndarray:
  return images.reshape(images.shape[0], -1)
