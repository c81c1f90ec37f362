"""What a run of `experiments.leakage` writes of a victim."""

import numpy as np
import pandas as pd
import pytest

from experiments import leakage_run, leakage_setup
from tests.experiments.test_leakage import SHORT, config, run
from tff_attacks.leakage import leakage
from tff_attacks.metrics import leakage as metrics


def test_a_reconstruction_of_any_scale_is_fitted_before_it_is_scored(tmp_path):
  result = run(*SHORT, "attack=cocktail_party", "batch_size=8", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  with np.load(tmp_path / "victim_0.npz") as arrays:
    assert arrays["any_scale"]
    pixels, true = ((np.clip(arrays[name], -1, 1) + 1) / 2 for name in ("found", "true"))
  psnr = -10 * np.log10(((pixels - true) ** 2).mean(axis=(1, 2, 3)))
  assert pd.read_csv(tmp_path / "scores.csv")["psnr"][0] == pytest.approx(psnr.mean(), rel=1e-3)
  # Fitted in brightness, each has the mean of its image.
  np.testing.assert_allclose(pixels.mean(axis=(1, 2, 3)), true.mean(axis=(1, 2, 3)), atol=0.02)


def test_the_row_of_a_victim():
  setup = leakage_setup.prepare(config())
  data = setup.dataset.train.take(np.arange(4))._replace(labels=np.array([0, 1, 2, 2], np.int32))
  found = leakage.Reconstruction(data.images, np.array([2, 0, 3, 1], np.int32), np.zeros(5))
  compared = metrics.compare(data.images, data, setup.dataset.test, 0, False)
  row = leakage_run._row(found, compared, data, setup, 1.5, 5)
  assert (row["label_accuracy"], row["copies"], row["images"], row["steps"]) == (0.75, 4, 4, 5)
  unknown = found._replace(labels=np.full(4, leakage.UNKNOWN, np.int32))
  assert np.isnan(leakage_run._row(unknown, compared, data, setup, 1.5, 5)["label_accuracy"])
