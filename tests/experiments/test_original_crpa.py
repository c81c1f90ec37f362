import numpy as np
import pandas as pd
import pytest

from experiments import original_crpa
from experiments.options import ConfigError
from tests import programs
from tff_attacks.data import datasets

KNOWN = """
BATCH_SIZE = 250
a = tf.keras.optimizers.SGD(learning_rate=1e-3, decay=1e-7)
b = tf.keras.optimizers.SGD(learning_rate=1e-4, decay=1e-7)
"""


def checkout(folder, source):
  (folder / "experiments").mkdir()
  path = folder / "experiments" / "federated_gan.py"
  path.write_text(source)
  return path


def test_fits_the_source_without_touching_the_file(tmp_path):
  path = checkout(tmp_path, KNOWN)
  config = original_crpa.OriginalConfig(original=str(tmp_path), batch_size=25)
  source = original_crpa.load_source(config)
  assert "BATCH_SIZE = 25\n" in source
  assert source.count("tf.keras.optimizers.legacy.SGD") == 2
  assert path.read_text() == KNOWN


def test_refuses_a_missing_or_different_checkout(tmp_path):
  config = original_crpa.OriginalConfig(original=str(tmp_path))
  with pytest.raises(ConfigError, match=r"original: .* does not exist"):
    original_crpa.load_source(config)
  checkout(tmp_path, KNOWN.replace("250", "32"))
  with pytest.raises(ConfigError, match="lacks 'BATCH_SIZE = 250'"):
    original_crpa.load_source(config)


@pytest.mark.slow
@pytest.mark.parametrize(("poison", "adversary"), [(6, 0), (0, 3)])
def test_the_original_gets_our_pair_and_our_adversary(poison, adversary, shared_data, tmp_path):
  checkout = programs.original_checkout(tmp_path / "checkout")
  result = programs.run(
    "original_crpa", f"original={checkout}", f"data_dir={shared_data}", "images_per_class=10",
    "rounds=1", "batch_size=5", "poison_images=2", "reconstruct=4", f"poison={poison}",
    f"output_dir={tmp_path / 'results'}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  expected = {
    "CLASS_TO_ATTACK": poison, "CLASS_TO_GENERATE": 4, "GPU": "", "MALICIOUS_ATTACKER": adversary,
    "NUM_TO_POISON": 2,
  }  # fmt: skip
  # Of ten clients; then the images of the test set, and those of the training set.
  sizes = [10, 10, 10_000, 10_000, 60_000, 60_000]
  assert f"{sorted(expected.items())} {sizes}" in result.stdout


def test_the_original_gets_our_images():
  dataset = datasets.load("digits")
  clients = [dataset.train.take(slice(3)), dataset.train.take(slice(3, 8))]
  found = original_crpa._loader(dataset, clients).load_images(distribution="any")
  images, labels, test_images, test_labels, train_images, train_labels, _ = found
  for index, client in enumerate(clients):
    np.testing.assert_array_equal(images[index], client.images)
    np.testing.assert_array_equal(labels[index], client.labels)
  assert test_images is dataset.test.images
  assert test_labels is dataset.test.labels
  assert train_images is dataset.train.images
  assert train_labels is dataset.train.labels


@pytest.mark.slow
def test_ours_stands_beside_it(shared_data, tmp_path):
  checkout, folder = programs.original_checkout(tmp_path / "checkout"), tmp_path / "results"
  result = programs.run(
    "compare", f"original={checkout}", f"data_dir={shared_data}", "images_per_class=10", "rounds=3",
    "batch_size=5", "poison_images=2", "repetitions=1", f"output_dir={folder}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  measured = pd.read_csv(folder / "original.csv", index_col="code")
  assert set(measured.index) == {"original_crpa", "crpa"}
  assert measured.loc["original_crpa", "test_accuracy,_last_round"] == 0.1
  ours = pd.read_csv(folder / "crpa_seed0" / "metrics.csv")
  assert measured.loc["crpa", "AAA"] == pytest.approx(ours["attack_accuracy"].mean())
  assert "| original | ours |" in (folder / "compare.md").read_text()
