import numpy as np
import pandas as pd
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


def test_settings_count_each_kind_of_hit_by_itself():
  names = ("hits_norm", "confidence", "hits_psnr", "others_psnr", "ssim", "identified", "seconds")
  means = {name: [i, i + 1.0] for i, name in enumerate(names)}
  scores = pd.DataFrame(
    {"gradient": "true_label", "stack": 4, "total_variation": 0.1, "tensors": "all",
     "hits": [4, 2], "hits_in_range": [3, 1], "true_hits": [1, 0], "noise": [0.0, 0.5]} | means
  )  # fmt: skip
  (row,) = adversarial.settings(scores).to_dict("records")
  assert row["num_images"] == 2
  assert (row["copies"], row["images"]) == (6 / 8, 1)
  assert (row["copies_in_range"], row["copies_true"]) == (4 / 8, 1 / 8)
  assert (row["copies_noise"], row["images_noise"]) == (0.25, (0 + 1 - 0.5**4) / 2)
  assert [row[name] for name in names] == [i + 0.5 for i in range(7)]
