"""Turns the configuration of a semi-targeted attack into a federation."""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from experiments import data as data_lib
from experiments import defence_options, saved_config, semi_targeted_config
from experiments.options import bad_input
from experiments.semi_targeted_config import SemiTargetedConfig
from models import registry
from tff_attacks import files, keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.attacks import distance_aware, label_flipping, scaling
from tff_attacks.data import datasets, partition
from tff_attacks.learning import aggregation, local_training, process
from tff_attacks.privacy import models
from tff_attacks.simulation import evaluation, loop

CONVERGED = "converged.npz"
"""In a results folder: the federation when the attack began."""
_OPTIMIZER = "optimizer"


class Converged(NamedTuple):
  """The federation when the attack begins.

  Attributes:
    weights: The global model's.
    rounds: How many rounds it was trained.
    converged: Whether its loss had stopped falling, or there were no more rounds.
    optimizers: The leaves of the optimizer's state, `[clients, ...]`; none if it is not kept.
  """

  weights: keras_state.ModelWeights
  rounds: int
  converged: bool
  optimizers: list[np.ndarray]

  @classmethod
  def of(cls, progress: loop.Progress, converged: bool) -> "Converged":
    """What a training without attack has come to."""
    by_client = (tf.nest.flatten(client.optimizer) for client in progress.clients)
    optimizers = [np.stack(leaves) for leaves in zip(*by_client, strict=True)]
    return cls(progress.server.weights, progress.rounds, converged, optimizers)

  def resumed(self, client: process.ClientState, index: int) -> process.ClientState:
    """A client that has its optimizer from before the attack."""
    leaves = [leaf[index] for leaf in self.optimizers]
    return client._replace(optimizer=tf.nest.pack_sequence_as(client.optimizer, leaves))

  def arrays(self) -> dict[str, np.ndarray]:
    """As arrays with names, to be read by `read`."""
    parts = self.weights._asdict() | {_OPTIMIZER: self.optimizers}
    named = {
      f"{kind}{i:04d}": np.asarray(array)
      for kind, part in parts.items()
      for i, array in enumerate(part)
    }
    return {"rounds": np.array(self.rounds), "converged": np.array(self.converged), **named}

  @classmethod
  def read(cls, path: pathlib.Path) -> "Converged":
    """Reads the file of those arrays.

    Raises:
      ValueError: If it cannot be read.
      KeyError: If it is another file.
    """
    arrays = files.read_npz(path)
    *weights, optimizers = (
      [arrays[name] for name in sorted(arrays) if name[:-4] == kind]
      for kind in (*keras_state.ModelWeights._fields, _OPTIMIZER)
    )
    return cls(
      keras_state.ModelWeights(*weights),
      int(arrays["rounds"]),
      bool(arrays["converged"]),
      optimizers,
    )


class Compiled(NamedTuple):
  """What runs of equal shapes share; it is traced once, whatever the classes and the seed.

  Attributes:
    dataset: Training and test set.
    model_fn: Builds the global model.
    federation: The TFF process and the functions that make its states.
    evaluate: Weights -> loss and confusion matrix on the test set.
  """

  dataset: datasets.Dataset
  model_fn: keras_state.ModelFn
  federation: process.Federation
  evaluate: Callable[[keras_state.ModelWeights], evaluation.Evaluation]


class Setup(NamedTuple):
  """Everything a run needs.

  Attributes:
    compiled: What it shares with others.
    data: Each client's images while the federation converges.
    attack_data: Each client's images in the attack.
    adversaries: The compromised clients.
    parameters: The attack's.
    sample: Round -> the clients that take part.
    start: Where another run converged, or None.
  """

  compiled: Compiled
  data: datasets.ClientImages
  attack_data: datasets.ClientImages
  adversaries: list[int]
  parameters: label_flipping.Parameters
  sample: loop.Sample
  start: Converged | None


class _Shapes(NamedTuple):
  """The options that a trace depends on."""

  dataset: str
  data_dir: str | None
  test_images: int
  model: str
  clients_per_round: int
  batch_size: int
  local_epochs: int
  learning_rate: float
  keep_optimizer_state: bool
  attack: str
  boost: float | None
  aggregator: str
  byzantine: int
  norm_bound: float | None
  noise_multiplier: float


