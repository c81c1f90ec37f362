"""Every robust rule against NumPy, its breakdown, and the factory that gathers updates."""

import itertools

import hypothesis
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import strategies as st

from tff_attacks.keras_state import ModelWeights
from tff_attacks.learning import robust
from tff_attacks.runtime import in_process

RADIUS, BOUND = 2.0, 3.0
RULES = {
  "norm_filter": robust.norm_filter(BOUND),
  "coordinate_median": robust.coordinate_median(),
  "trimmed_mean": robust.trimmed_mean(),
  "krum": robust.krum(),
  "multi_krum": robust.krum(multi=True),
  "bulyan": robust.bulyan(),
  "geometric_median": robust.geometric_median(),
  "centered_clipping": robust.centered_clipping(RADIUS),
}


def krum_order(updates, byzantine, indices):
  """Indices from the lowest score to the highest, by the definition."""
  indices = sorted(indices, key=lambda i: np.linalg.norm(updates[i]))
  scores = []
  for i in indices:
    distances = sorted(((updates[i] - updates[j]) ** 2).sum() for j in indices if j != i)
    scores.append(sum(distances[: max(len(indices) - byzantine - 2, 1)]))
  return [indices[i] for i in np.argsort(scores, kind="stable")]


def reference_krum(updates, byzantine, last):
  return updates[krum_order(updates, byzantine, list(range(len(updates))))[0]]


def reference_multi_krum(updates, byzantine, last):
  order = krum_order(updates, byzantine, list(range(len(updates))))
  return updates[order[: len(updates) - byzantine]].mean(axis=0)


def reference_bulyan(updates, byzantine, last):
  remaining, picked = list(range(len(updates))), []
  for _ in range(len(updates) - 2 * byzantine):
    picked.append(krum_order(updates, byzantine, remaining)[0])
    remaining.remove(picked[-1])
  result = []
  for values in updates[sorted(picked)].T:
    order = np.argsort(np.abs(values - np.median(values)), kind="stable")
    result.append(values[order[: len(updates) - 4 * byzantine]].mean())
  return np.array(result)


def reference_trimmed_mean(updates, byzantine, last):
  ordered = np.sort(updates, axis=0)
  return ordered[byzantine : len(updates) - byzantine].mean(axis=0)


def reference_norm_filter(updates, byzantine, last, bound=BOUND):
  kept = updates[np.linalg.norm(updates, axis=1) <= bound]
  return kept.mean(axis=0) if len(kept) else np.zeros_like(last)


def reference_centered_clipping(updates, byzantine, last, radius=RADIUS):
  for _ in range(3):
    differences = updates - last
    norms = np.linalg.norm(differences, axis=1, keepdims=True)
    last = last + (differences * np.minimum(1, radius / np.maximum(norms, 1e-30))).mean(axis=0)
  return last


REFERENCES = {
  "norm_filter": reference_norm_filter,
  "coordinate_median": lambda updates, byzantine, last: np.median(updates, axis=0),
  "trimmed_mean": reference_trimmed_mean,
  "krum": reference_krum,
  "multi_krum": reference_multi_krum,
  "bulyan": reference_bulyan,
  "centered_clipping": reference_centered_clipping,
}


def aggregate(name, updates, byzantine, last=None):
  last = np.zeros(updates.shape[1]) if last is None else last
  result, kept, finite = robust.apply(
    RULES[name], tf.constant(updates, tf.float32), byzantine, tf.constant(last, tf.float32)
  )
  return result.numpy(), kept.numpy(), finite.numpy()


@st.composite
def rounds(draw, name):
  """Random updates, as many as the rule needs for the malicious ones among them."""
  byzantine = draw(st.integers(0, 3))
  count = max(RULES[name].least_clients(byzantine), byzantine + 1) + draw(st.integers(0, 4))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  return rng.normal(size=[count, draw(st.integers(1, 6))]).astype(np.float32), byzantine, rng


@pytest.mark.parametrize("name", REFERENCES)
@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=25)
def test_equals_numpy(name, data):
  updates, byzantine, rng = data.draw(rounds(name))
  last = rng.normal(size=updates.shape[1])
  expected = REFERENCES[name](updates.astype(float), byzantine, last)
  np.testing.assert_allclose(
    aggregate(name, updates, byzantine, last)[0], expected, rtol=1e-4, atol=1e-5
  )


@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=25)
def test_geometric_median_is_the_minimum(data):
  """SciPy finds no point with a lower sum of distances."""
  updates, byzantine, _ = data.draw(rounds("geometric_median"))

  def cost(point):
    return np.linalg.norm(updates.astype(float) - point, axis=1).sum()

  found = aggregate("geometric_median", updates, byzantine)[0]
  best = min(
    scipy.optimize.minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-6}).fun
    for start in (found, updates.mean(axis=0))
  )
  assert cost(found) <= best * (1 + 1e-3) + 1e-5


@pytest.mark.parametrize("name", RULES)
@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=15)
def test_the_order_of_clients_does_not_matter(name, data):
  updates, byzantine, rng = data.draw(rounds(name))
  order = rng.permutation(len(updates))
  first, kept, _ = aggregate(name, updates, byzantine)
  second, kept_in_order, _ = aggregate(name, updates[order], byzantine)
  np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(kept[order], kept_in_order)


