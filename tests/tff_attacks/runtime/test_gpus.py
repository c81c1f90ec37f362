"""What a GPU is asked for, and that every program can be traced where results have to repeat."""

import subprocess
import sys

import pytest
import tensorflow as tf

from tff_attacks.runtime import gpus


@pytest.fixture
def asked(monkeypatch):
  """What is asked of one GPU."""
  calls = []
  experimental = tf.config.experimental
  monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"a {kind}"])
  for name in (
    "set_memory_growth", "enable_op_determinism", "enable_tensor_float_32_execution",
  ):  # fmt: skip
    monkeypatch.setattr(experimental, name, lambda *args, name=name: calls.append((name, *args)))
  return calls


def test_memory_grows_and_results_repeat_at_full_precision(asked):
  gpus.prepare()
  assert set(asked) == {
    ("enable_tensor_float_32_execution", False),
    ("set_memory_growth", "a GPU", True),
    ("enable_op_determinism",),
  }


def test_a_worker_takes_any_kernel(asked):
  gpus.prepare(repeatable=False)
  assert ("enable_op_determinism",) not in asked
  assert len(asked) == 2


def test_where_tensorflow_runs_already_the_rest_is_settled(asked, monkeypatch, caplog):
  def too_late(*args):
    raise RuntimeError("must be set before GPUs have been initialized")

  monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
  gpus.prepare()
  assert ("enable_op_determinism",) in asked
  assert "TensorFlow runs already" in caplog.text


PROGRAM = """
import runpy, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("crpa", ["rounds=2", "generator_steps=1"]),
    ("crpa", ["rounds=1", "model=resnet8", "discriminator_learning_rate=0"]),
    ("information_stealing", ["rounds=2", "latest_start=1"]),
    ("semi_targeted", ["rounds=2", "converge_rounds=1", "attack=ada_full"]),
    ("leakage", ["attack=grnn", "model=resnet18", "steps=2"]),
  ],
)
def test_programs_can_be_traced_where_results_repeat(tmp_path, name, options):
  command = [sys.executable, "-c", PROGRAM, f"experiments.{name}", *options]
  result = subprocess.run(
    [*command, f"output_dir={tmp_path / 'run'}"], capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr[-2000:]
