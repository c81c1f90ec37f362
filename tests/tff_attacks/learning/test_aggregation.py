"""Every aggregator by its name, in the federated process."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.tff_attacks.learning import test_robust
from tff_attacks import keras_state
from tff_attacks.attacks import attack as attack_lib
from tff_attacks.learning import aggregation, aggregator_names, process, robust
from tff_attacks.runtime import in_process

CLIENTS, BOUND = 7, 0.5
SERVER = aggregation.Assumptions(CLIENTS, byzantine=1, norm_bound=BOUND)
DATA = [tiny.images(i, 4 + 3 * i) for i in range(CLIENTS)]


@functools.cache
def build(name, server):
  return process.build_federation(
    tiny.global_model,
    tiny.training(),
    attack_lib.honest(),
    aggregation.build_aggregator(name, server),
  )


@functools.cache
def on_vectors(name):
  factory = aggregation.build_aggregator(name, SERVER)
  return factory.create(tff.TensorType(np.float32, [2]), tff.TensorType(np.float32))


def one_round(name, server, indices):
  """What a round adds to the weights, as one vector, and the measurements."""
  federation = build(name, server)
  weights = keras_state.initial_weights(tiny.global_model, 0)
  state = federation.initial_server(weights)
  clients = [federation.initial_client(0, i) for i in indices]
  after, _, measurements = federation.process.next(state, clients, [DATA[i] for i in indices])
  parts = zip(tf.nest.flatten(after.weights), tf.nest.flatten(weights), strict=True)
  return np.concatenate([np.ravel(a - b) for a, b in parts]), measurements


@pytest.fixture(scope="module")
def updates():
  """Of each client alone."""
  with in_process.in_process():
    return np.array([one_round("mean", None, [i])[0] for i in range(CLIENTS)])


def clipped(updates, norm):
  return updates * np.minimum(1, norm / np.linalg.norm(updates, axis=1))[:, np.newaxis]


def expected(name, updates):
  last = np.zeros(updates.shape[1], np.float32)
  if name == "geometric_median":
    found = robust.apply(robust.geometric_median(), tf.constant(updates), SERVER.byzantine, last)
    return found[0].numpy()
  if name in aggregation.RULES:
    bound = {"norm_filter": {"bound": BOUND}, "centered_clipping": {"radius": BOUND}}.get(name, {})
    return test_robust.REFERENCES[name](updates, SERVER.byzantine, last, **bound)
  if name in ("norm_clipping", "adaptive_norm_clipping", *aggregator_names.NOISY):
    return clipped(updates, BOUND).mean(axis=0)
  sizes = [data.labels.size for data in DATA] if name == "examples_weighted_mean" else None
  return np.average(updates, axis=0, weights=sizes)


@pytest.mark.parametrize("name", aggregator_names.NAMES)
def test_in_the_federated_process(name, updates, tff_runtime):
  del tff_runtime
  norms = np.linalg.norm(updates, axis=1)
  assert norms.min() < BOUND < norms.max(), norms
  found, measurements = one_round(name, SERVER, range(CLIENTS))
  np.testing.assert_allclose(found, expected(name, updates), rtol=1e-3, atol=1e-5)
  if name in aggregation.RULES:
    np.testing.assert_allclose(measurements["norms"], norms, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, 2e38])
@pytest.mark.parametrize("name", aggregator_names.NAMES)
def test_updates_whose_norm_is_not_finite_are_refused_and_counted(name, bad):
  aggregator = on_vectors(name)
  values = list(np.random.default_rng(0).normal(size=[CLIENTS, 2], scale=0.1).astype(np.float32))
  values[3] = np.array([bad, 0], np.float32)
  with in_process.in_process():
    output = aggregator.next(aggregator.initialize(), values, [1.0] * CLIENTS)
  assert output.measurements["not_finite"] == 1
  assert np.isfinite(output.result).all()
  if name not in aggregation.RULES:  # They are compared in test_robust.py.
    share = 1 if name in ("nonempty_mean", "examples_weighted_mean") else 6 / 7
    expected = share * np.delete(values, 3, axis=0).mean(axis=0)
    np.testing.assert_allclose(output.result, expected, atol=1e-6)


@pytest.mark.parametrize("name", aggregator_names.NAMES)
def test_if_all_are_refused_the_result_is_zero(name):
  aggregator = on_vectors(name)
  values = [np.full([2], np.nan, np.float32)] * CLIENTS
  with in_process.in_process():
    output = aggregator.next(aggregator.initialize(), values, [1.0] * CLIENTS)
  assert output.measurements["not_finite"] == CLIENTS
  np.testing.assert_array_equal(output.result, 0)


@pytest.mark.parametrize("name", aggregator_names.NOISY)
def test_dp_adds_its_noise(name):
  server = SERVER._replace(norm_bound=1, noise_multiplier=2)  # Integers, too.
  factory = aggregation.build_aggregator(name, server)
  aggregator = factory.create(tff.TensorType(np.float32, [5000]), tff.TensorType(np.float32))
  values = [np.zeros(5000, np.float32)] * CLIENTS
  with in_process.in_process():
    output = aggregator.next(aggregator.initialize(), values, [1.0] * CLIENTS)
  # A part of what the multiplier stands for goes to the adaptive norm, see test_clients.py.
  multiplier = 2.0 if name == "dp" else (2.0**-2 - (2 * 2.0) ** -2) ** -0.5
  assert output.result.std() == pytest.approx(multiplier / CLIENTS, rel=0.05)


def test_the_adaptive_norm_follows_the_median():
  factory = aggregation.build_aggregator("adaptive_norm_clipping", SERVER)
  aggregator = factory.create(tff.TensorType(np.float32, [1]), tff.TensorType(np.float32))
  values = [np.full([1], v, np.float32) for v in (2, 3, 4, 5, 600)]
  with in_process.in_process():
    state = aggregator.initialize()
    for _ in range(60):
      output = aggregator.next(state, values, [1.0] * 5)
      state = output.state
  assert 3 <= output.result[0] <= (2 + 3 + 4 + 5 + 5) / 5


def test_every_name_is_of_one_aggregator():
  built = [*aggregation.AGGREGATORS, *aggregation.RULES]
  assert sorted(aggregator_names.NAMES) == sorted(built)
  assert len(set(built)) == len(built)


def test_an_unknown_name_is_refused_with_those_that_are_allowed():
  with pytest.raises(ValueError, match=r"unknown 'median'; allowed: mean, nonempty_mean, .* krum"):
    aggregation.build_aggregator("median")


@pytest.mark.parametrize("name", ["norm_filter", "trimmed_mean", "krum", "norm_clipping", "dp"])
def test_what_has_to_know_its_clients_is_not_built_without(name):
  with pytest.raises(ValueError, match=f"{name} needs to know what the server assumes"):
    aggregation.build_aggregator(name)


@pytest.mark.parametrize("name", ["norm_filter", "norm_clipping", "centered_clipping", "dp"])
def test_a_bound_is_not_made_up(name):
  with pytest.raises(ValueError, match=f"norm_bound: aggregator={name} needs one"):
    aggregation.build_aggregator(name, aggregation.Assumptions(CLIENTS))


@pytest.mark.parametrize(
  ("name", "least"), [("krum", 9), ("bulyan", 15), ("trimmed_mean", 7), ("geometric_median", 7)]
)
def test_a_rule_whose_guarantee_would_not_hold_is_refused(name, least):
  aggregation.build_aggregator(name, aggregation.Assumptions(least, byzantine=3))
  with pytest.raises(ValueError, match=f"{name} needs {least} clients in a round if 3 may be"):
    aggregation.build_aggregator(name, aggregation.Assumptions(least - 1, byzantine=3))
