"""What `experiments.benchmarks.round` measures: a round in several implementations.

A contender is a callable without arguments that does one round, on the state that its
last call left. All begin with the same state.
"""

import dataclasses
import itertools
import pathlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_federated as tff
import tqdm
from sklearn import metrics

from experiments import crpa_setup, original_crpa, program
from experiments.benchmarks import flops
from experiments.crpa_config import CRPAConfig
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.data.datasets import Images
from tff_attacks.learning import process
from tff_attacks.metrics import classification

PARTS = ("local_training", "gan", "evaluation")
ROUNDS = ("in_process", "worker", "bare", "keras_fit", "original")
ORDER = (*ROUNDS, *PARTS, "parts_sum", "matmul")

Work = Callable[[], object]

_Evaluate = Callable[[keras_state.ModelWeights], np.float32]
_Gan = Callable[[process.ServerState, attack_lib.State], tuple[attack_lib.State, Images]]

_MATMUL_SIZE = 2048
_MATMULS = 8
_PREDICT_BATCH = 500


class Start(NamedTuple):
  """What all contenders begin with.

  Attributes:
    server: The server's state.
    clients: The clients' states.
    data: The clients' images.
    adversary: Index of the client that attacks.
  """

  server: process.ServerState
  clients: list[process.ClientState]
  data: list[Images]
  adversary: int


def current_context() -> Any:
  """The TFF context in force."""
  return tff.framework.get_context_stack().current


def build(
  config: CRPAConfig,
  setup: crpa_setup.Setup,
  place: Callable[[Any], Any],
  contexts: Mapping[str, Any],
) -> dict[str, Work]:
  """Builds everything that is measured in this process.

  Args:
    config: The run whose rounds are measured.
    setup: From it.
    place: Puts a structure of arrays on the device.
    contexts: TFF contexts by name.

  Returns:
    Contenders, parts of a round, and matrix products, by name.
  """
  server, clients = crpa_setup.initial_states(config, setup)
  # The attack starts once accuracy was above 0; from here on it is there in every round.
  server = server._replace(accuracy=np.float32(1.0))
  arrays = Start(server, clients, setup.data, setup.split.adversary)
  start = Start(place(server), place(clients), place(setup.data), setup.split.adversary)
  evaluate = _evaluate(setup)
  gan = _gan(setup, start)
  works: dict[str, Work] = {
    name: Federated(context, setup, evaluate, arrays if name == "worker" else start)
    for name, context in contexts.items()
  }
  return works | {
    "bare": Bare(setup, evaluate, start),
    "keras_fit": KerasFit(config, setup, gan, arrays),
    "local_training": _local_training(setup, gan, start),
    "gan": lambda: gan(start.server, _adversary(start).attack),
    "evaluation": lambda: evaluate(start.server.weights),
    "matmul": _matmul(),
  }


def warm_up(works: Mapping[str, Any], rounds: int) -> None:
  """Does everything some times, so that nothing is traced any more.

  Raises:
    RuntimeError: If the rounds of this project and of the loop without TFF differ.
  """
  for work in tqdm.tqdm(works.values(), "warm-up"):
    for _ in range(rounds):
      work()
  ours, bare = (_losses(works[name].clients) for name in ("in_process", "bare"))
  if not np.allclose(ours, bare, rtol=1e-2):
    raise RuntimeError(f"in_process and bare do different work: losses {ours} and {bare}")


class Federated:
  """A round as `tff_attacks.simulation` drives it: the TFF process and an evaluation.

  Attributes:
    clients: The clients' states.
  """

  def __init__(
    self,
    context: tff.framework.SyncContext,
    setup: crpa_setup.Setup,
    evaluate: _Evaluate,
    start: Start,
  ):
    self._context = context
    self._process = setup.compiled.federation.process
    self._evaluate = evaluate
    self._data = start.data
    self._server = start.server
    self.clients = start.clients

  def __call__(self) -> None:
    """Does the round."""
    with tff.framework.get_context_stack().install(self._context):
      server, clients, _ = self._process.next(self._server, self.clients, self._data)
    self.clients = list(clients)
    self._server = server._replace(accuracy=self._evaluate(server.weights))


