"""Devices are made when TensorFlow starts: a program of its own has two."""

import collections
import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.tff_attacks.runtime.computations import (
  DIGITS,
  installed,
)

DEVICES = """
import logging
import numpy as np, tensorflow as tf, tensorflow_federated as tff
tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tff_attacks.runtime import in_process, worker
logging.basicConfig()
worker.remove_stock_context()
tf.debugging.set_log_device_placement(True)

STATE = tff.TensorType(np.float32, [4, 4])

@tff.tensorflow.computation(STATE, tff.SequenceType(tff.TensorType(np.float32, [4])))
def train(state, data):
  weights = tf.Variable(state)
  @tf.function
  def loop():
    for x in iter(data):
      with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.linalg.matvec(weights, x) ** 2)
      weights.assign_sub(0.1 * tape.gradient(loss, weights))
    return weights.read_value()
  return loop()

@tff.federated_computation(
  tff.FederatedType(STATE, tff.SERVER),
  tff.FederatedType(tff.SequenceType(tff.TensorType(np.float32, [4])), tff.CLIENTS))
def next_state(state, data):
  return tff.federated_mean(tff.federated_map(train, (tff.federated_broadcast(state), data)))

data = [tf.data.Dataset.from_tensor_slices(np.ones([3, 4], np.float32))] * 2
with in_process.in_process("CPU:1", keep_tensors=True):
  state = next_state(np.eye(4, dtype=np.float32), data)
  print("STATE", state.device)
  tff.tensorflow.computation(
    lambda data: data.reduce(np.int64(0), lambda s, x: s + x), tff.SequenceType(np.int64)
  )(tf.data.Dataset.range(3))
"""


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
  """The finished program; it is a file, as AutoGraph reads sources."""
  path = tmp_path_factory.mktemp("devices") / "program.py"
  path.write_text(DEVICES)
  root = str(pathlib.Path(__file__).parents[3])
  program = subprocess.run(
    [sys.executable, path],
    capture_output=True,
    text=True,
    timeout=200,
    env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "0"},
  )
  assert program.returncode == 0, program.stderr
  return program


def test_training_runs_on_the_device(two_devices):
  assert re.search(r"^STATE \S+CPU:1$", two_devices.stdout, re.M)
  placed = collections.defaultdict(set)
  for op, device in re.findall(r": \((\w+)\): \S+(CPU:\d)", two_devices.stderr):
    placed[op].add(device)
  for op in ("MatMul", "VarHandleOp", "AssignSubVariableOp", "ReadVariableOp"):
    assert placed[op] == {"CPU:1"}, dict(placed)


def test_reducing_a_dataset_on_a_device_warns(two_devices):
  assert "reduces a dataset" in two_devices.stderr


def test_reducing_a_dataset_anywhere_does_not_warn(caplog, context):
  with caplog.at_level(logging.WARNING), installed(context):
    DIGITS([collections.OrderedDict(b=1, a=2)])
  assert "reduces a dataset" not in caplog.text
