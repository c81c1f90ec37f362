"""What the options of CRPA become."""

import types

import numpy as np
import pytest
import tensorflow as tf

from experiments import crpa_run, crpa_setup
from experiments import data as data_lib
from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError
from tff_attacks import keras_state
from tff_attacks.attacks import crpa
from tff_attacks.data import datasets
from tff_attacks.runtime import in_process
from tff_attacks.simulation import loop

DIGITS = datasets.load("digits")


def config(**changes):
  return CRPAConfig(**{"images_per_class": 20, "reconstruct": 4, "poison": 9} | changes)


def injected(attack, **changes):
  """What a control injects, and how many images of each class its adversary holds."""
  one = config(attack=attack, poison_images=7, start_round=3, start_accuracy=0.5, **changes)
  split, _ = crpa_setup.distribute(one, DIGITS)
  found = crpa_setup.injection_parameters(one, DIGITS, split)
  assert (found.start_round, found.start_accuracy) == (3, 0.5)
  assert found.injected.labels.tolist() == [9] * 7
  return found.injected.images, split.table[split.adversary]


def classes(images):
  """The class of each in the training set; None of what is not there."""
  train = DIGITS.train
  known = {i.tobytes(): int(c) for i, c in zip(train.images, train.labels, strict=True)}
  return {known.get(image.tobytes()) for image in images}


def test_real_images_are_of_the_class_that_would_be_reconstructed():
  images, _ = injected("real")
  assert classes(images) == {4}
  assert len({image.tobytes() for image in images}) == 7


@pytest.mark.parametrize("seed", range(3))
def test_another_class_is_neither_and_least_held(seed):
  images, held = injected("other_class", partition="dirichlet", alpha=1.0, seed=seed,
                          adversary_lacks="reconstruct")  # fmt: skip
  (label,) = classes(images)
  assert label not in (4, 9)
  assert held[label] == np.delete(held, [4, 9]).min() < held.max()


def test_another_class_is_one_that_somebody_trains():
  """The first adversary holds class 0, the second class 1; without data, nobody does."""
  assert classes(injected("other_class", num_adversaries=2)[0]) == {2}
  assert classes(injected("other_class", free_rider=True)[0]) == {1}

  few = {"num_clients": 3, "reconstruct": 1, "poison": 2, "free_rider": True}
  with pytest.raises(ConfigError, match="attack: other_class needs a third class"):
    crpa_setup.prepare(config(attack="other_class", **few))


def test_it_is_said_that_nobody_holds_a_free_riders_class(caplog):
  crpa_setup.distribute(config(free_rider=True), DIGITS)
  assert "No client holds class [0]" in caplog.text


def test_noise_is_of_no_class():
  images, _ = injected("noise")
  assert classes(images) == {None}
  assert images.shape == (7, 28, 28, 1)
  assert images.min() < -0.99
  assert images.max() > 0.99
  assert abs(images.mean()) < 0.05


@pytest.mark.parametrize(
  ("generated_label", "label"), [("poison", 9), ("extra", 10), ("random", crpa.RANDOM_LABELS)]
)
def test_the_options_of_the_attack_reach_it(generated_label, label):
  options = {
    "poison_images": 7, "generator_learning_rate": 0.5, "discriminator_learning_rate": 0.25,
    "total_variation": 0.125, "start_round": 3, "start_accuracy": 0.75,
  }  # fmt: skip
  one = config(generated_label=generated_label, generator_steps=11, **options)
  found = crpa_setup.crpa_parameters(one, 10)._asdict()
  assert found == options | {"reconstruct": 4, "label": label, "steps": 11}


def test_an_adversary_may_train_otherwise_than_the_others():
  assert crpa_setup.prepare(config()).compiled.attack.training is None
  for changes in ({"keep_discriminator": True}, {"poison_images": 0, "keep_discriminator": True}):
    compiled = crpa_setup.prepare(config(**changes)).compiled
    assert compiled.attack.training not in (None, compiled.training)


@pytest.mark.parametrize(("poison", "adversary"), [(0, 3), (9, 0)])
def test_the_adversary_of_the_published_code(poison, adversary):
  split, _ = crpa_setup.distribute(config(adversary="original", poison=poison), DIGITS)
  assert split.adversaries == [adversary]


def test_a_warm_up_is_on_images_of_all_classes():
  accuracies = []
  for epochs in (0, 5):
    one = config(attack="none", warm_up_epochs=epochs)
    setup = crpa_setup.prepare(one)
    with in_process.in_process():
      server, _ = crpa_setup.initial_states(one, setup)
    _, confusion = setup.compiled.evaluate(server.weights)
    accuracies.append(np.diag(confusion).sum() / np.sum(confusion))
  assert accuracies[0] < 0.3 < 0.6 < accuracies[1]


@pytest.mark.parametrize(("attack", "malicious"), [("crpa", 1), ("none", 0)])
def test_whom_a_robust_rule_rejected(attack, malicious):
  observer = object.__new__(crpa_run.Observer)
  observer._config = config(aggregator="krum", attack=attack)
  observer._setup = types.SimpleNamespace(split=types.SimpleNamespace(adversaries=[2, 5]))
  kept = np.array([True, False, False, True])
  measurements = {"not_finite": 1, "kept": kept}
  played = loop.Round(0, (), (), cohort=[1, 2, 4, 5], measurements=measurements)
  expected = {"rejected_malicious": malicious, "rejected_honest": 2 - malicious, "not_finite": 1}
  assert observer._rejected(played) == expected
  assert observer._rejected(played._replace(measurements={"mean_value": ()})) == {}


def test_fewer_test_images_are_the_first():
  few = data_lib.load("digits", None, 50).test
  np.testing.assert_array_equal(few.images, DIGITS.test.images[:50])
  np.testing.assert_array_equal(few.labels, DIGITS.test.labels[:50])
  assert data_lib.load("digits", None, 0).test.labels.size == DIGITS.test.labels.size


def test_training_is_what_was_asked_for():
  one = config(attack="none", optimizer="adam", local_epochs=3, batch_size=5, learning_rate=0.25)
  setup = crpa_setup.prepare(one)
  weights = keras_state.initial_weights(setup.compiled.model_fn, 0)
  state = setup.compiled.training.initialize(weights)
  assert float(state["learning_rate"]) == 0.25
  model = keras_state.build(setup.compiled.model_fn)
  trained = setup.compiled.training.train(model, weights, state, setup.data[0], tf.constant([0, 1]))
  assert int(trained.optimizer["step"]) == 3 * 20 / 5