class Bare:
  """The same round in a loop over one `tf.function`, without TFF.

  Attributes:
    clients: The clients' states.
  """

  def __init__(self, setup: crpa_setup.Setup, evaluate: _Evaluate, start: Start):
    training, attack = setup.compiled.training, setup.compiled.attack
    model = keras_state.build(setup.compiled.model_fn)
    workspace = attack.build(model)
    client = _adversary(start)
    client_specs = _specs(client)._replace(attack=_specs(client.attack, free=True))

    @tf.function(
      input_signature=[_specs(_context(start.server)), client_specs, _specs(start.data[0], True)]
    )
    def client_round(context, state, data):
      return process.client_round(model, training, attack, workspace, context, state, data)

    self._client_round = client_round
    self._apply_mean = tf.function(_apply_mean)
    self._evaluate = evaluate
    self._data = start.data
    self._server = start.server
    self.clients = start.clients

  def __call__(self) -> None:
    """Does the round."""
    server, context = self._server, _context(self._server)
    outputs = [
      self._client_round(context, state, data)
      for state, data in zip(self.clients, self._data, strict=True)
    ]
    self.clients = [output.state for output in outputs]
    weights = self._apply_mean(server.weights, [output.update for output in outputs])
    accuracy = tf.constant(self._evaluate(weights))
    self._server = server._replace(weights=weights, round=server.round + 1, accuracy=accuracy)


class KerasFit:
  """A plain Keras loop: `fit` for each client, mean of the weights, `predict`.

  Keras has no GAN of the adversary, so that takes the same function as `gan` alone.
  """

  def __init__(self, config: CRPAConfig, setup: crpa_setup.Setup, gan: _Gan, start: Start):
    self._batch_size = config.batch_size
    self._gan = gan
    self._start = start
    self._test = setup.compiled.dataset.test
    self._loss_fn = setup.compiled.loss_fn
    self._server = start.server
    self._attack_state = _adversary(start).attack
    # One model a client, since the state of its optimizer persists.
    self._models = [setup.compiled.model_fn() for _ in start.clients]
    for model in self._models:
      model.compile(tf.keras.optimizers.Adam(config.learning_rate), setup.compiled.loss_fn)

  def __call__(self) -> None:
    """Does the round."""
    server = self._server
    self._attack_state, poisoned = self._gan(server, self._attack_state)
    for index, (model, own) in enumerate(zip(self._models, self._start.data, strict=True)):
      data = poisoned if index == self._start.adversary else own
      model.set_weights(server.weights.trainable)
      model.fit(*data, batch_size=self._batch_size, verbose=0)
    every = [model.get_weights() for model in self._models]
    weights = [np.mean(weight, axis=0) for weight in zip(*every, strict=True)]
    model = self._models[0]
    model.set_weights(weights)
    outputs = model.predict(self._test.images, batch_size=_PREDICT_BATCH, verbose=0)
    self._loss_fn(self._test.labels, outputs)
    confusion = metrics.confusion_matrix(
      self._test.labels, outputs.argmax(axis=1), labels=range(outputs.shape[1])
    )
    self._server = server._replace(
      weights=server.weights._replace(trainable=weights),
      round=server.round + 1,
      accuracy=np.float32(classification.accuracy(confusion)),
    )


def original(config: original_crpa.OriginalConfig, folder: pathlib.Path) -> Callable[[], float]:
  """Returns a measurement of the published code, which runs in a process of its own.

  Args:
    config: Its options.
    folder: Where its results folders go, one a start.
  """
  starts = itertools.count()

  def measure():
    output_dir = folder / str(next(starts))
    options = dataclasses.asdict(config) | {"output_dir": str(output_dir)}
    command = program.command("original_crpa", options)
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
      raise RuntimeError(f"original: it failed with\n{result.stderr}")
    rounds = pd.read_csv(output_dir / "metrics.csv")
    # It attacks once its accuracy was above 0. The first attack traces the GAN.
    seconds = rounds["seconds"][rounds["test_accuracy"].shift() > 0].iloc[1:]
    if seconds.empty:
      raise RuntimeError(f"original: no round under attack in {output_dir}; more original_rounds")
    return float(seconds.median())

  return measure


