import functools

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.learning import aggregation, process
from tff_attacks.runtime import in_process, worker

CLIENTS = 3
TRAINING = tiny.training()


@functools.cache
def build(attack=None, training=None, aggregator="mean", model_fn=tiny.global_model, observe=False):
  return process.build_federation(
    model_fn,
    training or TRAINING,
    attack or attack_lib.honest(),
    aggregation.build_aggregator(aggregator),
    observe,
  )


def start(federation, adversary=None, seed=0, parameters=None, model_fn=tiny.global_model):
  server = federation.initial_server(keras_state.initial_weights(model_fn, seed))
  parameters = tiny.parameters() if parameters is None else parameters
  clients = [
    federation.initial_client(seed, index, parameters if index == adversary else None)
    for index in range(CLIENTS)
  ]
  return server, clients


def run(federation, server, clients, data, rounds):
  for _ in range(rounds):
    server, clients, _ = federation.process.next(server, list(clients), data)
    server = server._replace(accuracy=np.float32(0.5))
  return server, clients


DATA = [tiny.images(seed, count) for seed, count in enumerate((9, 12, 5))]


def assert_equal(first, second):
  tf.nest.map_structure(np.testing.assert_array_equal, first, second)


def assert_close(first, second, **tolerance):
  tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


def test_type_signatures():
  federation = build(tiny.attack())
  signature = federation.process.next.type_signature
  server, clients, data = signature.parameter
  assert server.placement is tff.SERVER
  assert clients.placement is tff.CLIENTS
  assert data.placement is tff.CLIENTS
  assert signature.result[0].is_equivalent_to(server)
  assert signature.result[1].is_equivalent_to(clients)
  assert signature.result[2].placement is tff.SERVER


def test_parameters_of_another_kind_are_refused_at_once():
  federation = build(tiny.attack())
  whole = federation.initial_client(0, 1, tiny.parameters(total_variation=1))
  assert whole.attack.parameters.total_variation.dtype == np.float32
  with pytest.raises(TypeError, match=r"float32.*int32"):
    federation.initial_client(0, 1, tiny.parameters(label=1.5))


