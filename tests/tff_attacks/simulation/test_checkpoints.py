import logging
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tff_attacks import files
from tff_attacks.learning.process import ClientState, ServerState
from tff_attacks.simulation import checkpoints as checkpoints_lib


def state(value):
  server = ServerState([np.full([2, 3], value, np.float32)], (), np.int32(value), np.float32(0.5))
  clients = [
    ClientState(
      np.array([1, value], np.int32), np.bool_(slot), {}, np.zeros([slot, 2]), None, None, None
    )
    for slot in (0, 1)
  ]
  return server, [client._replace(loss=np.float32(value)) for client in clients]


def truncate(folder, version):
  for path in pathlib.Path(folder, f"round_{version}").rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_restores_the_newest(tmp_path):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  for version in (1, 2, 7):
    checkpoints.save(state(version), version)
  restored, version = checkpoints_lib.Checkpoints(tmp_path).restore_latest(state(0))
  assert version == 7
  tf.nest.map_structure(np.testing.assert_array_equal, restored, state(7))
  assert isinstance(restored[1][1], ClientState)
  assert restored[1][1].adversary.dtype == bool


def test_names_stay_as_they_are(tmp_path):
  """TFF's DP aggregators name their events in their states."""
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  name = np.array(b"GaussianDpEvent", object)
  checkpoints.save({"event": name, "noise": np.float32(1.5)}, 1)
  restored, _ = checkpoints.restore_latest({"event": name, "noise": np.float32(0)})
  assert restored["event"] == b"GaussianDpEvent"
  assert restored["noise"] == 1.5


def test_keeps_the_newest_three(tmp_path):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  for version in range(1, 7):
    checkpoints.save(state(version), version)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["round_4", "round_5", "round_6"]


def test_keeps_the_newest_alone_in_the_end(tmp_path):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  checkpoints.keep_newest()
  for version in (1, 2, 7):
    checkpoints.save(state(version), version)
  checkpoints.keep_newest()
  assert [path.name for path in tmp_path.iterdir()] == ["round_7"]
  assert checkpoints.restore_latest(state(0))[1] == 7


def test_saving_a_round_again_changes_nothing(tmp_path):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  checkpoints.save(state(1), 1)
  checkpoints.save(state(1), 1)
  assert checkpoints.restore_latest(state(0))[1] == 1


def test_a_truncated_one_falls_back_to_the_one_before(tmp_path, caplog):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  for version in (1, 2, 3):
    checkpoints.save(state(version), version)
  truncate(tmp_path, 3)
  with caplog.at_level(logging.WARNING):
    restored, version = checkpoints.restore_latest(state(0))
  assert version == 2
  assert restored[0].round == 2
  assert "Checkpoint of round 3 is unreadable" in caplog.text
  checkpoints.save(state(3), 3)
  assert checkpoints.restore_latest(state(0))[1] == 3


def test_a_state_of_another_shape_is_not_taken(tmp_path):
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)
  checkpoints.save(state(1), 1)
  other = ServerState([np.zeros([5, 5], np.float32)], (), np.int32(0), np.float32(0)), []
  with pytest.raises(files.UnreadableError, match="none of the checkpoints"):
    checkpoints.restore_latest(other)
  assert checkpoints.restore_latest(state(0))[1] == 1  # It is still there.


def test_none_at_all(tmp_path):
  assert checkpoints_lib.Checkpoints(tmp_path).restore_latest(state(0)) is None
