"""Label inference on the embedded digits: closed forms, and how it fares with local steps."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import optimize
from sklearn import datasets as sk_datasets

from models import leakage as models
from tests.tff_attacks.leakage.observed import CLASSES, GRADIENT
from tff_attacks import keras_state
from tff_attacks.data import datasets
from tff_attacks.data.datasets import Images
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import labels as label_inference
from tff_attacks.leakage import leakage
from tff_attacks.leakage.leakage import Observation
from tff_attacks.learning import local_training
from tff_attacks.metrics import leakage as metrics

COUNT = 50
SEEDS = range(15)


def mlp():
  return models.mlp((8, 8, 1), CLASSES)


@pytest.fixture(scope="module")
def digits():
  """8x8 digits in [-1, 1]; half of them are the server's."""
  found = sk_datasets.load_digits()
  images = (found.images[..., np.newaxis] / 8 - 1).astype(np.float32)
  everything = Images(images, found.target.astype(np.int32))
  return datasets.Dataset(everything.take(slice(900)), everything.take(slice(900, None)), 10)


@pytest.fixture(scope="module")
def model():
  return keras_state.build(mlp)


def client(digits, seed, count=COUNT):
  """Images drawn with class shares from Dirichlet(0.5), none of which the server has."""
  rng = np.random.default_rng(seed)
  shares = rng.dirichlet(np.full(10, 0.5))
  classes = rng.choice(10, count, p=shares)
  own = digits.test.labels
  chosen = [rng.choice(np.flatnonzero(own == label)) for label in classes]
  return digits.test.take(np.array(chosen))


@functools.cache
def trainer(batch_size, epochs, learning_rate):
  optimizer = tff.learning.optimizers.build_sgdm(learning_rate)
  return local_training.local_training(optimizer, GRADIENT, batch_size, epochs), keras_state.build(
    mlp
  )


def observe(digits, data, seed, batch_size=COUNT, epochs=1, learning_rate=0.1) -> Observation:
  """What local training sends."""
  weights = keras_state.initial_weights(mlp, seed)
  training, model = trainer(batch_size, epochs, learning_rate)
  sent = training.train(model, weights, training.initialize(weights), data, tf.constant([seed, 1]))
  return Observation(
    weights, sent.update, len(data.labels), batch_size, epochs, learning_rate, digits.train
  )


SETTINGS = {
  "one batch": {},
  "slow": {"batch_size": 10, "epochs": 5, "learning_rate": 0.004},
  "fast": {"batch_size": 10, "epochs": 5},
}


@pytest.fixture(scope="module")
def accuracies(model, digits):
  """Mean label accuracy by setting and method over the seeds, `guess` being equal counts."""
  found = collections.defaultdict(list)
  for seed in SEEDS:
    data = client(digits, seed)
    for setting, options in SETTINGS.items():
      observation = observe(digits, data, seed, **options)
      for method in ("zsaa", "dimitrov", "irlg", "rlu"):
        counts = label_inference.METHODS[method](model, observation, seed)
        assert counts.sum() == COUNT
        assert counts.min() >= 0
        accuracy = metrics.label_accuracy(counts, data.labels)
        found[setting, method].append(accuracy)
      guess = metrics.guess_label_accuracy(COUNT, data.labels, 10)
      found[setting, "guess"].append(guess)
  return {key: np.mean(values) for key, values in found.items()}


@pytest.mark.parametrize(
  ("method", "at_least"), [("zsaa", 0.8), ("dimitrov", 0.8), ("irlg", 0.9), ("rlu", 0.95)]
)
def test_one_batch_of_an_untrained_model(method, at_least, accuracies):
  assert accuracies["one batch", method] >= at_least


@pytest.mark.parametrize(
  ("method", "at_least"), [("zsaa", 0.7), ("dimitrov", 0.7), ("irlg", 0.8), ("rlu", 0.95)]
)
def test_five_epochs_that_change_little(method, at_least, accuracies):
  assert accuracies["slow", method] >= at_least


def test_after_five_epochs_that_change_much_it_helps_to_follow_the_outputs(accuracies):
  assert accuracies["fast", "rlu"] >= max(0.72, accuracies["fast", "guess"] + 0.2)
  assert accuracies["fast", "dimitrov"] >= accuracies["fast", "zsaa"] + 0.03