@pytest.mark.usefixtures("tff_runtime")
class TestRounds:
  def test_equals_tffs_own_federated_averaging(self):
    """No attack, SGD, no dropout, fixed order, weighted by examples: 5 rounds."""
    sgd = tff.learning.optimizers.build_sgdm(0.05)
    federation = build(
      training=tiny.training(sgd, shuffle=False), aggregator="examples_weighted_mean"
    )
    server, clients = start(federation)
    initial = server.weights
    server, _ = run(federation, server, clients, DATA, 5)

    def model_fn():
      spec = (
        tf.TensorSpec([None, *tiny.IMAGE_SHAPE], tf.float32),
        tf.TensorSpec([None], tf.int32),
      )
      return tff.learning.models.from_keras_model(
        tiny.global_model(), loss=tiny.LOSS_FN, input_spec=spec
      )

    reference = tff.learning.algorithms.build_weighted_fed_avg(model_fn, client_optimizer_fn=sgd)
    state = reference.set_model_weights(reference.initialize(), initial)
    datasets = [tf.data.Dataset.from_tensor_slices(tuple(d)).batch(tiny.BATCH_SIZE) for d in DATA]
    for _ in range(5):
      state = reference.next(state, datasets).state
    expected = reference.get_model_weights(state)
    assert_close(list(server.weights.trainable), list(expected.trainable), atol=1e-6)
    moved = np.abs(server.weights.trainable[0] - initial.trainable[0]).max()
    assert moved > 0.01

  def test_an_observed_client_shows_its_update(self):
    """As it was before aggregation, in any round; other federations' measurements are as ever."""
    sgd = tff.learning.optimizers.build_sgdm(0.05)
    training = tiny.training(sgd, shuffle=False)
    federation = build(training=training, observe=True)
    server, clients = start(federation)
    server, clients = run(federation, server, clients, DATA, 1)
    before = tf.nest.map_structure(tf.convert_to_tensor, server.weights)
    _, _, unseen = federation.process.next(server, list(clients), DATA)
    assert not any(np.any(part) for part in tf.nest.flatten(unseen["observed"]))
    clients[1] = clients[1]._replace(observed=np.bool_(True))
    _, clients, measurements = federation.process.next(server, list(clients), DATA)
    model = keras_state.build(tiny.global_model)
    data = tf.nest.map_structure(tf.convert_to_tensor, DATA[1])
    optimizer = training.initialize(before)
    expected = training.train(model, before, optimizer, data, tf.constant([0, 0])).update
    assert_close(
      list(measurements["observed"].trainable), [np.asarray(w) for w in expected.trainable],
      atol=1e-6,
    )  # fmt: skip
    assert [bool(client.observed) for client in clients] == [False, True, False]
    assert "aggregator" in measurements

  def test_plain_mean_ignores_the_number_of_examples(self):
    training = tiny.training(shuffle=False)
    federation = build(training=training)
    server, clients = start(federation)
    after, _ = run(federation, server, clients, DATA, 1)
    weights = tf.nest.map_structure(tf.convert_to_tensor, server.weights)
    model = keras_state.build(tiny.global_model)
    updates = [
      training.train(
        model, weights, training.initialize(weights), tf.nest.map_structure(tf.constant, data),
        tf.constant([0, 0]),
      ).update
      for data in DATA
    ]  # fmt: skip
    expected = tf.nest.map_structure(lambda w, *u: w + sum(u) / CLIENTS, weights, *updates)
    assert_close(after.weights, expected, atol=1e-6)

  def test_the_adversary_changes_nothing_for_honest_clients_of_its_round(self):
    federation = build(tiny.attack())
    server, clients = start(federation, adversary=1)
    server = server._replace(accuracy=np.float32(0.5))
    _, honest = start(federation)
    attacked, with_attack, _ = federation.process.next(server, clients, DATA)
    clean, without_attack, _ = federation.process.next(server, honest, DATA)
    for index in (0, 2):
      assert_equal(with_attack[index], without_attack[index])
    assert bool(with_attack[1].attack.started[0])
    assert np.abs(attacked.weights.trainable[0] - clean.weights.trainable[0]).max() > 1e-5

  def test_an_adversary_may_train_in_its_own_way(self):
    own = tiny.training(epochs=4)
    mixed = build(attack_lib.honest()._replace(training=own))

    def losses_and_norms(federation, **options):
      server, clients = start(federation, parameters=(), **options)
      _, clients = run(federation, server, clients, DATA, 1)
      return [(client.loss, client.update_norm) for client in clients]

    honest, others = losses_and_norms(build()), losses_and_norms(build(training=own))
    assert_close(losses_and_norms(mixed, adversary=1), [honest[0], others[1], honest[2]], rtol=1e-5)
    assert others[1][1] > 2 * honest[1][1]

  def test_client_states_persist(self):
    federation = build(tiny.attack())
    server, clients = start(federation, adversary=1)
    for round_number in range(1, 4):
      server, clients = run(federation, server, clients, DATA, 1)
      counted = [int(client.optimizer["step"]) for client in clients]
      # The adversary has 12 own and 5 generated images, in batches of 4.
      assert counted == [3 * round_number, 5 * round_number, 2 * round_number]
    assert server.round == 3
    assert clients[0].attack.generator.trainable[0].shape[0] == 0
    assert clients[1].attack.generator.trainable[0].shape[0] == 1

  @pytest.mark.parametrize("changes", [{"steps": 0}, {"label": -1}, {"total_variation": 1.0}])
  def test_the_attack_is_the_same_inside_and_outside_of_tff(self, changes):
    attack, training = tiny.attack(), TRAINING
    federation = build(attack, training)
    server, clients = start(federation, adversary=1, parameters=tiny.parameters(**changes))
    server = server._replace(accuracy=np.float32(0.5))
    _, inside, _ = federation.process.next(server, clients, DATA)
    context = attack_lib.Context(server.weights, server.round, server.accuracy)
    model = keras_state.build(tiny.global_model)
    to_tensors = functools.partial(tf.nest.map_structure, tf.convert_to_tensor)
    outside = process.client_round(
      model, training, attack, attack.build(model), *map(to_tensors, (context, clients[1], DATA[1]))
    )
    assert_close(inside[1], outside.state, atol=1e-6)
    moved = inside[1].attack.generator.trainable[0] - clients[1].attack.generator.trainable[0]
    assert np.abs(moved).max() > 1e-4

  def test_same_seed_same_numbers_other_seed_other_numbers(self):
    federation = build(tiny.attack(), model_fn=lambda: tiny.global_model(dropout=0.3))
    first, again, other = (
      run(federation, *start(federation, adversary=1, seed=seed), DATA, 3) for seed in (1, 1, 2)
    )
    assert_equal(first, again)
    assert np.abs(first[0].weights.trainable[0] - other[0].weights.trainable[0]).max() > 1e-3

  def test_neither_a_seed_nor_a_pair_retraces(self):
    traces = []

    def counting_model():
      traces.append(tf.inside_function() or not tf.executing_eagerly())
      return tiny.global_model()

    federation = build(tiny.attack(), model_fn=counting_model)
    run(federation, *start(federation, adversary=1), DATA, 1)
    before = sum(traces)
    assert before > 0
    # All starts first: to set a seed empties TensorFlow's kernel cache, which takes time.
    starts = []
    for seed in range(8):
      parameters = tiny.parameters(
        reconstruct=seed % 3, label=(seed + 1) % 4, poison_images=seed + 1, total_variation=0.5
      )
      starts.append(start(federation, adversary=2, seed=seed, parameters=parameters))
    for seed, states in enumerate(starts):
      _, clients = run(federation, *states, DATA, 1)
      assert clients[2].attack.parameters.poison_images == [seed + 1]
    assert sum(traces) == before

  def test_batch_norm_travels_and_is_averaged(self):

    def model_fn():
      return tiny.global_model(batch_norm=True)

    federation = build(model_fn=model_fn)
    server, clients = start(federation, model_fn=model_fn)
    after, _ = run(federation, server, clients, DATA, 1)
    alone = []
    for index, data in enumerate(DATA):
      single, _, _ = federation.process.next(server, [clients[index]], [data])
      alone.append(single.weights.non_trainable)
    for averaged, *each in zip(after.weights.non_trainable, *alone, strict=True):
      np.testing.assert_allclose(averaged, np.mean(each, axis=0), atol=1e-6)
      assert np.abs(averaged).max() > 0

  def test_a_subset_of_the_clients_can_take_part(self):
    federation = build(tiny.attack())
    server, clients = start(federation, adversary=1)
    server, cohort, _ = federation.process.next(server, clients[:2], DATA[:2])
    assert len(cohort) == 2

  def test_an_aggregator_of_tff_can_be_given_as_it_is(self):
    given = process.build_federation(
      tiny.global_model,
      tiny.training(),
      attack_lib.honest(),
      tff.aggregators.UnweightedMeanFactory(),
    )
    first, second = (run(one, *start(one), DATA, 1)[0].weights for one in (build(), given))
    assert_equal(first, second)

  def test_initialize_gives_usable_weights(self):
    server = build().process.initialize()
    assert np.abs(server.weights.trainable[0]).max() > 0


def test_five_rounds_in_process_equal_those_of_the_stock_worker():
  federation = build(tiny.attack())
  with in_process.in_process():
    states = start(federation, adversary=1)
  finals = []
  for runtime in (
    in_process.in_process(),
    in_process.in_process(client_threads=2, keep_tensors=True),
    worker.worker(),
  ):
    with runtime:
      server, clients = run(federation, *states, DATA, 5)
    assert bool(clients[1].attack.started[0])
    finals.append((server, clients))
  assert_equal(finals[0], finals[1])
  weights, expected = (
    np.concatenate([np.ravel(w) for w in tf.nest.flatten(server.weights)])
    for server, _ in finals[1:]
  )
  assert np.linalg.norm(weights - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.slow
def test_memory_stays_flat_over_300_rounds():
  federation = build(tiny.attack())
  memory = []
  with in_process.in_process(keep_tensors=True):
    server, clients = start(federation, adversary=1)
    for _ in range(300):
      server, clients = run(federation, server, clients, DATA, 1)
      memory.append(psutil.Process().memory_info().rss)
  assert np.median(memory[-40:]) < 1.02 * np.median(memory[20:60])
