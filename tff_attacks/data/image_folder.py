"""A folder of images with a subfolder for each class, as VGGFace2 and Tiny ImageNet have it."""

import contextlib
import io
import pathlib

import numpy as np

from tff_attacks.data.datasets import Dataset, to_images

_TEST_SHARE = 0.2


def load(folder: str, size: int) -> Dataset:
  """Loads images at one size, in colour; a fifth of them is for testing.

  Args:
    folder: Its subfolders are the classes, in the order of their names; what is deeper belongs
      to them.
    size: Height and width; images are cropped to a square around their middle, then resized.

  Returns:
    The dataset, images scaled to [-1, 1].

  Raises:
    FileNotFoundError: If there is no such folder.
    ValueError: If it has fewer than two classes, one without images (BMP, GIF, JPEG or PNG, by
      their names), or such a file that is no image.
  """
  import tensorflow as tf

  path = pathlib.Path(folder)
  if not path.is_dir():
    raise FileNotFoundError(f"data_dir: {path} is no folder")
  if sum(child.is_dir() and child.name[0] != "." for child in path.iterdir()) < 2:
    raise ValueError(f"data_dir: {path} needs a subfolder for each of two or more classes")
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # It prints what it found.
      batches = tf.keras.utils.image_dataset_from_directory(
        path, image_size=(size, size), crop_to_aspect_ratio=True, shuffle=False
      )
    pairs = list(batches.as_numpy_iterator())
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    reason = str(error).partition("\n")[0]
    raise ValueError(f"data_dir: {path} cannot be read: {reason}") from error
  pixels, labels = (np.concatenate(part) for part in zip(*pairs, strict=True))
  for missing in np.setdiff1d(np.arange(len(batches.class_names)), labels):
    name = batches.class_names[missing]
    raise ValueError(f"data_dir: {path / name} has no BMP, GIF, JPEG or PNG image")
  everything = to_images(pixels, labels)
  order = np.random.default_rng(0).permutation(labels.size)
  held_out = round(_TEST_SHARE * labels.size)
  return Dataset(
    everything.take(order[held_out:]), everything.take(order[:held_out]), len(batches.class_names)
  )
