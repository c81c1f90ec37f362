"""Coroutines where no event loop runs, and where one does, as in a notebook."""

import asyncio

import numpy as np
import pytest

from tff_attacks import coroutines
from tff_attacks.simulation import checkpoints, results


async def double(value):
  await asyncio.sleep(0)
  return 2 * value


async def fail():
  raise ValueError("no")


def as_in_a_notebook(function):
  async def cell():
    return function()

  return asyncio.run(cell())


@pytest.mark.parametrize("call", [lambda function: function(), as_in_a_notebook])
def test_results_and_errors_come_back(call):
  assert call(lambda: coroutines.run(double(3))) == 6
  with pytest.raises(ValueError, match="no") as raised:
    call(lambda: coroutines.run(fail()))
  assert raised.value.__context__ is None


def test_a_notebook_can_save_and_restore(tmp_path):
  def cell():
    saved = checkpoints.Checkpoints(tmp_path / "checkpoints")
    saved.save([np.arange(3)], 2)
    table = results.create(tmp_path / "results", "")
    table.release("metrics", {"accuracy": 0.5}, 0)
    return saved.restore_latest([np.zeros(3, int)]), table.read("metrics")

  ((values,), rounds), metrics = as_in_a_notebook(cell)
  assert values.tolist() == [0, 1, 2]
  assert rounds == 2
  assert metrics["accuracy"].tolist() == [0.5]