def test_idlg_tells_the_label_of_one_image(model, digits):
  for seed in SEEDS:
    one = digits.test.take(np.array([seed]))
    seen = keras_state.build(mlp, keras_state.initial_weights(mlp, seed))
    observation = leakage.observe_gradient(seen, GRADIENT, one)
    counts = label_inference.idlg(model, observation, seed)
    assert np.flatnonzero(counts).tolist() == one.labels.tolist()


def test_yin_tells_distinct_labels(model, digits):
  chosen = [np.flatnonzero(digits.test.labels == label)[0] for label in (2, 5, 8)]
  data = digits.test.take(np.array(chosen))
  observation = observe(digits, data, seed=0, batch_size=3)
  assert np.flatnonzero(label_inference.yin(model, observation, 0)).tolist() == [2, 5, 8]


def test_yin_looks_at_entries_rather_than_at_sums(model):
  weights = keras_state.initial_weights(mlp, 0)
  gradient = [np.zeros_like(part) for part in weights.trainable]
  kernel = gradient[-2]
  kernel[:, 5] = -1  # The least sum.
  kernel[:, 2] = 1
  kernel[7, 2] = -2  # The least entry.
  update = ModelWeights([-part for part in gradient], [])
  observation = Observation(weights, update, 1, batch_size=1, epochs=1, learning_rate=1.0)
  assert np.flatnonzero(label_inference.yin(model, observation, 0)).tolist() == [2]


def test_rlu_expects_the_outputs_of_gaussian_logits(model, digits):
  """With a large kernel, or else they hardly differ from the outputs of the mean logits."""
  weights = keras_state.initial_weights(mlp, 0)
  weights.trainable[-2] *= 30
  observation = Observation(weights, None, 1, 1, 1, 1.0, digits.train)
  found = label_inference._expected_outputs(label_inference._logits(model, weights, observation), 0)
  logits = keras_state.build(mlp, weights)(digits.train.images).numpy()
  rng = np.random.default_rng(1)
  expected = []
  for label in range(CLASSES):
    own = logits[digits.train.labels == label]
    root = np.linalg.cholesky(np.cov(own.T, bias=True))
    drawn = own.mean(axis=0) + rng.standard_normal([50_000, CLASSES]) @ root.T
    expected.append(tf.nn.softmax(drawn).numpy().mean(axis=0))
  # 0.004 for want of draws; 0.07 without the covariance, 0.013 with its diagonal alone.
  assert np.abs(found - expected).mean() < 0.007


def test_rlu_is_exact_if_the_server_knows_the_images(model, digits):
  """With the client's own images of each class the system has the true counts as a solution."""
  counts = np.arange(1, 11)
  chosen = [
    np.flatnonzero(digits.test.labels == label)[:count] for label, count in enumerate(counts)
  ]
  data = digits.test.take(np.concatenate(chosen))
  observation = observe(digits, data, seed=0, batch_size=55)._replace(auxiliary=data)
  np.testing.assert_array_equal(label_inference.rlu(model, observation, 0), counts)


def test_rlu_takes_the_servers_images_in_parts(model, digits, monkeypatch):
  data = digits.test.take(np.arange(20))
  observation = observe(digits, data, seed=0, batch_size=20)._replace(auxiliary=digits.test)
  expected = label_inference.rlu(model, observation, 0)
  monkeypatch.setattr(label_inference, "_BATCH", 7)
  np.testing.assert_array_equal(label_inference.rlu(model, observation, 0), expected)


def test_irlg_is_exact_for_equal_images_of_each_class(model, digits):
  """If all images of a class are the same, and outputs of others small, its features are known."""
  first = [np.flatnonzero(digits.test.labels == c)[0] for c in (1, 4)]
  data = digits.test.take(np.repeat(first, [7, 3]))
  weights = keras_state.initial_weights(mlp, 0)
  observation = leakage.observe_gradient(keras_state.build(mlp, weights), GRADIENT, data)
  assert label_inference.irlg(model, observation, 0)[[1, 4]].tolist() == [7, 3]


