"""Robbing the Fed: images read off the gradients of an imprint block (`models.imprint`).

A malicious server, for it changes the model. Nothing is searched for. Source:
https://arxiv.org/abs/2110.13057.
"""

import numpy as np
from scipy import stats

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.leakage import leakage, search
from tff_attacks.leakage.leakage import Reconstruction

_EMPTY = 1e-3
"""Below this share of the largest gradient a bin is taken for empty: there may be only rounding."""


def thresholds(bins: int, auxiliary: Images | None = None) -> np.ndarray:
  """Thresholds of brightness between which as many images should lie.

  Args:
    bins: How many.
    auxiliary: Images whose quantiles are taken; None takes brightness for Gaussian, with mean
      -0.1 and standard deviation 0.3 for pixels in [-1, 1].

  Returns:
    float32 `[bins]`, rising.
  """
  shares = np.arange(1, bins) / bins
  if auxiliary is None:
    found = stats.norm(-0.1, 0.3).ppf(shares)
  else:
    found = np.quantile(auxiliary.images.mean(axis=(1, 2, 3)), shares)
  lowest = min([-1.0, *found]) - 0.01  # Below every image.
  return np.array([lowest, *found], np.float32)


def robbing_the_fed(model_fn: keras_state.ModelFn) -> leakage.Reconstruct:
  """Reads off an image for each bin, those with the largest gradients first.

  Units i and i + 1 differ by the images between their thresholds alone: the difference of their
  gradients, over that of their biases' gradients, is the only image there, or a mixture of several.

  Args:
    model_fn: Builds the global model, which begins with an imprint block.

  Returns:
    The attack. It finds as many images as the client has, or as there are bins with any, but for
    images that a trained model is so sure of that they hardly have a gradient; their labels are
    unknown. It raises a `ValueError` if no unit was active.

  Raises:
    ValueError: If the model does not begin with a fully connected layer on all pixels.
  """
  model = model_fn()
  image_shape = model.input_shape[1:]
  if not leakage.reads_pixels(model):
    raise ValueError("model: needs an imprint block at its beginning")

  def reconstruct(observation, seed, watch=search.unwatched):
    del seed, watch  # Nothing is random, and there are no steps.
    kernel, bias, *_ = leakage.mean_gradient(observation)
    # Beyond the last threshold nothing is active.
    differences = np.diff(kernel, axis=1, append=np.zeros_like(kernel[:, :1]))
    weights = np.diff(bias, append=np.zeros_like(bias[:1]))
    order = np.argsort(-np.abs(weights), kind="stable")[: observation.num_samples]
    order = order[np.abs(weights[order]) > _EMPTY * np.abs(weights).max()]
    if not order.size:
      raise leakage.UnusableError("update: no unit of the imprint block was active")
    pixels = (differences[:, order] / weights[order]).T
    images = np.clip(pixels, -1, 1).reshape(-1, *image_shape).astype(np.float32)
    labels = np.full(len(images), leakage.UNKNOWN, np.int32)
    return Reconstruction(images, labels, np.zeros(0, np.float32))

  return reconstruct