@bad_input()
def prepare(config: SemiTargetedConfig) -> Setup:
  """Loads the data, splits it and builds the federation.

  Raises:
    ConfigError: If data, model or aggregator cannot be had as asked.
  """
  dataset = data_lib.load(config.dataset, config.data_dir, config.test_images)
  rng = np.random.default_rng(config.seed)
  owned = partition.random_samples(
    rng, dataset.train.labels.size, config.num_clients, config.samples_per_client
  )
  count = semi_targeted_config.num_adversaries(config)
  adversaries = sorted(rng.permutation(config.num_clients)[:count].tolist())
  attacked = owned
  if not config.honest_sources:
    attacked = partition.source_at_compromised(
      rng, dataset.train.labels, owned, config.sources, adversaries, config.injection_rate
    )
  data, attack_data = (datasets.ClientImages(dataset.train, own) for own in (owned, attacked))
  if np.isin(dataset.test.labels, config.sources).all():
    raise ValueError("test_images: they are all of source classes")
  for source in config.sources:
    if source not in dataset.test.labels:
      raise ValueError(f"test_images: no test image of class {source}")
    if count and not any(source in attack_data.labels(client) for client in adversaries):
      raise ValueError(f"sources: no compromised client holds class {source}")
  compiled = _compile(_Shapes(*(getattr(config, name) for name in _Shapes._fields)))
  return Setup(
    compiled,
    data,
    attack_data,
    adversaries,
    _parameters(dataset.num_classes, config),
    _sample(config),
    _converged(config, compiled.model_fn),
  )


def _parameters(num_classes: int, config: SemiTargetedConfig) -> label_flipping.Parameters:
  chooses = config.attack in semi_targeted_config.CHOOSING
  target = semi_targeted_config.NO_TARGET if chooses else config.target
  return label_flipping.Parameters(
    *label_flipping.one_target(num_classes, config.sources, target),
    config.injection_rate,
  )


@functools.lru_cache(maxsize=4)
def _compile(shapes: _Shapes) -> Compiled:
  dataset = data_lib.load(shapes.dataset, shapes.data_dir, shapes.test_images)
  model_fn, model, contract = registry.global_model(
    shapes.model, dataset.image_shape, dataset.num_classes
  )
  if shapes.attack in semi_targeted_config.CHOOSING:
    distance_aware.build(model)
  if shapes.noise_multiplier:
    models.check_noised(model)
  loss_fn = local_training.cross_entropy(contract.from_logits)
  training = local_training.local_training(
    local_training.build_optimizer("adam", shapes.learning_rate),
    local_training.plain_gradient(loss_fn),
    shapes.batch_size,
    shapes.local_epochs,
    keep_optimizer_state=shapes.keep_optimizer_state,
  )
  example = label_flipping.Parameters(*label_flipping.one_target(dataset.num_classes, [0], 1))
  federation = process.build_federation(
    model_fn,
    training,
    _attack(shapes, example, contract.from_logits),
    aggregation.build_aggregator(
      shapes.aggregator, defence_options.assumptions(shapes, shapes.clients_per_round)
    ),
  )
  evaluate = evaluation.build_evaluation(model_fn, loss_fn, dataset.test)
  return Compiled(dataset, model_fn, federation, evaluate)


def _attack(
  shapes: _Shapes, parameters: label_flipping.Parameters, from_logits: bool
) -> attack_lib.ClientAttack:
  flipping = functools.partial(label_flipping.label_flipping, parameters)
  boost = scaling.model_replacement(shapes.boost or shapes.clients_per_round)
  ada = functools.partial(distance_aware.distance_aware, parameters, from_logits=from_logits)
  attacks: dict[str, Callable[[], attack_lib.ClientAttack]] = {
    "none": attack_lib.honest,
    "label_flipping": flipping,
    "train_and_scale": functools.partial(flipping, poison_update=scaling.train_and_scale),
    "model_replacement": functools.partial(flipping, poison_update=boost),
    "ada_full": functools.partial(ada, full_knowledge=True),
    "ada_partial": functools.partial(ada, full_knowledge=False),
  }
  return attacks[shapes.attack]()


def _sample(config: SemiTargetedConfig) -> loop.Sample:
  draw = tff.simulation.build_uniform_sampling_fn(
    range(config.num_clients), random_seed=config.seed
  )
  return lambda round_number: [int(i) for i in draw(round_number, config.clients_per_round)]


def _converged(config: SemiTargetedConfig, model_fn: keras_state.ModelFn) -> Converged | None:
  """Where another run converged, if this one starts there and has not begun.

  Raises:
    ValueError: If it is not there, or of another federation.
  """
  begun = config.output_dir and (pathlib.Path(config.output_dir) / CONVERGED).exists()
  if config.start_from is None or begun:
    return None
  folder = pathlib.Path(config.start_from)
  try:
    start = Converged.read(folder / CONVERGED)
  except (ValueError, KeyError) as error:
    raise ValueError(f"start_from: {folder / CONVERGED} cannot be read: {error}") from error
  saved_config.check_start(
    config,
    (
      "dataset", "model", "num_clients", "samples_per_client", "seed", "keep_optimizer_state",
      "clients_per_round", "batch_size", "local_epochs", "learning_rate", "converge_rounds",
      "patience",
    ),
  )  # fmt: skip
  shapes = [
    [w.shape for w in tf.nest.flatten(weights)]
    for weights in (start.weights, keras_state.initial_weights(model_fn, 0))
  ]
  if shapes[0] != shapes[1]:
    raise ValueError(f"start_from: the weights in {folder} are not those of model={config.model}")
  return start
