"""What `experiments.benchmarks.runtime` measures: TFF computations with their arguments."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.data.datasets import Images
from tff_attacks.runtime import in_process, worker

if TYPE_CHECKING:
  from experiments.benchmarks.runtime import RuntimeConfig

_BATCH = 50
_PIXELS = 28 * 28
_CLASSES = 10
_LEARNING_RATE = 0.1


class Case(NamedTuple):
  """A computation and what it is called with.

  Attributes:
    computation: The computation.
    arguments: Its arguments: arrays, or datasets.
    persists: Whether a result is the argument of the next call.
  """

  computation: Callable[..., Any]
  arguments: tuple
  persists: bool = False


class Runtime(NamedTuple):
  """A TFF context and (arguments) -> arguments where it wants them."""

  context: Any
  place: Callable[[Any], Any]


def in_process_runtimes(device: str | None, client_threads: int) -> dict[str, Runtime]:
  """Returns the in-process runtimes by name.

  Raises:
    ValueError: If there is no such device.
  """

  def place(structure):
    with tf.device(device):
      return tf.nest.map_structure(
        lambda x: x if isinstance(x, tf.data.Dataset) else tf.convert_to_tensor(x), structure
      )

  new = functools.partial(in_process.InProcessContext, device, client_threads)
  return {
    "in_process": Runtime(new(keep_tensors=True), place),
    "in_process_numpy": Runtime(new(), lambda structure: structure),
  }


@contextlib.contextmanager
def with_worker(runtimes: dict[str, Runtime]) -> Iterator[dict[str, Runtime]]:
  """Adds TFF's stock worker, which runs as long as the `with` block lasts."""
  worker.remove_stock_context()
  with worker.worker():
    context = tff.framework.get_context_stack().current
    yield runtimes | {"worker": Runtime(context, lambda structure: structure)}


def work(case: Case, context: Any, place: Callable[[Any], Any]) -> Callable[[], None]:
  """Returns a function that calls a case's computation once in a runtime."""
  arguments = place(case.arguments)

  def call():
    nonlocal arguments
    with tff.framework.get_context_stack().install(context):
      result = case.computation(*arguments)
    if case.persists:
      arguments = (result,)

  return call


def cases(config: "RuntimeConfig") -> dict[str, Callable[[], Case]]:
  """All cases by name, each a function, since together they take much memory.

  Args:
    config: Of the benchmark.
  """
  built: dict[str, Callable[[], Case]] = {
    "state": functools.partial(_state, config.clients, round(config.state_mb * 1e6 / 4)),
    "clients": functools.partial(_tiny_clients, config.tiny_clients),
  }
  for count in config.images:
    sizes = (config.clients, count, config.seed)
    built[f"arrays_{count}"] = functools.partial(_arrays, *sizes)
    built[f"dataset_{count}"] = functools.partial(_datasets, *sizes)
  return built


def _state(num_clients: int, size: int) -> Case:
  """Each client's state goes in, comes out and goes in again: `{float32[size]}@CLIENTS`."""
  state_type = tff.TensorType(np.float32, [size])

  @tff.tensorflow.computation(state_type)
  def add_one(state):
    return state + 1.0

  @tff.federated_computation(tff.FederatedType(state_type, tff.CLIENTS))
  def next_states(states):
    return tff.federated_map(add_one, states)

  states = [np.zeros([size], np.float32) for _ in range(num_clients)]
  return Case(next_states, (states,), persists=True)


def _tiny_clients(num_clients: int) -> Case:
  """A map and a mean of ten numbers: `{float32[10]}@CLIENTS -> float32[10]@SERVER`."""
  value_type = tff.TensorType(np.float32, [10])

  @tff.tensorflow.computation(value_type)
  def double(value):
    return value * 2.0

  @tff.federated_computation(tff.FederatedType(value_type, tff.CLIENTS))
  def mean_of_doubles(values):
    return tff.federated_mean(tff.federated_map(double, values))

  values = [np.full([10], client, np.float32) for client in range(num_clients)]
  return Case(mean_of_doubles, (values,))


def _arrays(num_clients: int, count: int, seed: int) -> Case:
  """An epoch of softmax regression on arrays."""

  @tf.function
  def epoch(weights, data):
    for start in tf.range(0, tf.size(data.labels), _BATCH):
      batch = tf.nest.map_structure(lambda x: x[start : start + _BATCH], data)  # noqa: B023
      weights = _step(weights, *batch)
    return weights

  spec = Images(tf.TensorSpec([None, _PIXELS], tf.float32), tf.TensorSpec([None], tf.int32))
  return _training(epoch, tff.types.tensorflow_to_type(spec), _images(num_clients, count, seed))


def _datasets(num_clients: int, count: int, seed: int) -> Case:
  """The same epoch on a `tf.data.Dataset` of batches."""

  @tf.function
  def epoch(weights, data):
    for images, labels in iter(data):
      weights = _step(weights, images, labels)
    return weights

  data = [
    tf.data.Dataset.from_tensor_slices(tuple(images)).batch(_BATCH)
    for images in _images(num_clients, count, seed)
  ]
  element_type = tff.types.tensorflow_to_type(data[0].element_spec)
  return _training(epoch, tff.SequenceType(element_type), data)


def _training(
  epoch: Callable[[tf.Tensor, Any], tf.Tensor], data_type: tff.Type, data: list
) -> Case:
  """`<float32[784,10]@SERVER, {data}@CLIENTS> -> float32[784,10]@SERVER`."""
  weights_type = tff.TensorType(np.float32, [_PIXELS, _CLASSES])

  @tff.tensorflow.computation(weights_type, data_type)
  def train(weights, data):
    return epoch(weights, data)

  @tff.federated_computation(
    tff.FederatedType(weights_type, tff.SERVER), tff.FederatedType(data_type, tff.CLIENTS)
  )
  def mean_of_trained(weights, data):
    return tff.federated_mean(tff.federated_map(train, (tff.federated_broadcast(weights), data)))

  return Case(mean_of_trained, (np.zeros([_PIXELS, _CLASSES], np.float32), data))


def _step(weights: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """One step of gradient descent on the mean cross-entropy, in closed form."""
  error = tf.nn.softmax(images @ weights) - tf.one_hot(labels, _CLASSES)
  size = tf.cast(tf.size(labels), tf.float32)
  return weights - _LEARNING_RATE / size * tf.matmul(images, error, transpose_a=True)


def _images(num_clients: int, count: int, seed: int) -> list[Images]:
  """Random images, as only their number matters."""
  rng = np.random.default_rng(seed)
  return [
    Images(
      rng.random([count, _PIXELS], np.float32), rng.integers(_CLASSES, size=count, dtype=np.int32)
    )
    for _ in range(num_clients)
  ]