@pytest.mark.parametrize("name", RULES)
@hypothesis.given(st.data())
@hypothesis.settings(deadline=None, max_examples=15)
def test_f_outliers_do_not_break_it(name, data):
  """The aggregate stays among honest updates, wherever f others are."""
  updates, byzantine, rng = data.draw(rounds(name))
  malicious = rng.permutation(len(updates))[:byzantine]
  size = data.draw(st.sampled_from([1e6, 1e15, 2e38]))
  updates[malicious] = size * rng.choice([-1, 1], size=[byzantine, 1])
  honest = np.delete(updates, malicious, axis=0)
  result, kept, _ = aggregate(name, updates, byzantine)
  largest = np.linalg.norm(honest, axis=1).max()
  # Each clipped outlier moves the centre by less than the radius in each of three steps.
  allowed = largest + 3 * RADIUS if name == "centered_clipping" else 4 * largest
  assert np.linalg.norm(result) <= allowed
  if name in ("norm_filter", "krum", "multi_krum"):  # Bulyan's last picks may be malicious.
    assert not kept[malicious].any()


def test_the_mean_would_break():
  updates = np.concatenate([np.zeros([9, 2]), np.full([1, 2], 1e6)])
  assert updates.mean() > 1e4
  assert np.abs(aggregate("trimmed_mean", updates, 1)[0]).max() == 0
  assert np.abs(aggregate("trimmed_mean", updates, 0)[0]).max() > 1e4


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 2e38])
def test_updates_whose_norm_is_not_finite_are_refused(name, bad):
  """The rest is aggregated as if they were not there."""
  updates = np.random.default_rng(0).normal(size=[12, 3])
  broken = updates.copy()
  broken[[1, 5], 2] = bad
  result, kept, finite = aggregate(name, broken, 2)
  # Bulyan stands one of ten, the others two.
  byzantine = 1 if name == "bulyan" else 2
  expected, expected_kept, _ = aggregate(name, np.delete(updates, [1, 5], axis=0), byzantine)
  np.testing.assert_allclose(result, expected, rtol=1e-6)
  assert not kept[[1, 5]].any()
  np.testing.assert_array_equal(np.delete(kept, [1, 5]), expected_kept)
  assert finite.tolist() == [i not in (1, 5) for i in range(12)]
  nothing, kept, _ = aggregate(name, np.full([4, 3], bad), 1)
  assert not kept.any()
  np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize("name", ["trimmed_mean", "krum", "multi_krum", "bulyan"])
def test_an_honest_client_that_diverges_does_not_disarm_the_rule(name):
  updates = np.random.default_rng(0).normal(size=[10, 3])
  updates[2], updates[7] = np.nan, 1e6
  assert np.linalg.norm(aggregate(name, updates, 1)[0]) < 4


def test_bounds_of_the_number_of_clients():
  least = {name: [rule.least_clients(f) for f in (0, 1, 2)] for name, rule in RULES.items()}
  assert least["krum"] == least["multi_krum"] == [3, 5, 7]
  assert least["bulyan"] == [3, 7, 11]
  assert least["coordinate_median"] == least["trimmed_mean"] == [1, 3, 5]
  assert least["norm_filter"] == [1, 1, 1]
  assert least["geometric_median"] == least["centered_clipping"] == [1, 3, 5]


WEIGHTS = ModelWeights([tf.TensorSpec([2, 2]), tf.TensorSpec([3])], [tf.TensorSpec([], tf.float32)])


def updates_of_clients(rows):
  return [
    ModelWeights([row[:4].reshape(2, 2), row[4:7]], [row[7]]) for row in rows.astype(np.float32)
  ]


def process_of(rule, byzantine):
  factory = robust.RobustFactory(rule, byzantine)
  return factory.create(tff.types.tensorflow_to_type(WEIGHTS))


@pytest.mark.parametrize("name", RULES)
def test_the_factory_gathers_updates_in_the_order_of_clients(name):
  rows = np.random.default_rng(0).normal(size=[9, 8])
  rows[4] = np.nan
  process = process_of(RULES[name], 1)
  with in_process.in_process():
    state = process.initialize()
    first = process.next(state, updates_of_clients(rows))
    second = process.next(first.state, updates_of_clients(rows + 0.5))
  last = np.zeros(8)
  for output, expected_rows in ((first, rows), (second, rows + 0.5)):
    expected, kept, _ = aggregate(name, expected_rows, 1, last)
    flat = np.concatenate([np.ravel(part) for part in tf.nest.flatten(output.result)])
    np.testing.assert_allclose(flat, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(output.measurements["kept"], kept)
    np.testing.assert_allclose(
      output.measurements["norms"], np.linalg.norm(expected_rows, axis=1), rtol=1e-5
    )
    assert output.measurements["not_finite"] == 1
    last = expected


def test_a_round_without_any_finite_update_changes_nothing():
  """Nor the centre of the next round."""
  process = process_of(RULES["centered_clipping"], 1)
  with in_process.in_process():
    state = process.next(process.initialize(), updates_of_clients(np.ones([3, 8]))).state
    assert np.abs(state).min() > 0
    output = process.next(state, updates_of_clients(np.full([3, 8], np.nan)))
  np.testing.assert_array_equal(output.state, state)
  assert not any(np.any(part) for part in tf.nest.flatten(output.result))


def test_the_result_has_the_type_of_an_update():
  signature = process_of(RULES["krum"], 1).next.type_signature
  values, result = signature.parameter[1], signature.result.result
  assert result.member.is_equivalent_to(values.member)


def test_rules_differ():
  """On skewed updates no two rules agree, so that no one can stand in for another."""
  updates = np.random.default_rng(0).exponential(size=[12, 4])
  results = {name: aggregate(name, updates, 2, np.ones(4))[0] for name in RULES}
  for first, second in itertools.combinations(results, 2):
    assert not np.allclose(results[first], results[second], atol=1e-3), (first, second)
