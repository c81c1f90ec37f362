import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import poison
from tff_attacks import keras_state
from tff_attacks.attacks import label_flipping, scaling
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, process


def parameters(source=0, target=2, **options):
  sources, targets = label_flipping.one_target(tiny.NUM_CLASSES, [source], target)
  return label_flipping.Parameters(sources, targets, **options)


def holding(*counts):
  """Images that can be told apart, so many of each class."""
  labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
  pixels = np.arange(labels.size, dtype=np.float32)
  return Images(np.broadcast_to(pixels[:, None, None, None], [labels.size, 8, 8, 1]), labels)


def numbers(data):
  return np.asarray(data.images)[:, 0, 0, 0].astype(int)


@pytest.mark.parametrize(
  ("rate", "others"), [(0.5, 4), (0.25, 12), (0.8, 1), (1.0, 0), (0.1, 16), (1e-9, 16)]
)
def test_the_injection_rate_is_the_share_of_flipped_images(rate, others):
  own = holding(4, 9, 7)
  _, data = poison(label_flipping.label_flipping(parameters(injection_rate=rate)), own)
  chosen = numbers(data)
  assert sorted(chosen[:4]) == [0, 1, 2, 3]
  assert np.asarray(data.labels)[:4].tolist() == [2] * 4
  assert len(chosen) == 4 + others
  assert len(set(chosen)) == len(chosen)
  # The others keep their labels.
  np.testing.assert_array_equal(data.labels[4:], own.labels[chosen[4:]])


def test_the_others_are_drawn_anew():
  own = holding(4, 20, 20)
  made = label_flipping.label_flipping(parameters())
  first, second, again = (numbers(poison(made, own, seed=s)[1])[4:].tolist() for s in (0, 1, 0))
  assert first != second
  assert first == again


def test_several_sources():
  sources, targets = np.array([True, False, True]), np.array([1, 1, 0], np.int32)
  given = label_flipping.Parameters(sources, targets, injection_rate=1.0)
  _, data = poison(label_flipping.label_flipping(given), holding(2, 3, 2))
  assert np.asarray(data.labels).tolist() == [1, 1, 0, 0]


def test_one_target_for_several_sources():
  sources, targets = label_flipping.one_target(4, [0, 3], 2)
  assert sources.tolist() == [True, False, False, True]
  assert targets.tolist() == [2, 1, 2, 2]


def test_without_images_of_the_source_it_is_honest():
  own = holding(0, 5, 4)
  state, data = poison(label_flipping.label_flipping(parameters()), own)
  assert state.started
  np.testing.assert_array_equal(numbers(data), numbers(own))
  np.testing.assert_array_equal(data.labels, own.labels)


def test_waits_for_its_start():
  made = label_flipping.label_flipping(parameters()._replace(start_round=3))
  own = holding(4, 9, 7)
  state, data = poison(made, own, round_number=2)
  assert not state.started
  np.testing.assert_array_equal(numbers(data), numbers(own))
  state, data = poison(made, own, round_number=3, state=state)
  assert state.started
  assert len(numbers(data)) == 8
  _, data = poison(made, own, round_number=2, state=state)  # Once started it goes on.
  assert len(numbers(data)) == 8


def updates(poison_update, own):
  """The updates of an honest client, and of an adversary with the same data and seed."""
  made = label_flipping.label_flipping(parameters(), poison_update=poison_update)
  federation = process.build_federation(
    tiny.global_model, tiny.training(), made, aggregation.build_aggregator("mean")
  )
  weights = keras_state.initial_weights(tiny.global_model, 0)
  server = federation.initial_server(weights)
  for given in (None, made.parameters):
    client = federation.initial_client(0, 0, given)
    after, _, _ = federation.process.next(server, [client], [own])
    yield np.concatenate(
      [np.ravel(a - b) for a, b in zip(after.weights.trainable, weights.trainable, strict=True)]
    )


def test_train_and_scale_sends_the_norm_of_an_honest_update(tff_runtime):
  del tff_runtime
  own = tiny.images(0, 12)
  honest, flipped = updates(label_flipping.label_flipping(parameters()).poison_update, own)
  _, scaled = updates(scaling.train_and_scale, own)
  # Flipping labels takes fewer images here, and its update is shorter: gamma is above 1.
  assert np.linalg.norm(flipped) < 0.95 * np.linalg.norm(honest)
  assert np.linalg.norm(scaled) == pytest.approx(np.linalg.norm(honest), rel=1e-4)
  np.testing.assert_allclose(
    scaled / np.linalg.norm(scaled), flipped / np.linalg.norm(flipped), atol=1e-5
  )


def test_model_replacement_multiplies(tff_runtime):
  del tff_runtime
  own = tiny.images(0, 12)
  _, flipped = updates(scaling.model_replacement(1.0), own)
  _, boosted = updates(scaling.model_replacement(10.0), own)
  np.testing.assert_allclose(boosted, 10 * flipped, rtol=1e-4, atol=1e-6)


def test_without_images_of_the_source_its_update_is_honest(tff_runtime):
  del tff_runtime
  own = tiny.images(0, 12)
  own = own._replace(labels=np.ones_like(own.labels))
  honest, sent = updates(scaling.model_replacement(10.0), own)
  np.testing.assert_allclose(sent, honest, rtol=1e-6)


def test_scale_keeps_the_structure():
  update = {"a": tf.constant([3.0]), "b": [tf.constant(4.0)]}
  scaled = scaling.scale(update, 0.5)
  assert (scaled["a"].numpy().tolist(), float(scaled["b"][0])) == ([1.5], 2.0)
