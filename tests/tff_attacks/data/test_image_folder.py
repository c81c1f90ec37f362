import shutil

import numpy as np
import pytest
from PIL import Image

from tff_attacks.data import image_folder


@pytest.fixture
def folder(tmp_path):
  """Three classes of flat images, in Tiny ImageNet's layout."""
  for label in range(3):
    place = tmp_path / f"n{label:08d}" / "images"
    place.mkdir(parents=True)
    for i in range(10):
      pixels = np.full([20, 30, 3], 50 * label + i, np.uint8)
      pixels[:, :5] = 255  # Cut off by the crop to a square.
      Image.fromarray(pixels).save(place / f"{i}.png")
  return tmp_path


def test_classes_are_subfolders_and_pixels_are_scaled(folder):
  data = image_folder.load(str(folder), 16)
  assert data.num_classes == 3
  assert (len(data.train.labels), len(data.test.labels)) == (24, 6)
  assert data.image_shape == (16, 16, 3)
  assert len(np.unique(data.test.labels)) > 1  # Files are read class by class.
  values = []
  for part in (data.train, data.test):
    assert (part.images.dtype, part.labels.dtype) == (np.float32, np.int32)
    pixels = part.images * 127.5 + 127.5
    assert np.ptp(pixels, axis=(1, 2, 3)).max() < 1e-3
    np.testing.assert_array_equal(pixels[:, 0, 0, 0].round() // 50, part.labels)
    values += pixels[:, 0, 0, 0].round().astype(int).tolist()
  # Each image once, in one of both.
  assert sorted(values) == [50 * label + i for label in range(3) for i in range(10)]


def test_the_same_split_each_time(folder):
  first, again = (image_folder.load(str(folder), 8) for _ in range(2))
  np.testing.assert_array_equal(first.test.images, again.test.images)


def test_refusals(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match=r"data_dir: .*nowhere is no folder"):
    image_folder.load(str(tmp_path / "nowhere"), 8)
  with pytest.raises(ValueError, match="needs a subfolder for each of two or more classes"):
    image_folder.load(str(folder / "n00000000"), 8)
  (folder / "n00000000" / ".git").mkdir()
  with pytest.raises(ValueError, match="needs a subfolder for each of two or more classes"):
    image_folder.load(str(folder / "n00000000"), 8)
  (folder / "tiff").mkdir()
  (folder / "tiff" / "a.tif").write_bytes(b"an image of another format")
  with pytest.raises(ValueError, match=r"data_dir: .*tiff has no BMP, GIF, JPEG or PNG image"):
    image_folder.load(str(folder), 8)
  shutil.rmtree(folder / "tiff")
  (folder / "n00000001" / "images" / "0.png").write_bytes(b"no image")
  with pytest.raises(ValueError, match=r"data_dir: .* cannot be read"):
    image_folder.load(str(folder), 8)


def test_a_folder_without_images(tmp_path):
  for name in "ab":
    (tmp_path / name).mkdir()
  with pytest.raises(ValueError, match=r"data_dir: .* cannot be read: No images"):
    image_folder.load(str(tmp_path), 8)