def gflop(config: CRPAConfig, setup: crpa_setup.Setup, names: Sequence[str]) -> pd.Series:
  """Floating-point operations of everything that is measured, in 1e9.

  The original counts as any other round, although it evaluates twice.
  """
  model = flops.forward(keras_state.build(setup.compiled.model_fn))
  generator = flops.forward(setup.compiled.generator)
  sizes = [images.labels.size for images in setup.data]
  own, poison_images = sizes[setup.split.adversary], config.poison_images
  parts = {
    "local_training": flops.local_training(model, sizes, poison_images),
    "gan": flops.gan(model, generator, own, config.batch_size, poison_images),
    "evaluation": model * setup.compiled.dataset.test.labels.size,
  }
  counts = dict.fromkeys([*ROUNDS, "parts_sum"], sum(parts.values())) | parts
  counts["matmul"] = _MATMULS * 2 * _MATMUL_SIZE**3
  return pd.Series(counts)[names] / 1e9


def _evaluate(setup: crpa_setup.Setup) -> _Evaluate:
  """Returns (weights) -> test accuracy, as the next round's context needs it."""
  evaluate = setup.compiled.evaluate
  return lambda weights: np.float32(classification.accuracy(evaluate(weights).confusion))


def _gan(setup: crpa_setup.Setup, start: Start) -> _Gan:
  """Returns (server, attack's state in its slot) -> (new state, poisoned data)."""
  attack = setup.compiled.attack
  workspace = attack.build(keras_state.build(setup.compiled.model_fn))
  slot, own = _adversary(start).attack, start.data[start.adversary]
  seed = tf.constant([0, 1])

  @tf.function(
    input_signature=[_specs(slot, True), _specs(_context(start.server)), _specs(own, True)]
  )
  def poison_data(slot, context, data):
    state = tf.nest.map_structure(lambda t: t[0], slot)
    state, poisoned = attack.poison_data(workspace, state, context, data, seed)
    return tf.nest.map_structure(lambda t: t[tf.newaxis], state), poisoned

  return lambda server, slot: poison_data(slot, _context(server), own)


def _local_training(setup: crpa_setup.Setup, gan: _Gan, start: Start) -> Work:
  """The clients' training alone, the adversary's on data that is poisoned already."""
  model = keras_state.build(setup.compiled.model_fn)
  weights, seed = start.server.weights, tf.constant([0, 1])
  data = list(start.data)
  _, data[start.adversary] = gan(start.server, _adversary(start).attack)

  @tf.function(
    input_signature=[_specs(weights), _specs(start.clients[0].optimizer), _specs(data[0], True)]
  )
  def train(weights, optimizer, data):
    return setup.compiled.training.train(model, weights, optimizer, data, seed)

  def work():
    for client, images in zip(start.clients, data, strict=True):
      train(weights, client.optimizer, images)

  return work


def _matmul() -> Work:
  """Square products, the fastest that this machine computes."""
  shape = [_MATMUL_SIZE, _MATMUL_SIZE]
  left, right = (tf.random.stateless_normal(shape, [0, i]) for i in range(2))

  def work():
    for _ in range(_MATMULS):
      tf.matmul(left, right)

  return work


def _apply_mean(weights, updates):
  """Weights plus the mean of the updates."""
  return tf.nest.map_structure(lambda w, *u: w + tf.add_n(u) / len(u), weights, *updates)


def _context(server: process.ServerState) -> attack_lib.Context:
  return attack_lib.Context(server.weights, server.round, server.accuracy)


def _adversary(start: Start) -> process.ClientState:
  return start.clients[start.adversary]


def _losses(clients: Sequence[process.ClientState]) -> list[float]:
  """Each client's training loss and, of an adversary, the generator's."""
  losses = [client.loss for client in clients]
  losses += [loss for client in clients for loss in client.attack.generator_loss]
  return [float(loss) for loss in losses]


def _specs(structure: Any, free: bool = False) -> Any:
  """Tensor specs of a structure; `free` leaves the first dimension open, as TFF's types do."""
  return tf.nest.map_structure(
    lambda x: tf.TensorSpec([None, *x.shape[1:]] if free else x.shape, x.dtype), structure
  )
