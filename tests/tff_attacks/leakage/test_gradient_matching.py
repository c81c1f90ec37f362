"""Attacks that match gradients: they find the images where their own papers say that they do."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models import leakage as models
from tests.tff_attacks.leakage.observed import (
  CLASSES,
  observe,
  observe_training,
  pictures,
  reference_gradient,
  total_variation,
)
from tff_attacks import keras_state
from tff_attacks.keras_state import ModelWeights
from tff_attacks.leakage import gradient_matching, labels
from tff_attacks.metrics import leakage as metrics

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]


def lenet():
  return models.lenet((16, 16, 3), CLASSES)


def elu_cnn():
  """Small; with rectifiers it would have to be wide, or those that are dead stay so."""
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input([32, 32, 3]),
      layers.Conv2D(16, 3, padding="same", activation="elu"),
      layers.Conv2D(32, 3, padding="same", activation="elu"),
      layers.AveragePooling2D(2),
      layers.Flatten(),
      layers.Dense(64, activation="elu"),
      layers.Dense(CLASSES),
    ]
  )


def psnr(found, data):
  order = metrics.match(found.images, data.images).order
  assert sorted(found.labels) == sorted(data.labels)
  return metrics.score(found.images, data.take(order), data).psnr


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("attack", [gradient_matching.dlg, gradient_matching.idlg])
def test_one_image_of_the_sigmoid_lenet(attack, seed):
  data = pictures(seed, 1, 16)._replace(labels=np.array([seed + 3], np.int32))
  found = attack(lenet, steps=900)(observe(lenet, data, seed), seed)
  assert psnr(found, data) > 30
  assert found.losses[-1] < 1e-4 * found.losses[0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 4])
def test_inverting_gradients_of_a_batch(count, seed):
  data = pictures(seed, count, 32)
  attack = gradient_matching.inverting_gradients(
    elu_cnn, lambda *_: np.bincount(data.labels, minlength=CLASSES), steps=600, total_variation=1e-3
  )
  assert psnr(attack(observe(elu_cnn, data, seed), seed), data) > 25


@pytest.mark.parametrize("seed", SEEDS)
def test_local_steps_must_be_unrolled(seed):
  data = pictures(seed, 2, 32)
  # Each step has both images: in which order a client takes them is not known.
  observation = observe_training(elu_cnn, data, seed, batch_size=2, epochs=5)
  attack = functools.partial(
    gradient_matching.inverting_gradients, elu_cnn,
    lambda *_: np.bincount(data.labels, minlength=CLASSES), steps=400, total_variation=1e-3,
  )  # fmt: skip
  simulated = psnr(attack()(observation, seed), data)
  assert simulated > 25
  assert simulated > psnr(attack(unroll=False)(observation, seed), data) + 3


def test_the_label_of_one_image_is_told_by_the_gradient():
  """As in the source's code: nothing is left to be found, if features are not negative."""
  for label in (2, 7):
    data = pictures(1, 1, 16)._replace(labels=np.array([label], np.int32))
    found = gradient_matching.inverting_gradients(lenet, steps=1)(observe(lenet, data, 0), 0)
    np.testing.assert_array_equal(found.labels, data.labels)


@pytest.mark.slow
def test_labels_of_a_batch_are_found_with_the_images():
  data = pictures(0, 3, 32)
  attack = gradient_matching.inverting_gradients(elu_cnn, steps=1200, total_variation=1e-3)
  assert psnr(attack(observe(elu_cnn, data, 0), 0), data) > 20


@pytest.mark.slow
def test_inverting_gradients_of_the_papers_cnn():
  cnn = functools.partial(models.cnn, (32, 32, 3), CLASSES)
  data = pictures(0, 1, 32)
  attack = gradient_matching.inverting_gradients(cnn, labels.idlg, steps=600, total_variation=1e-3)
  assert psnr(attack(observe(cnn, data, 0), 0), data) > 25


