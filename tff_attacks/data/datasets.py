"""Image classification datasets as NumPy arrays scaled to [-1, 1].

`digits` is bundled with scikit-learn and needs no network. The others are read
from `<data_dir>/<file>.npz` in the layout of `tf.keras.datasets` (arrays
x_train, y_train, x_test, y_test) or, without a data directory, downloaded by
Keras into its own cache.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn import datasets as sklearn_datasets
from sklearn import model_selection

from tff_attacks import files


class Images(NamedTuple):
  """Labelled images.

  Attributes:
    images: float32 `[n, height, width, channels]` in [-1, 1].
    labels: int32 `[n]`, from 0 to C - 1.
  """

  images: np.ndarray
  labels: np.ndarray

  def take(self, indices: np.ndarray | slice) -> "Images":
    """Returns the samples at `indices`, in their order."""
    return Images(self.images[indices], self.labels[indices])


class ClientImages(Sequence):
  """Each client's images, copied out of the training set only when they are asked for."""

  def __init__(self, images: Images, owned: Sequence[np.ndarray]):
    """Takes the training set, and for each client the indices of its images."""
    self._images = images
    self._owned = owned

  def __len__(self):
    return len(self._owned)

  def __getitem__(self, client: int) -> Images:  # type: ignore[override]  # One at a time.
    return self._images.take(self._owned[client])

  def labels(self, client: int) -> np.ndarray:
    """The client's labels alone."""
    return self._images.labels[self._owned[client]]


class Dataset(NamedTuple):
  """A training and a test set over the classes 0 to `num_classes` - 1."""

  train: Images
  test: Images
  num_classes: int

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    _, height, width, channels = self.train.images.shape
    return height, width, channels


class Source(NamedTuple):
  """Where a dataset's arrays come from and the shape they must have.

  Attributes:
    file: `<file>.npz` in a `data_dir`.
    image_shape: Of its uint8 arrays, without a channel if they are grey.
    num_classes: C.
    downloaded: What Keras calls it in its cache; None for what only a `data_dir` has.
    grey_size: Height and width to which colour images are made grey; None leaves them.
  """

  file: str
  image_shape: tuple[int, ...]
  num_classes: int
  downloaded: str | None = None
  grey_size: int | None = None


SOURCES = {
  "mnist": Source("mnist", (28, 28), 10, "mnist.npz"),
  "fashion_mnist": Source("fashion_mnist", (28, 28), 10, "fashion-mnist"),
  "cifar10": Source("cifar10", (32, 32, 3), 10, "cifar-10-batches-py"),
  "cifar10_grey28": Source("cifar10", (32, 32, 3), 10, "cifar-10-batches-py", grey_size=28),
  "cifar100": Source("cifar100", (32, 32, 3), 100, "cifar-100-python"),
}
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")

NUM_CLASSES = {"digits": 10} | {name: source.num_classes for name, source in SOURCES.items()}
"""Number of classes, C, of each dataset."""

NAMES = tuple(NUM_CLASSES)


def load(name: str, data_dir: str | None = None) -> Dataset:
  """Loads a dataset by name.

  Args:
    name: One of `NAMES`. `cifar10_grey28` is CIFAR-10 as 28x28 greyscale, as the
      GAN information stealing paper uses it.
    data_dir: Folder that holds `<file>.npz`; None downloads through Keras.

  Returns:
    The dataset, images scaled to [-1, 1].

  Raises:
    ValueError: If the name is unknown, or a file's arrays are missing or have
      wrong shapes, types or labels.
    FileNotFoundError: If the data is neither in `data_dir` nor downloadable.
  """
  if name not in NAMES:
    raise ValueError(f"dataset: unknown {name!r}; allowed: {', '.join(NAMES)}")
  if name == "digits":
    return _digits()
  source = SOURCES[name]
  arrays = _read(source, data_dir)
  train, test = (
    to_images(arrays[f"x_{split}"], arrays[f"y_{split}"], source.grey_size)
    for split in ("train", "test")
  )
  return Dataset(train, test, source.num_classes)


