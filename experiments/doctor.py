"""Says what is installed, where computations would run, and what to do about each problem."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from experiments import options, program, runtime_options
from experiments.options import ConfigError, option

SUMMARY = """\
Checks versions, devices, the runtime (a small TFF computation is run on it), data sets, disk and \
memory, and says what to do about each problem. Changes nothing and downloads nothing."""

_REQUIREMENTS = pathlib.Path(__file__).parents[1] / "requirements.txt"
_PACKAGES = ("tensorflow", "tensorflow-federated", "tensorflow-privacy", "keras", "numpy")
_DISK_GB = 5
_MEMORY_GB = 3
_SIZE = 256


@dataclasses.dataclass
class DoctorConfig(runtime_options.RuntimeOptions):
  """Options of `python -m experiments.doctor`."""

  data_dir: str | None = option(None, "Folder with <dataset>.npz, as for the experiments.")
  output_dir: str = option("results", "Folder that results would be written to.")


class Finding(NamedTuple):
  """What a check says.

  Attributes:
    text: What it found.
    advice: What to do, if it is a problem; or empty.
  """

  text: str
  advice: str = ""


def run(config: DoctorConfig) -> int:
  """Runs all checks and returns the exit status: 1, if there is a problem."""
  options.validate(config)
  runtime_options.check(config)
  problems = 0
  for check in (_system, _versions, _devices, _runtime, _data, _disk, _memory):
    for finding in check(config):
      problems += bool(finding.advice)
      print(f"{'PROBLEM' if finding.advice else 'ok     '} {finding.text}", flush=True)
      if finding.advice:
        print(f"        -> {finding.advice}")
  print(f"{problems} problem{'' if problems == 1 else 's'} found." if problems else "All is well.")
  return min(problems, 1)


def _system(config: DoctorConfig) -> Iterator[Finding]:
  del config
  found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
  fits = platform.python_version_tuple()[:2] == ("3", "11")
  fits = fits and (platform.system(), platform.machine()) == ("Linux", "x86_64")
  advice = "TensorFlow Federated 0.87 needs Python 3.11 on Linux x86_64."
  yield Finding(f"{found}, {len(os.sched_getaffinity(0))} cores", "" if fits else advice)


def _versions(config: DoctorConfig) -> Iterator[Finding]:
  """The packages that results depend on; with a checkout, all that it pins."""
  del config
  pinned = {}
  if _REQUIREMENTS.exists():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", _REQUIREMENTS.read_text(), re.MULTILINE))
  installed = {name: _version(name) for name in {*_PACKAGES, *pinned}}
  yield Finding(", ".join(f"{name} {installed[name]}" for name in _PACKAGES))
  for name, version in pinned.items():
    if installed[name] != version:
      yield Finding(
        f"{name}: {installed[name] or 'nothing'} is installed, {version} is pinned",
        "make .venv/.ready, or pip install --no-deps -r requirements.txt",
      )


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _devices(config: DoctorConfig) -> Iterator[Finding]:
  del config
  import tensorflow as tf

  gpus = tf.config.list_physical_devices("GPU")
  for gpu in gpus:
    details = tf.config.experimental.get_device_details(gpu)
    yield Finding(f"{gpu.name.removeprefix('/physical_device:')}: {details.get('device_name')}")
  if gpus:
    return
  cards = shutil.which("nvidia-smi") or pathlib.Path("/dev/nvidia0").exists()
  advice = (
    "There seems to be an NVIDIA card. TensorFlow 2.14 needs its driver (450.80.02 or newer) and "
    "the libraries of CUDA 11.8: run in docker/Dockerfile.gpu with --gpus all, or pip install "
    "--no-deps the nvidia-* packages that tensorflow[and-cuda]==2.14.1 names."
  )
  yield Finding("no GPU: computations run on the CPU", advice if cards else "")


def _runtime(config: DoctorConfig) -> Iterator[Finding]:
  """Each worker by itself: a run goes on without one that is missing."""
  name = f"runtime={config.runtime}"
  if config.runtime != "workers":
    yield _computed(config, name)
  for address in config.workers:
    yield _computed(dataclasses.replace(config, workers=[address]), f"{name}, {address}")


def _computed(config: DoctorConfig, name: str) -> Finding:
  """Multiplies and convolves in a TFF computation and asks what was computed where."""
  import numpy as np
  import tensorflow as tf
  import tensorflow_federated as tff

  from tff_attacks.runtime import worker

  @tff.tensorflow.computation(np.float32)
  def work(value):
    product = tf.linalg.matmul(tf.fill([_SIZE, _SIZE], value), tf.eye(_SIZE))
    kernel = tf.zeros([3, 3, 1, 1])
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      outputs = tf.nn.conv2d(tf.fill([1, 8, 8, 1], value), kernel, 1, "VALID")
    return tf.reduce_sum(product) + tf.reduce_sum(tape.gradient(outputs, kernel))

  @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
  def total(values):
    return tff.federated_sum(tff.federated_map(work, values))

  worker.remove_stock_context()
  try:
    with runtime_options.start(config) as runtime:
      used = _peak(runtime.device, anew=True)
      value = float(total([np.float32(1), np.float32(2)]))
      used = _peak(runtime.device) - used
  except (ConfigError, RuntimeError, tf.errors.OpError) as error:
    return Finding(f"{name}: {error}", "See README, Where it runs.")
  expected = 3.0 * (_SIZE**2 + 9 * 6**2)
  if value != expected:
    return Finding(f"{name}: computed {value:g}, not {expected:g}", "Results cannot be trusted.")
  if "GPU" in runtime.device and config.runtime != "workers" and not used:
    return Finding(
      f"{name}: {runtime.device} was asked for, and its memory stayed as it was",
      "The computation ran elsewhere; please report it with this output.",
    )
  return Finding(f"{name}: a federated sum of two clients ran on {runtime.device}")


def _peak(device: str, anew: bool = False) -> int:
  """Bytes that were allocated at most on a GPU, or are now; 0 for others."""
  import tensorflow as tf

  if "GPU" not in device:
    return 0
  if anew:
    tf.config.experimental.reset_memory_stats(device)
  return tf.config.experimental.get_memory_info(device)["peak"]


def _data(config: DoctorConfig) -> Iterator[Finding]:
  from tff_attacks.data import datasets

  if config.data_dir is not None and not pathlib.Path(config.data_dir).is_dir():
    yield Finding(
      f"data_dir={config.data_dir} is no folder", "Give the one that holds <dataset>.npz."
    )
    return
  for name in datasets.NAMES:
    path = datasets.location(name, config.data_dir)
    if path is None:
      where = "embedded" if name == "digits" else "only with data_dir="
      yield Finding(f"dataset={name}: {where}")
    elif config.data_dir is None:
      there = f"in {path}" if path.exists() else f"not in {path.parent} yet: Keras downloads it"
      yield Finding(f"dataset={name}: {there}")
    elif not path.exists():
      yield Finding(f"dataset={name}: not in {config.data_dir}")
    else:
      try:
        dataset = datasets.load(name, config.data_dir)
      except ValueError as error:
        yield Finding(f"dataset={name}: {error}", "Write the file again, or leave it out.")
      else:
        counts = f"{len(dataset.train.labels):,} and {len(dataset.test.labels):,} images"
        yield Finding(f"dataset={name}: {counts} in {path}")


def _disk(config: DoctorConfig) -> Iterator[Finding]:
  folder = pathlib.Path(config.output_dir).absolute()
  while not folder.exists():
    folder = folder.parent
  free = shutil.disk_usage(folder).free / 1e9
  advice = ""
  if free < _DISK_GB:
    advice = f"A sweep keeps some GB of checkpoints: free {_DISK_GB} GB, or give output_dir=."
  try:
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    advice = f"Give output_dir=<folder>; {folder} cannot be written ({error.strerror})."
  yield Finding(f"{free:,.0f} GB free for results in {folder}", advice)


def _memory(config: DoctorConfig) -> Iterator[Finding]:
  del config
  import psutil  # If it is missing, the versions have said so by now.

  free = psutil.virtual_memory().available / 1e9
  advice = f"Most runs take up to {_MEMORY_GB} GB: end other programs, or give a sweep jobs=1."
  yield Finding(f"{free:,.1f} GB of memory available", advice if free < _MEMORY_GB else "")


if __name__ == "__main__":
  program.main("experiments.doctor", DoctorConfig, SUMMARY, run)