def test_inferred_labels_leave_the_models_weights_alone():
  """Some methods compute with the client's weights."""
  data = pictures(0, 2, 32)
  observation = observe_training(elu_cnn, data, 0, batch_size=1, epochs=3)
  counts = labels.dimitrov(keras_state.build(elu_cnn), observation, 0)
  first, second = (
    gradient_matching.inverting_gradients(elu_cnn, infer, steps=3)(observation, 0)
    for infer in (labels.dimitrov, lambda *_: counts)
  )
  np.testing.assert_array_equal(first.images, second.images)


@pytest.mark.parametrize("options", [{"largest": 4}, {"alike": True}, {"box": False}])
def test_other_ways_to_compare_gradients_find_the_image_too(options):
  data = pictures(0, 1, 32)
  attack = gradient_matching.inverting_gradients(
    elu_cnn, labels.idlg, steps=600, total_variation=1e-3, **options
  )
  assert psnr(attack(observe(elu_cnn, data, 0), 0), data) > 20


def test_without_a_box_images_leave_it():
  data = pictures(0, 1, 16)
  attack = functools.partial(
    gradient_matching.inverting_gradients, lenet, labels.idlg, steps=2, learning_rate=1e-6
  )
  observation = observe(lenet, data, 0)
  assert np.abs(attack(box=False)(observation, 0).images).max() > 2
  assert np.abs(attack()(observation, 0).images).max() <= 1


def test_standardised_images_are_those_of_a_model_that_takes_them():
  """The same search with the scale in the model, and images that are standardised."""
  data = pictures(0, 2, 16)
  mean, std = np.float32([0.1, -0.3, 0.2]), np.float32([0.5, 0.4, 0.6])

  def scaled():
    layers = lenet().layers
    return tf.keras.Sequential(
      [tf.keras.layers.Input([16, 16, 3]), tf.keras.layers.Rescaling(std, mean), *layers]
    )

  def attack(model_fn, **options):
    return gradient_matching.inverting_gradients(
      model_fn, lambda *_: np.bincount(data.labels, minlength=CLASSES), steps=20,
      total_variation=0.1, **options,
    )  # fmt: skip

  standardised = data._replace(images=(data.images - mean) / std)
  theirs = attack(scaled, box=False)(observe(scaled, standardised, 0), 0)
  ours = attack(lenet, box=False, mean=mean, std=std)(observe(lenet, data, 0), 0)
  np.testing.assert_allclose(ours.images, theirs.images * std + mean, atol=1e-3)
  np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-3)
  within = attack(lenet, mean=mean, std=std)(observe(lenet, data, 0), 0).images
  assert np.abs(within).max() <= 1 + 1e-6 < np.abs(ours.images).max()


def test_only_the_largest_tensors_count():
  gradient = [np.full([3], 2.0), np.zeros([4]), np.full([2], -9.0), np.ones([1])]
  np.testing.assert_array_equal(gradient_matching._weights(gradient, 2), [1, 0, 1, 0])
  for count in (0, 4, 9):
    np.testing.assert_array_equal(gradient_matching._weights(gradient, count), [1, 1, 1, 1])


@pytest.mark.parametrize("name", ["cosine_distance", "mean_cosine_distance"])
def test_tensors_that_do_not_count_are_as_if_they_were_not_there(name):
  distance = getattr(gradient_matching, name)
  rng = np.random.default_rng(0)
  found, target = ([rng.normal(size=[2, i + 1]).astype("f") for i in range(3)] for _ in range(2))
  weighted = distance(found, target, np.array([1, 0, 1], np.float32))
  assert float(weighted) == pytest.approx(float(distance(found[::2], target[::2])), rel=1e-5)


def test_a_tensor_of_zeros_spoils_no_mean():
  """A layer behind a dead one has no gradient."""
  zeros = tf.Variable(tf.zeros([3]))
  with tf.GradientTape() as tape:
    distance = gradient_matching.mean_cosine_distance(
      [zeros, tf.ones([2])], [tf.zeros([3]), tf.ones([2])]
    )
  assert float(distance) == pytest.approx(0.5)
  assert np.isfinite(tape.gradient(distance, zeros)).all()


