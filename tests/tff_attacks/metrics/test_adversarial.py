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
  # R: binom.test(x, 10)
  [([0] * 10, 0.0, 0.3084971), ([1] * 5 + [0] * 5, 0.1870860, 0.8129140)],
)
def test_exact_interval(hits, low, high):
  found = adversarial.rates(np.array(hits), copies=1)
  assert found.copies_interval == pytest.approx((low, high), abs=1e-6)
  assert found.images_interval == found.copies_interval


def test_the_interval_of_copies_holds_where_images_differ():
  """Copies of an image are alike: counted one by one, they would promise too much."""
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(400):
    hits = rng.binomial(8, rng.beta(0.5, 0.5, size=20))
    low, high = adversarial.rates(hits, copies=8).copies_interval
    covered += low <= 0.5 <= high
  assert covered >= 0.95 * 400