def location(name: str, data_dir: str | None = None) -> pathlib.Path | None:
  """Where `load` looks for a dataset, or where Keras keeps what it downloads; None if nowhere."""
  if name == "digits":
    return None
  source = SOURCES[name]
  if data_dir is None:
    cache = pathlib.Path("~/.keras/datasets").expanduser()
    return cache / source.downloaded if source.downloaded else None
  return pathlib.Path(data_dir) / f"{source.file}.npz"


def _digits() -> Dataset:
  """The 1,797 digits of scikit-learn, 8x8 enlarged to 28x28; 20% are for testing."""
  pixels, labels = sklearn_datasets.load_digits(return_X_y=True)
  pixels = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
  images = np.stack(
    [
      np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BICUBIC))
      for image in pixels
    ]
  )
  x_train, x_test, y_train, y_test = model_selection.train_test_split(
    images, labels, test_size=0.2, stratify=labels, random_state=0
  )
  return Dataset(to_images(x_train, y_train), to_images(x_test, y_test), 10)


def _read(source: Source, data_dir: str | None) -> dict[str, np.ndarray]:
  if data_dir is None:
    return _download(source)
  path = pathlib.Path(data_dir) / f"{source.file}.npz"
  if not path.is_file():
    raise FileNotFoundError(
      f"data_dir: {path} does not exist. Put the Keras-layout file there, or "
      "leave data_dir out to download it through Keras."
    )
  try:
    arrays = files.read_npz(path, _ARRAYS)
  except ValueError as error:
    raise ValueError(f"data_dir: {error}") from error
  missing = [array for array in _ARRAYS if array not in arrays]
  if missing:
    raise ValueError(
      f"data_dir: {path} lacks {', '.join(missing)}; it must hold {', '.join(_ARRAYS)}"
    )
  _check(source, arrays, path)
  return arrays


def _check(source: Source, arrays: dict[str, np.ndarray], path: pathlib.Path) -> None:
  for split in ("train", "test"):
    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if images.dtype != np.uint8 or images.shape[1:] != source.image_shape:
      raise ValueError(
        f"data_dir: x_{split} in {path} is {images.dtype} {list(images.shape)}; "
        f"it must be uint8 [n, {', '.join(map(str, source.image_shape))}]"
      )
    if labels.size != images.shape[0] or labels.shape[0] != images.shape[0]:
      raise ValueError(
        f"data_dir: y_{split} in {path} has shape {list(labels.shape)}; "
        f"it must hold one label for each of the {images.shape[0]} images"
      )
    if images.shape[0] == 0:
      raise ValueError(f"data_dir: x_{split} in {path} is empty")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= source.num_classes:
      raise ValueError(
        f"data_dir: y_{split} in {path} must hold integers from 0 to {source.num_classes - 1}"
      )


def _download(source: Source) -> dict[str, np.ndarray]:
  if source.downloaded is None:
    raise FileNotFoundError(f"data_dir: give the folder that holds {source.file}.npz")

  import tensorflow as tf

  try:
    module = getattr(tf.keras.datasets, source.file)
    (x_train, y_train), (x_test, y_test) = module.load_data()
  except Exception as error:  # Keras raises a bare Exception when offline.
    raise FileNotFoundError(
      f"dataset: {source.file} could not be downloaded through Keras ({error}). "
      f"Connect to the network, or give data_dir=<folder that holds {source.file}.npz>."
    ) from error
  return dict(zip(_ARRAYS, (x_train, y_train, x_test, y_test), strict=True))


def to_images(pixels: np.ndarray, labels: np.ndarray, grey_size: int | None = None) -> Images:
  """Scales pixels from 0 to 255 to [-1, 1] and gives every image a channel axis."""
  if grey_size is not None:
    size = (grey_size, grey_size)
    pixels = np.stack(
      [
        np.asarray(Image.fromarray(image).convert("L").resize(size, Image.Resampling.BILINEAR))
        for image in pixels
      ]
    )
  if pixels.ndim == 3:
    pixels = pixels[..., np.newaxis]
  images = (pixels.astype(np.float32) - 127.5) / 127.5
  return Images(images, labels.reshape(-1).astype(np.int32))
