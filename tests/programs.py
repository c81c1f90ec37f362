"""The project's programs, as a user runs them."""

import contextlib
import io
import logging
import os
import runpy
import signal
import subprocess
import sys
import time
from unittest import mock


def command(name, *arguments):
  return [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]


def run(name, *arguments, **options):
  return subprocess.run(
    command(name, *arguments), capture_output=True, text=True, timeout=500, **options
  )


def run_here(name, *arguments, cwd=None):
  """The same in this process, which has imported TensorFlow already."""
  out, errors, status = io.StringIO(), io.StringIO(), 0
  logged = logging.StreamHandler(errors)  # As by default, which pytest's own handlers prevent.
  with (
    contextlib.ExitStack() as stack,
    mock.patch.object(sys, "argv", command(name, *arguments)[2:]),
    contextlib.chdir(cwd or os.getcwd()),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(errors),
  ):
    logging.getLogger().addHandler(logged)
    stack.callback(logging.getLogger().removeHandler, logged)
    try:
      runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
      status = ended.code or 0
  return subprocess.CompletedProcess(arguments, status, out.getvalue(), errors.getvalue())


def ask_for_more(folder, done, rounds):
  """Makes a finished run one that was interrupted after `done` of `rounds`."""
  config = folder / "config.yaml"
  config.write_text(config.read_text().replace(f"rounds: {done}\n", f"rounds: {rounds}\n"))
  (folder / "summary.json").unlink()


def wait_until(condition, program=None, seconds=300):
  """Waits for what a program, which must not end before, or anything else is to bring about."""
  deadline = time.monotonic() + seconds
  while not condition():
    assert program is None or program.poll() is None, program.communicate()[0] or "it has ended"
    assert time.monotonic() < deadline, "it takes too long"
    time.sleep(0.05)


@contextlib.contextmanager
def started(name, *arguments, **options):
  """A program in the background, which does not outlive the block; its output is piped."""
  program = subprocess.Popen(
    command(name, *arguments),
    # Tests that run in a shell's background would hand on that Ctrl-C is ignored.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | options,
  )
  try:
    yield program
  finally:
    program.kill()
    program.communicate()


_ORIGINAL = """
import time

import dataloader
import mlflow
import tensorflow as tf

BATCH_SIZE = 250
a = tf.keras.optimizers.SGD(learning_rate=1e-3, decay=1e-7)
b = tf.keras.optimizers.SGD(learning_rate=1e-4, decay=1e-7)

def federated_gan(Round, **kwargs):
  print(sorted(kwargs.items()), [len(part) for part in dataloader.load_images()[:6]])
  for r in range(Round):
    time.sleep(0.01)
    mlflow.log_metric("test_accuracy", 0.1, r)
    mlflow.log_metric("attack_accuracy", 0.0, r)
"""


def original_checkout(folder):
  """A stand-in for a checkout of the published CRPA code, which logs numbers and trains nothing."""
  (folder / "experiments").mkdir(parents=True)
  (folder / "experiments" / "federated_gan.py").write_text(_ORIGINAL)
  return folder


@contextlib.contextmanager
def two_workers():
  """The processes of two workers on this host, and their addresses."""
  workers = [
    subprocess.Popen(command("worker", "port=0"), stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  ]
  try:
    yield workers, [worker.stdout.readline().split()[-1] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
      worker.communicate()
