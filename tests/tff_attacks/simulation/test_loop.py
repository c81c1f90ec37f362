import os
import signal
import types

import numpy as np
import pytest

from tff_attacks.learning.process import ServerState
from tff_attacks.simulation import checkpoints as checkpoints_lib
from tff_attacks.simulation import loop


def counting_process(calls):
  """Adds the accuracy that the driver wrote after the last round to the weights."""

  def step(server, clients, data):
    calls.append(data)
    server = server._replace(
      weights=server.weights + server.accuracy, round=np.int32(server.round + 1)
    )
    return server, [np.int32(client + 1) for client in clients], ()

  return types.SimpleNamespace(next=step)


START = ServerState(np.float32(0), np.zeros(0), np.int32(0), np.float32(0)), [np.int32(0)]


def simulate(folder, rounds, calls, on_round=lambda *args: None, every=2):
  checkpoints = checkpoints_lib.Checkpoints(folder)
  return loop.simulate(
    counting_process(calls),
    loop.restore(checkpoints, *START),
    data=["data"],
    num_rounds=rounds,
    evaluate=lambda played: {"test_accuracy": float(played.server.round)},
    on_round=on_round,
    checkpoints=checkpoints,
    checkpoint_every=every,
  )


def test_the_server_hears_of_the_accuracy_one_round_later(tmp_path):
  calls = []
  progress = simulate(tmp_path, 4, calls)
  assert calls == [["data"]] * 4
  assert progress.server.weights == 0 + 1 + 2 + 3
  assert progress.clients == [4]


def test_goes_on_from_the_last_checkpoint_with_the_same_result(tmp_path):
  uninterrupted = simulate(tmp_path / "a", 7, [])
  seen = []

  def crash(played, metrics):
    seen.append(played.number)
    if played.number == 3:
      raise RuntimeError

  with pytest.raises(RuntimeError):
    simulate(tmp_path / "b", 7, [], crash)
  resumed = simulate(tmp_path / "b", 7, [], lambda played, metrics: seen.append(played.number))
  assert seen == [0, 1, 2, 3, 2, 3, 4, 5, 6]
  assert resumed.server.weights == uninterrupted.server.weights == 0 + 1 + 2 + 3 + 4 + 5 + 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_round_and_saves_it(tmp_path, number):
  calls, handler = [], signal.getsignal(number)

  def interrupt(played, metrics):
    if played.number == 2:
      assert signal.getsignal(number) is not handler  # It would end pytest.
      os.kill(os.getpid(), number)

  progress = simulate(tmp_path, 9, calls, interrupt, every=100)
  assert progress.rounds == len(calls) == 3
  assert loop.restore(checkpoints_lib.Checkpoints(tmp_path), *START).rounds == 3
  assert signal.getsignal(number) is handler


def test_a_second_ctrl_c_breaks_off(tmp_path):
  def interrupt_twice(*args):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)

  with pytest.raises(KeyboardInterrupt):
    simulate(tmp_path, 3, [], interrupt_twice)


def test_only_the_sampled_clients_take_part(tmp_path):
  calls, cohorts = [], []

  def evaluate(played):
    cohorts.append(list(played.cohort))
    return {"test_accuracy": 0.0}

  class Data:
    """Fails for a client that does not take part."""

    def __getitem__(self, index):
      assert index != 3
      return f"data {index}"

  progress = loop.simulate(
    counting_process(calls),
    loop.Progress(START[0], [np.int32(10 * i) for i in range(4)], 0),
    data=Data(),
    num_rounds=3,
    evaluate=evaluate,
    on_round=lambda *args: None,
    checkpoints=checkpoints_lib.Checkpoints(tmp_path),
    checkpoint_every=10,
    sample=lambda round_number: [[1, 0], [2], [0]][round_number],
  )
  assert cohorts == [[1, 0], [2], [0]]
  assert calls == [["data 1", "data 0"], ["data 2"], ["data 0"]]
  assert progress.clients == [2, 11, 21, 30]


def test_stops_when_it_is_finished_and_saves_that(tmp_path):
  calls = []
  checkpoints = checkpoints_lib.Checkpoints(tmp_path)

  def simulate_until_two():
    return loop.simulate(
      counting_process(calls),
      loop.restore(checkpoints, *START),
      data=["data"],
      num_rounds=9,
      evaluate=lambda *_: {"test_accuracy": 0.0},
      on_round=lambda *args: None,
      checkpoints=checkpoints,
      checkpoint_every=100,
      finished=lambda: len(calls) >= 2,
    )

  assert simulate_until_two().rounds == 2
  assert simulate_until_two().rounds == 2
  assert len(calls) == 2
