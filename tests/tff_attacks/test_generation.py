"""What attacks that generate images share."""

import numpy as np
import pytest
import tensorflow as tf

from tff_attacks import generation


def test_mean_total_variation_counts_each_pixel_and_channel():
  images = np.random.default_rng(0).normal(size=[2, 5, 4, 3]).astype(np.float32)
  expected = sum(np.abs(np.diff(images, axis=axis)).sum() for axis in (1, 2)) / images.size
  assert float(generation.mean_total_variation(tf.constant(images))) == pytest.approx(
    expected, rel=1e-5
  )
