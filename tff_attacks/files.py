"""Files that are complete at every moment, and reading those that may be damaged or hostile."""

import contextlib
import errno
import itertools
import os
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  import numpy as np


DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Of an OSError: the disk, or a user's share of it."""


class UnreadableError(ValueError):
  """What was saved cannot be read again; the message names it."""


def check_name(folder: str | os.PathLike[str]) -> None:
  """Checks that TensorFlow can read the checkpoints again that it writes there.

  Raises:
    OSError: If not: it takes some characters for those of a pattern.
  """
  path = str(pathlib.Path(folder).absolute())
  if found := set("[\\") & set(path):
    raise OSError(f"{path}: TensorFlow cannot read what it saves under a path with {min(found)}")


def check_new(folder: str | os.PathLike[str]) -> None:
  """Checks that a folder is empty, or not there yet.

  Raises:
    FileExistsError: If it holds files, or is one.
    OSError: See `check_name`.
  """
  check_name(folder)
  path = pathlib.Path(folder)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise FileExistsError(f"{path} already holds files")


def new_folder(folder: str | os.PathLike[str]) -> pathlib.Path:
  """Makes a folder that no other process gets: one with a number added if it is there already.

  Raises:
    OSError: If it cannot be made, or see `check_name`.
  """
  check_name(folder)
  pathlib.Path(folder).parent.mkdir(parents=True, exist_ok=True)
  for number in itertools.count(1):
    path = pathlib.Path(folder if number == 1 else f"{folder}_{number}")
    with contextlib.suppress(FileExistsError):
      path.mkdir()
      break
  return path


def sync(path: str | os.PathLike[str]) -> None:
  """Waits until a file is on the disk: a power cut may otherwise leave nothing of it."""
  with pathlib.Path(path).open("rb") as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """A path to write to; the file takes the place of `path` if the block ends without an error."""
  path = pathlib.Path(path)
  # Its ending tells libraries the format.
  temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
  try:
    yield temporary
    sync(temporary)
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def remove_unfinished(folder: pathlib.Path) -> None:
  """Removes what `atomic_write` of a killed process has left there and in `images/`."""
  for path in (*folder.glob(".*"), *folder.glob("images/.*")):
    written = re.fullmatch(r"\..+\.(\d+)(\.\w+)?", path.name)
    # A report may be written by another process.
    if written and not pathlib.Path("/proc", written[1]).exists():
      path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a text file, complete or not at all."""
  with atomic_write(path) as temporary:
    temporary.write_text(text)


def read_npz(
  path: str | os.PathLike[str], names: Collection[str] | None = None
) -> "dict[str, np.ndarray]":
  """Reads arrays of a file by name, without unpickling anything.

  Args:
    path: The file.
    names: Of the arrays that are wanted; those that are missing are left out. None is all.

  Raises:
    UnreadableError: If it cannot be read.
  """
  import numpy as np  # Help and most bad input need not wait for it.

  try:
    with np.load(path, allow_pickle=False) as arrays:
      return {name: arrays[name] for name in arrays if names is None or name in names}
  except Exception as error:
    # NumPy and zipfile raise a different type for each way a file can be damaged.
    reason = str(error).partition("\n")[0] or type(error).__name__
    raise UnreadableError(f"{path} is not a readable .npz file: {reason}") from error
