"""Weights of models that a run trained, in its results folder: `<name>.npz`."""

import pathlib

import tensorflow as tf

from tff_attacks import files
from tff_attacks.simulation.results import Results


def write(results: Results, name: str, model: tf.keras.Model) -> None:
  """Writes the weights of a model."""
  results.write_arrays(name, **{f"w{i:03d}": w for i, w in enumerate(model.get_weights())})


def read(model: tf.keras.Model, folder: pathlib.Path, name: str) -> None:
  """Sets a model's weights to those that were written.

  Raises:
    UnreadableError: If they cannot be read, or are another model's.
  """
  path = folder / f"{name}.npz"
  try:
    arrays = files.read_npz(path)
    model.set_weights([arrays[f"w{i:03d}"] for i in range(len(arrays))])
  except (KeyError, ValueError) as error:
    raise files.UnreadableError(f"{path} cannot be read: {error}") from error
