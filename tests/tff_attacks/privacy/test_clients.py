"""The triad for noise at the server."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.privacy import clients
from tff_attacks.runtime import in_process

CLIENTS = 5
VALUE = tff.types.to_type([(np.float32, [100, 200]), (np.float32, [7])])


def updates(seed=0):
  rng = np.random.default_rng(seed)
  return [
    [rng.normal(size=s).astype(np.float32) * (i + 1) / 100 for s in ([100, 200], [7])]
    for i in range(CLIENTS)
  ]


def norm(update):
  return float(np.sqrt(sum((part.astype(float) ** 2).sum() for part in update)))


@pytest.fixture(autouse=True)
def _runtime():
  with in_process.in_process():
    yield


def aggregate(factory, values, seed=0, rounds=1):
  process = factory.create(VALUE)
  state = clients.seed_state(process.initialize(), np.array([seed, 0], np.int32))
  results = []
  for _ in range(rounds):
    output = process.next(state, values)
    state = output.state
    results.append(output.result)
  return results, output.measurements


@pytest.mark.parametrize("kind", [clients.fixed_clipping, clients.adaptive_clipping])
def test_no_noise_and_no_clipping_is_the_mean(kind):
  values = updates()
  (result,), _ = aggregate(kind(1e6, 0.0, CLIENTS), values)
  for found, parts in zip(result, zip(*values, strict=True), strict=True):
    np.testing.assert_allclose(found, np.mean(parts, axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [clients.fixed_clipping, clients.adaptive_clipping])
def test_the_clipped_mean_is_that_of_a_loop(kind):
  values, clip = updates(), 3.0
  scales = [min(1, clip / norm(update)) for update in values]
  assert min(scales) < 1 == max(scales)
  (result,), _ = aggregate(kind(clip, 0.0, CLIENTS), values)
  for i, found in enumerate(result):
    expected = np.mean([u[i] * s for u, s in zip(values, scales, strict=True)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_without_noise_the_adaptive_norm_has_none():
  one, other = (
    aggregate(clients.adaptive_clipping(3.0, 0.0, CLIENTS), updates(), seed, rounds=3)[0]
    for seed in (0, 1)
  )
  for i in range(3):
    np.testing.assert_array_equal(one[i][0], other[i][0])
  assert np.abs(one[0][0] - one[2][0]).max() > 0  # The norm did adapt.


@pytest.mark.parametrize("kind", [clients.fixed_clipping, clients.adaptive_clipping])
def test_noise_has_its_standard_deviation(kind):
  clip, multiplier = 3.0, 0.2
  (result,), _ = aggregate(kind(clip, multiplier, CLIENTS), updates())
  (silent,), _ = aggregate(kind(clip, 0.0, CLIENTS), updates())
  noise = (result[0] - silent[0]).ravel()
  if kind is clients.adaptive_clipping:
    # A share of the noise is that of the median: 0.05 x clients.
    multiplier = (multiplier**-2 - (2 * 0.05 * CLIENTS) ** -2) ** -0.5
  assert noise.std() == pytest.approx(clip * multiplier / CLIENTS, rel=0.02)


def test_where_noise_is_large_the_median_gets_as_much():
  clip, multiplier = 3.0, 1.0  # Above 0.05 x clients.
  (result,), _ = aggregate(clients.adaptive_clipping(clip, multiplier, CLIENTS), updates())
  (silent,), _ = aggregate(clients.adaptive_clipping(clip, 0.0, CLIENTS), updates())
  left = (multiplier**-2 - (2 * multiplier) ** -2) ** -0.5
  noise = (result[0] - silent[0]).ravel()
  assert noise.std() == pytest.approx(clip * left / CLIENTS, rel=0.02)


@pytest.mark.parametrize("kind", [clients.fixed_clipping, clients.adaptive_clipping])
def test_noise_comes_from_the_seed_and_differs_between_rounds(kind):
  factory = kind(3.0, 0.2, CLIENTS)
  noisy, _ = aggregate(factory, updates(), rounds=2)
  (again, _), _ = aggregate(factory, updates(), rounds=2)
  (other,), _ = aggregate(factory, updates(), seed=1)
  silent, _ = aggregate(kind(3.0, 0.0, CLIENTS), updates(), rounds=2)
  np.testing.assert_array_equal(noisy[0][0], again[0])
  first, second, another = (
    np.ravel(one[0] - quiet[0])
    for one, quiet in zip((*noisy, other), (*silent, silent[0]), strict=True)
  )
  assert np.abs(np.corrcoef([first, second, another]) - np.eye(3)).max() < 0.2


def test_the_adaptive_norm_follows_the_median():
  values = updates()
  _, measurements = aggregate(clients.adaptive_clipping(0.1, 0.0, CLIENTS), values, rounds=60)
  median = np.median([norm(update) for update in values])
  assert measurements["dp_query_metrics"]["clip"] == pytest.approx(median, rel=0.25)


def test_other_states_are_left_alone():
  state = {"weights": [np.ones(2)], "empty": ()}
  found = clients.seed_state(state, tf.constant([1, 2]))
  tf.nest.map_structure(np.testing.assert_array_equal, found, state)
