"""Saving and restoring a simulation, through TFF's program state manager."""

import gc
import logging
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks import coroutines, files

_KEEP = 3


class Checkpoints:
  """The newest states of a run, each a structure of arrays."""

  def __init__(self, folder: str | os.PathLike[str]):
    """Opens, or creates, the folder; only one process may."""
    self._folder = folder
    for left in pathlib.Path(folder).glob("round_*_temp*"):  # By a process that was killed.
      shutil.rmtree(left)
    self._manager = tff.program.FileProgramStateManager(
      folder, prefix="round_", keep_total=_KEEP, keep_first=False
    )

  def save(self, state: Any, completed_rounds: int) -> None:
    """Saves a state in place of any other of that round; old ones are removed."""
    if completed_rounds in self._versions():
      coroutines.run(self._manager._remove(completed_rounds))
    coroutines.run(self._manager.save(_pack(state), completed_rounds))
    gc.collect()  # A SavedModel holds its arrays in reference cycles.

  def restore_latest(self, template: Any) -> tuple[Any, int] | None:
    """Returns the newest readable state and its number of completed rounds.

    An unreadable one (truncated by a full disk, say) is skipped with a warning.

    Args:
      template: A state of the same structure; its values do not matter.

    Returns:
      None if nothing was ever saved.

    Raises:
      UnreadableError: If there are checkpoints, but none of them can be read.
    """
    versions = self._versions()
    for version in reversed(versions):
      try:
        return self._load(version, template), version
      except Exception as error:
        # TensorFlow raises a different type for each way a file can be damaged.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logging.warning("Checkpoint of round %d is unreadable: %s", version, reason)
    if versions:
      raise files.UnreadableError(
        f"{self._folder}: none of the checkpoints of rounds {versions} can be read"
      )
    return None

  def keep_newest(self) -> None:
    """Removes all but the newest state, when nothing can go wrong any more."""
    for version in self._versions()[:-1]:
      coroutines.run(self._manager._remove(version))

  def _versions(self) -> list[int]:
    return coroutines.run(self._manager.get_versions()) or []

  def _load(self, version: int, template: Any) -> Any:
    return _unpack(coroutines.run(self._manager.load(version, 0)), template)


def restore_variables(manager: tf.train.CheckpointManager) -> None:
  """Restores the newest checkpoint of a training outside of any federation, if there is one.

  Raises:
    UnreadableError: If it cannot be read.
  """
  newest = manager.latest_checkpoint
  try:
    manager.checkpoint.restore(newest)
  except Exception as error:
    # A part of the variables may be restored, and training from there would be another one.
    reason = str(error).partition("\n")[0]
    raise files.UnreadableError(
      f"{newest} cannot be read ({reason}); remove its folder to train anew"
    ) from error


def _pack(state: Any) -> np.ndarray:
  """All arrays as one: the manager's SavedModel takes seconds for hundreds of them."""
  leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(state)]
  return np.concatenate([_bytes(leaf) for leaf in leaves if not _is_text(leaf)])


def _unpack(packed: np.ndarray, template: Any) -> Any:
  leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(template)]
  sizes = [0 if _is_text(leaf) else leaf.nbytes for leaf in leaves]
  ends = np.cumsum(sizes)
  if packed.size != ends[-1]:
    raise ValueError(f"found {packed.size} bytes, expected {ends[-1]}")
  return tf.nest.pack_sequence_as(
    template,
    [
      leaf if _is_text(leaf) else part.view(leaf.dtype).reshape(leaf.shape)
      for part, leaf in zip(np.split(packed, ends[:-1]), leaves, strict=True)
    ],
  )


def _bytes(leaf: np.ndarray) -> np.ndarray:
  return leaf.reshape(-1).view(np.uint8)


def _is_text(leaf: np.ndarray) -> bool:
  """Names of things in TFF's states, such as the kind of a DP event: they never change."""
  return leaf.dtype.kind in "OSU"
