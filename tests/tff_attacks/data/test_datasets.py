import numpy as np
import pytest
from PIL import Image

from tff_attacks.data import datasets


def write(folder, name="mnist", **changes):
  rng = np.random.default_rng(0)
  arrays = {
    "x_train": rng.integers(0, 256, [20, 28, 28], dtype=np.uint8),
    "y_train": np.arange(20) % 10,
    "x_test": rng.integers(0, 256, [10, 28, 28], dtype=np.uint8),
    "y_test": np.arange(10),
  }
  arrays |= changes
  np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})


def test_digits_are_embedded_and_split_by_class():
  data = datasets.load("digits")
  assert data.image_shape == (28, 28, 1)
  assert data.train.images.dtype == np.float32
  assert (data.train.images.min(), data.train.images.max()) == (-1, 1)
  assert (data.train.labels.size, data.test.labels.size) == (1437, 360)
  shares = [np.bincount(s.labels) / s.labels.size for s in (data.train, data.test)]
  np.testing.assert_allclose(shares[0], shares[1], atol=0.003)


def test_digits_are_recognisable_without_us():
  from sklearn import svm

  data = datasets.load("digits")
  classifier = svm.SVC().fit(data.train.images.reshape(1437, -1), data.train.labels)
  assert classifier.score(data.test.images.reshape(360, -1), data.test.labels) > 0.95


def test_loads_keras_layout_and_scales(tmp_path):
  write(tmp_path)
  data = datasets.load("mnist", str(tmp_path))
  with np.load(tmp_path / "mnist.npz") as file:
    np.testing.assert_allclose(
      data.train.images[..., 0], (file["x_train"] - 127.5) / 127.5, atol=1e-6
    )
  assert data.train.labels.dtype == np.int32


def test_real_mnist(shared_data):
  data = datasets.load("mnist", shared_data)
  assert (data.train.labels.size, data.test.labels.size) == (60_000, 10_000)
  assert datasets.load("fashion_mnist", shared_data).image_shape == (28, 28, 1)


def test_cifar_in_colour_and_as_grey_28(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, [20, 32, 32, 3], np.uint8)
  write(
    tmp_path,
    "cifar10",
    x_train=pixels,
    x_test=pixels[:10],
    y_train=(np.arange(20) % 10)[:, None],
    y_test=np.arange(10)[:, None],
  )
  colour = datasets.load("cifar10", str(tmp_path))
  assert colour.image_shape == (32, 32, 3)
  assert colour.train.labels.shape == (20,)
  np.testing.assert_allclose(colour.train.images, pixels / 127.5 - 1, atol=1e-6)
  as_mnist = datasets.load("cifar10_grey28", str(tmp_path))
  assert as_mnist.image_shape == (28, 28, 1)
  grey = Image.fromarray(pixels[7]).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
  found = as_mnist.train.images[7, ..., 0]
  np.testing.assert_allclose(found, np.asarray(grey) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"y_test": None}, "lacks y_test"),
    ({"x_train": np.zeros([20, 27, 28], np.uint8)}, r"x_train .* must be uint8 \[n, 28, 28\]"),
    ({"x_train": np.zeros([20, 28, 28])}, "x_train .* must be uint8"),
    ({"y_train": np.arange(19) % 10}, "one label for each of the 20"),
    ({"y_train": np.full(20, 10)}, "integers from 0 to 9"),
    ({"y_train": np.array([object()] * 20)}, r"data_dir: .* is not a readable"),
    ({"x_test": np.zeros([0, 28, 28], np.uint8), "y_test": np.zeros(0, int)}, "empty"),
  ],
)
def test_refuses_bad_arrays(tmp_path, changes, message):
  write(tmp_path, **changes)
  with pytest.raises(ValueError, match=message):
    datasets.load("mnist", str(tmp_path))


def test_refuses_a_truncated_file(tmp_path):
  write(tmp_path)
  path = tmp_path / "mnist.npz"
  path.write_bytes(path.read_bytes()[:-2000])
  with pytest.raises(ValueError, match="not a readable"):
    datasets.load("mnist", str(tmp_path))


@pytest.mark.parametrize("content", [b"<html>Not found</html>", b"", b"\x93NUMPY\x01\x00"])
def test_refuses_what_is_no_npz(tmp_path, content):
  (tmp_path / "mnist.npz").write_bytes(content)
  with pytest.raises(ValueError, match=r"data_dir: .* is not a readable"):
    datasets.load("mnist", str(tmp_path))


def test_refuses_an_array_that_is_no_archive(tmp_path):
  np.save(tmp_path / "x.npy", np.zeros(3))
  (tmp_path / "x.npy").rename(tmp_path / "mnist.npz")
  with pytest.raises(ValueError, match=r"data_dir: .* is not a readable"):
    datasets.load("mnist", str(tmp_path))


def test_names_both_ways_when_there_is_no_data(tmp_path, monkeypatch):
  import tensorflow as tf

  def offline():
    raise Exception("URL fetch failure")

  with pytest.raises(FileNotFoundError, match="leave data_dir out to download"):
    datasets.load("mnist", str(tmp_path))
  monkeypatch.setattr(tf.keras.datasets.mnist, "load_data", offline)
  with pytest.raises(FileNotFoundError, match="Connect to the network, or give data_dir="):
    datasets.load("mnist")


def test_refuses_unknown_names():
  with pytest.raises(ValueError, match="unknown 'imagenet'; allowed: digits, mnist"):
    datasets.load("imagenet")
