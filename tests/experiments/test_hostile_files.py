"""Files that are damaged, or made to harm: refused with a reason, and no pickle is loaded."""

import contextlib
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments import saved_config, semi_targeted_setup, trained
from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError
from tests import tiny
from tests.tff_attacks.simulation.test_checkpoints import state
from tff_attacks import files, keras_state
from tff_attacks.learning import central_training
from tff_attacks.simulation import checkpoints as checkpoints_lib


class Bomb:
  """Makes a folder when it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.fixture
def bomb(tmp_path):
  yield Bomb(tmp_path / "exploded")
  assert not (tmp_path / "exploded").exists()


def test_the_bomb_works(tmp_path):
  pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
  assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
  "content",
  [
    b"", b"rounds: [1,", b"rounds: 3\nlearn", b"- rounds\n", b"\x00\xff\x93NUMPY",
    b"rounds: ${rounds}\n", b"rounds: many\n",
    b"rounds: !!python/object/apply:os.mkdir [exploded]\n",
    b"a: &a [*a]\n",
  ],
)  # fmt: skip
def test_configs(content, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "config.yaml").write_bytes(content)
  with pytest.raises(ConfigError, match=r"config\.yaml cannot be read"):
    saved_config.load(CRPAConfig, tmp_path)
  assert not (tmp_path / "exploded").exists()


def test_a_config_that_was_cut_short(tmp_path):
  """At every character: no option falls back to its default without a word."""
  path = tmp_path / "config.yaml"
  whole = OmegaConf.to_yaml(OmegaConf.structured(CRPAConfig(rounds=300, test_images=2000)))
  path.write_text(whole)
  assert saved_config.load(CRPAConfig, tmp_path).rounds == 300
  for end in range(0, len(whole), 7):
    path.write_text(whole[:end])
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read"):
      saved_config.load(CRPAConfig, tmp_path)
  path.write_text(whole[:-1])
  with pytest.raises(ConfigError, match="its end is missing"):
    saved_config.load(CRPAConfig, tmp_path)


READERS = {
  "arrays": files.read_npz,
  "model": lambda path: trained.read(tiny.global_model(), path.parent, path.stem),
  "converged model": semi_targeted_setup.Converged.read,
}


@pytest.mark.parametrize("reader", READERS)
def test_pickled_arrays(reader, bomb, tmp_path):
  path = tmp_path / "w.npz"
  np.savez(path, w000=np.array([bomb], object), rounds=np.array([bomb], object))
  with pytest.raises(ValueError, match="cannot be loaded when allow_pickle=False"):
    READERS[reader](path)
  path.write_bytes(pickle.dumps(bomb))
  with pytest.raises(ValueError, match=r"is not a readable \.npz file"):
    READERS[reader](path)


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 1), st.integers(0, 255))
def test_truncated_and_overwritten_archives(tmp_path_factory, where, byte):
  path = tmp_path_factory.mktemp("npz") / "w.npz"
  whole = {"a": np.arange(500.0), "b": np.ones([3, 2], np.uint8)}
  np.savez_compressed(path, **whole)
  content = path.read_bytes()
  at = int(where * (len(content) - 1))
  path.write_bytes(content[:at])
  with pytest.raises(ValueError, match=r"is not a readable \.npz file"):
    files.read_npz(path)
  path.write_bytes(content[:at] + bytes([byte]) + content[at + 1 :])
  with contextlib.suppress(ValueError):  # What nobody reads, such as a date, may be wrong.
    arrays = files.read_npz(path)
    for name in set(arrays) & set(whole):
      np.testing.assert_array_equal(arrays[name], whole[name])


def test_an_archive_that_claims_more_than_memory(tmp_path):
  np.lib.format.write_array_header_1_0(
    (tmp_path / "a.npy").open("wb"), {"descr": "<f8", "fortran_order": False, "shape": (2**58,)}
  )
  with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
    archive.write(tmp_path / "a.npy", "a.npy")
  with pytest.raises(ValueError, match=r"is not a readable \.npz file"):
    files.read_npz(tmp_path / "w.npz")


@pytest.mark.parametrize(
  "name", ["saved_model.pb", "variables.index", "variables.data-00000-of-00001"]
)
@pytest.mark.parametrize("content", ["nothing", "pickle", "noise"])
def test_checkpoints_of_a_federation(name, content, bomb, tmp_path, caplog):
  folder = tmp_path / "checkpoints"
  checkpoints = checkpoints_lib.Checkpoints(folder)
  for version in (1, 2):
    checkpoints.save(state(version), version)
  (path,) = folder.glob(f"round_2/**/{name}")
  noise = np.random.default_rng(0).bytes(path.stat().st_size)
  path.write_bytes({"nothing": b"", "pickle": pickle.dumps(bomb), "noise": noise}[content])
  restored, version = checkpoints.restore_latest(state(0))
  assert version == 1
  assert restored[0].round == 1
  assert "Checkpoint of round 2 is unreadable" in caplog.text


@pytest.mark.parametrize("content", ["nothing", "pickle", "half"])
def test_checkpoints_of_a_central_training(content, bomb, tmp_path):
  images, labels = tiny.images(0, 20)

  def train(steps):
    weights = keras_state.initial_weights(tiny.global_model, 0)
    model = keras_state.build(tiny.global_model, weights)
    central_training.train(
      model, tiny.LOSS_FN, images, labels, steps, 0, 4, 0.01, False, str(tmp_path / "checkpoints"),
      checkpoint_every=2,
    )  # fmt: skip
    return model

  train(2)
  (path,) = pathlib.Path(tmp_path, "checkpoints").glob("*.data*")
  whole = path.read_bytes()
  half = whole[: len(whole) // 2]
  path.write_bytes({"nothing": b"", "pickle": pickle.dumps(bomb), "half": half}[content])
  message = r"cannot be read .* remove its folder to train anew"
  with pytest.raises(files.UnreadableError, match=message):
    train(4)


def test_a_file_that_is_not_finished_replaces_nothing(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text("whole")
  with contextlib.suppress(OSError), files.atomic_write(path) as temporary:
    temporary.write_text("ha")
    raise OSError("The disk is full.")
  assert [each.read_text() for each in tmp_path.iterdir()] == ["whole"]


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
  (tmp_path / "images").mkdir()
  kept = ("a.txt", ".lock", ".converged.npz", ".5", f".a.{os.getpid()}.txt")
  dead = 2**22 + 1  # Above the highest number of a process.
  for name in (*kept, f".a.{dead}.txt", f".v1.2.{dead}.npz", f"images/.a.{dead}.png"):
    (tmp_path / name).write_text("")
  files.remove_unfinished(tmp_path)
  assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "images"])
  assert not list((tmp_path / "images").iterdir())