def test_equation_7_is_exact_for_the_images_own_outputs_and_features(model, digits):
  """If they are equal: ten times the same, seven of them labelled 1 and three 4."""
  weights = keras_state.initial_weights(mlp, 0)
  data = digits.test.take(np.zeros(10, int))._replace(labels=np.repeat([1, 4], [7, 3]))
  sums = leakage.mean_gradient(
    leakage.observe_gradient(keras_state.build(mlp, weights), GRADIENT, data)
  )[-2].sum(axis=0)
  features, logits = label_inference._forward(model, weights, data.images[:1])
  found = label_inference._estimated_counts(tf.nn.softmax(logits)[0], features.sum(), sums, 10)
  np.testing.assert_allclose(found, [0, 7, 0, 0, 3, 0, 0, 0, 0, 0], atol=1e-3)


def test_of_one_batch_dimitrov_is_zsaa(model, digits):
  """There is nothing to interpolate: the gradient is of the global weights."""
  for seed in range(3):
    observation = observe(digits, client(digits, seed), seed)
    found = label_inference.dimitrov(model, observation, seed)
    np.testing.assert_array_equal(found, label_inference.zsaa(model, observation, seed))


@pytest.mark.parametrize(
  ("estimates", "expected"),
  [
    ([1.2, 2.8, 1.0], [1, 3, 1]),
    ([0.0, 0.0, 0.0], [2, 2, 1]),
    ([-3.0, 9.0, 1.0], [0, 5, 0]),
    ([1e20, -1e20, 0.0], [5, 0, 0]),
    ([2.5, 2.5, 0.0], [3, 2, 0]),
  ],
)
def test_counts_are_projected_to_the_simplex(estimates, expected):
  assert label_inference.to_counts(np.array(estimates), 5).tolist() == expected


def test_projection_is_the_nearest_point_of_the_simplex():
  rng = np.random.default_rng(0)
  for _ in range(5):
    estimates = rng.normal(0, 300, 4)
    nearest = optimize.minimize(
      lambda x, e=estimates: ((x - e) ** 2).sum(),
      np.full(4, 250.0),
      bounds=[(0, None)] * 4,
      constraints={"type": "eq", "fun": lambda x: x.sum() - 1000},
      method="SLSQP",
    ).x
    assert np.abs(label_inference.to_counts(estimates, 1000) - nearest).max() <= 1.01


def test_refusals(model, digits):
  observation = observe(digits, client(digits, 0, 12), 0, batch_size=12)
  with pytest.raises(ValueError, match="idlg: tells the label of one image, not of 12"):
    label_inference.idlg(model, observation, 0)
  with pytest.raises(ValueError, match="yin: takes each of 10 classes once, there are 12 images"):
    label_inference.yin(model, observation, 0)
  some = digits.train.take(digits.train.labels != 3)
  for auxiliary, label in ((some, 3), (None, 0)):
    with pytest.raises(ValueError, match=f"rlu: the server has no image of class {label}"):
      label_inference.rlu(model, observation._replace(auxiliary=auxiliary), 0)
  diverged = ModelWeights([np.full_like(w, np.nan) for w in observation.weights.trainable], [])
  for method in ("zsaa", "dimitrov", "irlg", "rlu"):
    with pytest.raises(ValueError, match="update: holds numbers that are not finite"):
      label_inference.METHODS[method](model, observation._replace(update=diverged), 0)
  nothing = ModelWeights([np.zeros_like(w) for w in observation.weights.trainable], [])
  with pytest.raises(ValueError, match="update: is zero"):
    label_inference.irlg(model, observation._replace(update=nothing), 0)
  huge = tf.nest.map_structure(lambda part: part + np.float32(3e38), observation.weights)
  for method in ("irlg", "zsaa"):
    with pytest.raises(leakage.UnusableError, match="the outputs of the model are not finite"):
      label_inference.METHODS[method](model, observation._replace(weights=huge), 0)
  with pytest.raises(ValueError, match="labels: the estimates of the counts are not finite"):
    label_inference.to_counts(np.array([1.0, np.nan]), 3)


def test_the_update_over_learning_rate_and_steps_is_the_gradient(digits):
  """For one step with all images."""
  data = client(digits, 0)
  weights = keras_state.initial_weights(mlp, 0)
  expected = leakage.mean_gradient(
    leakage.observe_gradient(keras_state.build(mlp, weights), GRADIENT, data)
  )
  found = leakage.mean_gradient(observe(digits, data, 0, learning_rate=0.5))
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_steps_of_a_client():
  observation = Observation(None, None, num_samples=23, batch_size=10, epochs=4, learning_rate=0.1)
  assert leakage.num_steps(observation) == 12