def test_tensors_that_count_alike():
  """Two tensors, one a hundred times as long: of the mean distance each is a half."""
  target = [tf.constant([1.0, 0.0]), tf.constant([100.0, 0.0])]
  found = [tf.constant([0.0, 1.0]), tf.constant([7.0, 0.0])]
  assert float(gradient_matching.mean_cosine_distance(found, target)) == pytest.approx(0.5)
  assert float(gradient_matching.cosine_distance(found, target)) == pytest.approx(
    1 - 7 / np.sqrt(50), abs=1e-4
  )


def test_a_second_client_is_attacked_as_by_a_new_attack():
  """The second one finds everything compiled, and the optimizer where it began."""
  first, second = (observe(lenet, pictures(seed, 2, 16), seed) for seed in (0, 1))
  build = functools.partial(gradient_matching.inverting_gradients, lenet, labels.irlg, steps=5)
  attack = build()
  attack(first, 0)
  again, fresh = attack(second, 1), build()(second, 1)
  np.testing.assert_array_equal(again.images, fresh.images)
  np.testing.assert_array_equal(again.losses, fresh.losses)


def test_a_reconstruction_of_another_gradient_is_no_likeness():
  """The control: the same attack on the gradient of another image does not find this one."""
  data, other = pictures(0, 1, 16), pictures(7, 1, 16)
  found = gradient_matching.idlg(lenet, steps=900)(observe(lenet, other, 0), 0)
  assert metrics.score(found.images, other, other).psnr > 30
  assert metrics.score(found.images, data, data).psnr < 15


def test_same_seed_same_images():
  data = pictures(0, 2, 16)
  attack = gradient_matching.dlg(lenet, steps=5)
  first, again, other = (attack(observe(lenet, data, 0), seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first.images, again.images)
  assert np.abs(first.images - other.images).max() > 0.1


def test_refusals():
  data = pictures(0, 2, 16)
  observation = observe(lenet, data, 0)
  with pytest.raises(ValueError, match="idlg: tells the label of one image, not of 2"):
    gradient_matching.idlg(lenet)(observation, 0)
  broken = ModelWeights([np.full_like(u, np.inf) for u in observation.update.trainable], [])
  for attack in (gradient_matching.dlg, gradient_matching.idlg):
    with pytest.raises(ValueError, match="update: holds numbers that are not finite"):
      attack(lenet)(observation._replace(update=broken), 0)


@pytest.mark.parametrize("options", [{}, {"alike": True}, {"largest": 2}])
def test_the_first_loss_of_inverting_gradients(options):
  data = pictures(0, 2, 16)
  counts = np.bincount(data.labels, minlength=CLASSES)
  observation = observe(lenet, data, 0)
  attack = gradient_matching.inverting_gradients(
    lenet, lambda *_: counts, steps=1, total_variation=0.3, **options
  )
  rng = np.random.default_rng(0)
  start = np.clip(rng.standard_normal([2, 16, 16, 3]), -1, 1).astype(np.float32)
  soft_labels = np.eye(CLASSES, dtype=np.float32)[labels.in_no_order(counts, rng)]
  found = [part.ravel() for part in reference_gradient(lenet, observation, start, soft_labels)]
  target = [-part.ravel() for part in observation.update.trainable]
  if "largest" in options:
    longest = np.argsort([np.linalg.norm(part) for part in target])[-2:]
    found, target = ([parts[i] for i in longest] for parts in (found, target))
  if "alike" not in options:
    found, target = ([np.concatenate(parts)] for parts in (found, target))
  cosines = [
    f @ t / np.linalg.norm(f) / np.linalg.norm(t) for f, t in zip(found, target, strict=True)
  ]
  expected = 1 - np.mean(cosines) + 0.3 * total_variation(start)
  assert attack(observation, 0).losses[0] == pytest.approx(expected, rel=1e-4)
