"""The independent classifier, and what it says of noise."""

import numpy as np
import pytest

from experiments import judging
from tff_attacks.data import datasets


def test_the_judge_says_how_far_to_trust_it():
  judge = judging.judge("digits", None, 0, 0)
  test = datasets.load("digits").test
  assert judge.accuracy == np.mean(judge.classify(test.images) == test.labels)
  assert judge.accuracy > 0.9
  noise = np.random.default_rng(7).uniform(-1, 1, [500, *test.images.shape[1:]])
  shares = np.bincount(judge.classify(noise.astype(np.float32)), minlength=10) / 500
  np.testing.assert_allclose(judge.of_noise, shares, atol=0.1)
  assert judge.of_noise.sum() == pytest.approx(1)
  about = judge.about(3)
  assert about == {"judge_accuracy": judge.accuracy, "recognised_noise": judge.of_noise[3]}
