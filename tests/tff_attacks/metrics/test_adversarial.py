import numpy as np
import pytest

from tff_attacks.metrics import adversarial


def test_shares_of_copies_and_of_images():
  found = adversarial.rates(np.array([0, 1, 4, 0]), copies=4)
  assert found.copies == 5 / 16
  assert found.images == 0.5
  assert found.independent == pytest.approx(1 - (11 / 16) ** 4)


@pytest.mark.parametrize(
  ("hits", "low", "high"),
  # R: prop.test(x, 10, correct = FALSE)
  [([0] * 10, 0.0, 0.2775328), ([1] * 5 + [0] * 5, 0.2365931, 0.7634069)],
)
def test_wilsons_interval(hits, low, high):
  found = adversarial.rates(np.array(hits), copies=1)
  assert found.copies_interval == pytest.approx((low, high), abs=1e-6)
  assert found.images_interval == found.copies_interval
