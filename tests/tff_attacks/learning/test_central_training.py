import numpy as np
import pytest
import tensorflow as tf

from models import registry
from tff_attacks import keras_state
from tff_attacks.data import datasets
from tff_attacks.learning import central_training, local_training

LOSS_FN = local_training.cross_entropy(from_logits=True)


def model_fn():
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input([8, 8, 1]),
      layers.Conv2D(4, 3),
      layers.BatchNormalization(),
      layers.ReLU(),
      layers.Dropout(0.5),
      layers.Flatten(),
      layers.Dense(3),
    ]
  )


def model(seed=0, build=model_fn):
  return keras_state.build(build, keras_state.initial_weights(build, seed))


def data():
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, [40, 8, 8, 1]).astype(np.float32)
  return images, rng.integers(0, 3, 40).astype(np.int32)


def test_it_learns():
  digits = datasets.load("digits")
  network = model(build=lambda: registry.GLOBAL_MODELS["mlp"](digits.image_shape, 10))
  central_training.train(network, LOSS_FN, *digits.train, steps=150, seed=0, batch_size=32)
  calls = network.predict(digits.test.images, verbose=0).argmax(axis=1)
  assert np.mean(calls == digits.test.labels) > 0.9


def test_regularisation_counts():
  def regularised():
    penalty = tf.keras.regularizers.L2(1.0)
    return tf.keras.Sequential(
      [
        tf.keras.layers.Input([8, 8, 1]),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(3, kernel_regularizer=penalty),
      ]
    )

  network, seen = model(build=regularised), []
  penalty = float(tf.add_n(network.losses))
  central_training.train(
    network, lambda labels, outputs: tf.constant(0.0), *data(), steps=1, seed=0, batch_size=8,
    watch=lambda step, loss: seen.append(loss),
  )  # fmt: skip
  assert seen == [pytest.approx(penalty)]


def test_the_learning_rate_is_warmed_up_and_brought_to_zero_along_a_cosine():
  """Without a gradient, a step of AdamW takes 1% of the learning rate off the weights."""
  network = model()
  kernel = network.trainable_variables[-2]
  norms = [np.linalg.norm(kernel)]
  central_training.train(
    network, lambda labels, outputs: 0.0 * tf.reduce_sum(outputs), *data(), steps=20, seed=0,
    batch_size=4, learning_rate=0.8, watch=lambda *_: norms.append(np.linalg.norm(kernel)),
  )  # fmt: skip
  found = (1 - np.divide(norms[1:], norms[:-1])) / 0.01
  cosine = 0.5 * (1 + np.cos(np.pi * np.arange(18) / 18))
  np.testing.assert_allclose(found, [0, 0.4, *(0.8 * cosine)], atol=1e-4)


@pytest.mark.parametrize("augment", [False, True])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path, augment):
  def train(network, folder, watch=lambda step, loss: None):
    central_training.train(
      network, LOSS_FN, *data(), steps=7, seed=3, batch_size=4, augment=augment,
      folder=str(tmp_path / folder), checkpoint_every=2, watch=watch,
    )  # fmt: skip

  whole = model()
  losses = {}
  train(whole, "whole", losses.__setitem__)
  assert list(losses) == [1, 2, 3, 4, 5, 6, 7]

  def stop(step, loss):
    if step == 5:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    train(model(), "halves", stop)
  seen = {}
  halves = model(seed=1)
  train(halves, "halves", seen.__setitem__)
  assert seen == {step: losses[step] for step in (5, 6, 7)}
  for one, other in zip(whole.get_weights(), halves.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  train(halves, "halves", lambda step, loss: pytest.fail("it was done"))


def test_augmented_images_are_shifted_or_mirrored_ones():
  """A picture of a ramp says where each of its columns came from."""
  ramp = np.broadcast_to(np.arange(16, dtype=np.float32)[None, :, None], [16, 16, 1])
  examples = central_training._examples(ramp[None], np.array([2]), range(100), 0, augment=True)
  images, labels = zip(*examples.as_numpy_iterator(), strict=True)
  assert set(labels) == {2}
  inner = {tuple(np.diff(image[0, 4:-4, 0])) for image in images}
  assert inner == {(1.0,) * 7, (-1.0,) * 7}
  starts = {image[8, 8, 0] for image in images if image[8, 8, 0] > image[8, 7, 0]}
  assert starts == {6, 7, 8, 9, 10}


def test_each_seed_draws_its_own_images():
  images, labels = data()
  drawn = [
    np.stack(
      [x for x, _ in central_training._examples(images, labels, range(9), seed, augment=False)]
    )
    for seed in (0, 0, 2**32 - 1)
  ]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert np.abs(drawn[0] - drawn[2]).max() > 0.1
