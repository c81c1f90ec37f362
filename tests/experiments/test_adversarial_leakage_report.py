"""What the report says of scores that are made up here."""

import numpy as np
import pandas as pd

from experiments import adversarial_leakage_report as report
from experiments.adversarial_leakage_config import AdversarialLeakageConfig


def scores_of(hits, stack, gradient="true_label", **changes):
  count = len(hits)
  columns = {
    "image": range(count), "gradient": gradient, "stack": stack, "total_variation": 0.1,
    "tensors": "all", "hits": hits, "hits_in_range": hits, "true_hits": hits, "noise": 0.1,
    "hits_norm": 0.25, "confidence": 0.9, "hits_psnr": 8.0, "others_psnr": 20.0, "ssim": 0.0,
    "identified": 0.0, "seconds": 1.0,
  }  # fmt: skip
  return pd.DataFrame(columns | changes)


def describe(*parts, transfer=()):
  config = AdversarialLeakageConfig(
    model="resnet18_pooled", dataset="mnist", transfer=list(transfer)
  )
  accuracy = dict.fromkeys([config.model, *transfer], 0.99)
  return "\n".join(report.describe(config, pd.concat(parts), accuracy))


def test_the_report_stands_beside_the_papers_values():
  text = describe(scores_of([0, 1], 1), scores_of([1, 2], 2))
  assert "6%, 6% |" in text
  assert "| 75% (6% to 100%) | 50% | 25% | 75% |" in text
  assert "45%, 88% |" in text
  assert (
    "From stack 1 to 2 (TV 0.1, all): (a) rises (paired permutation test p = 1), (b) rises." in text
  )
  assert "| 19% |" in text  # 1 - 0.9^2, of noise.
  assert "wrong label" not in text


def test_each_number_is_in_its_own_column():
  score = scores_of([4, 4], 8, hits_in_range=3, true_hits=1, hits_psnr=9.5, ssim=0.25, noise=0.25)
  text = describe(score)
  assert "| 38% | 12% | 25% |" in text  # In range, true, of noise.
  assert "| 0.90 | 9.5 | 20.0 | 0.25 | 0% | 1 |" in text


def test_the_report_compares_with_the_control():
  true, wrong = scores_of([2] * 12, 2), scores_of([0] * 12, 2, "wrong_label")
  text = describe(true, wrong)
  assert "by that label in 100%, a wrong label's by that wrong label in 0% (paired" in text
  assert "drawn at random (p < 0.05), in 1 of 1 settings, less often in 0;" in text
  text = describe(true, scores_of([2] * 12, 2, "wrong_label", true_hits=0))
  assert "by that wrong label in 100%, and by the true label in 0% (paired" in text
  assert "The two differ for 0 of 12 images, too few to tell." in text
  mixed = scores_of([0, 1] * 6, 2), scores_of([1, 0] * 6, 2, "wrong_label")
  assert "in 0 of 1 settings, less often in 0;" in describe(*mixed)
  text = describe(scores_of([0] * 12, 2), scores_of([2] * 12, 2, "wrong_label"))
  assert "in 0 of 1 settings, less often in 1;" in text


def test_few_images_tell_nothing():
  for count, told in ((5, False), (6, True)):
    true, wrong = scores_of([2] * count, 2), scores_of([0] * count, 2, "wrong_label")
    text = describe(true, wrong)
    assert ("for 5 of 5 images, too few to tell: p cannot be below 0.0625." in text) != told
    assert ("in 1 of 1 settings" in text) == told


def test_a_setting_with_few_images_silences_no_other():
  many = scores_of([2] * 12, 2), scores_of([0] * 12, 2, "wrong_label")
  few = scores_of([4] * 3, 4), scores_of([0] * 3, 4, "wrong_label")
  text = describe(*many, *few)
  assert "for 3 of 3 images, too few to tell: p cannot be below 0.25." in text
  assert "in 1 of 1 settings" in text


def test_other_settings_stand_beside_the_first():
  text = describe(
    scores_of([2] * 12, 2), scores_of([1] * 12, 2, total_variation=0.2),
    scores_of([2] * 12, 2, tensors="alike"),
  )  # fmt: skip
  assert "- Stack 2: (a) is 100% with TV 0.1 and all, 50% with TV 0.2 and all (paired" in text
  assert "- Stack 2: (a) is 100% with TV 0.1 and all, 100% with TV 0.1 and alike." in text


def test_a_setting_without_a_reconstruction_has_no_transfer():
  other = {"mlp_image": 1, "mlp_noise": 0.25}
  text = describe(
    scores_of([2, 2], 2, "wrong_label", mlp_hits=[2, 1], **other),
    scores_of([2, 2], 4, mlp_hits=[1, 0], **other), transfer=["mlp"],
  )  # fmt: skip
  assert text.count("| mlp |") == 1


def test_transfer_stands_beside_noise_and_beside_a_wrong_label():
  other = {"mlp_image": 1, "mlp_noise": 0.25}
  true = scores_of([2, 2], 2, mlp_hits=[1, 0], **other)
  wrong = scores_of([2, 2], 2, "wrong_label", mlp_hits=[2, 1], **other)
  row = "| mlp | 0.990 | 2 | 0.1 | all | 100% | 100% | 25% (0% to 94%) | 25% |"
  assert f"{row} 75% |" in describe(true, wrong, transfer=["mlp"])
  assert f"{row}  |" in describe(true, transfer=["mlp"])


def test_flat_shares_do_not_rise():
  text = describe(scores_of([1, 0, 0, 0, 0], 1), scores_of([2, 0, 0, 0, 0], 2))
  assert "(a) stays the same, (b) stays the same" in text


def test_the_papers_values_stand_beside_its_own_setting_alone():
  for changes in ({"tensors": "alike"}, {"total_variation": 0.05}, {"gradient": "wrong_label"}):
    assert "6%, 6% |" not in describe(scores_of([0, 1], 1, **changes))


def test_attempts_that_could_not_be_run_are_counted():
  failed = scores_of([np.nan], 1).assign(failed="update: is zero")
  assert "1 attempts could not be run" in describe(scores_of([1, 0], 1), failed)


def test_no_rise_is_said():
  text = describe(scores_of([1, 1], 1), scores_of([1, 0], 2))
  assert "(a) does not rise at every step (paired" in text
  assert "(b) does not rise at every step." in text
