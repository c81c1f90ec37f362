"""What the options of `experiments.leakage` are checked for, and what they become."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from experiments import leakage_attacks, leakage_config, leakage_setup
from experiments.leakage_config import ATTACKS, check, sought_images
from experiments.options import ConfigError
from models import leakage as leakage_models
from tests.experiments.test_leakage import config, run
from tff_attacks import keras_state
from tff_attacks.leakage import labels
from tff_attacks.runtime import in_process


def probabilities(image_shape, num_classes):
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [layers.Input(image_shape), layers.Flatten(), layers.Dense(num_classes), layers.Softmax()]
  )


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["attack=idlg"], "images: idlg looks for a single one, give images=1"),
    (["labels=idlg"], "images: idlg looks for a single one, give images=1"),
    (["images=5"], "images: the client trains on 4"),
    (["labels=given", "images=2"], "images: labels=given has 4 labels, leave it out"),
    (["victims=11"], "victims: there are 10 clients"),
    (["attack=robbing_the_fed"], "imprint_bins: robbing_the_fed needs an imprint block"),
    (
      ["attack=robbing_the_fed", "imprint_bins=9", "steps=5"],
      "steps: robbing_the_fed does not search, leave it out",
    ),
    (["imprint_weights=small"], "imprint_weights: there is no imprint block"),
    (["imprint_bins=1"], "imprint_bins: must be 0, or 2 or more"),
    (["attack_options=[steps]"], "attack_options: 'steps' is not allowed; allowed: <name>:<value>"),
    (["attack=ggl", "images=1", "auxiliary_images=63"], "auxiliary_images: ggl needs 64"),
    (["start_from=results"], "start_from: inverting_gradients takes no generator"),
    (["batch_size=50"], "batch_size: must be samples_per_client or less"),
  ],
)
def test_bad_input_is_refused_by_name(options, message):
  result = run(*options)
  assert result.returncode == 2
  assert message in result.stderr


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"samples_per_client": 1000}, "3 clients need 3000 images, the training set has 937 beside"),
    ({"auxiliary_images": 1430}, "3 clients need 24 images, the training set has 7 beside"),
    (
      {"samples_per_client": 300, "partition": "dirichlet"},
      "3 clients of equal size and whole classes have .* images, not 300",
    ),
    ({"labels": "rlu", "auxiliary_images": 0}, "labels=rlu needs images of every class"),
    (
      {"labels": "yin", "batch_size": 8, "mode": "federated", "samples_per_client": 11},
      "yin takes",
    ),
    ({"test_images": 400}, "test_images: there are 360, not 400"),
    (
      {
        "attack": "cocktail_party",
        "mode": "federated",
        "samples_per_client": 300,
        "images": 300,
      },
      "images: 256 units of 784 features cannot tell 300 apart, give images=256",
    ),
    ({"attack": "cocktail_party", "model": "cnn"}, "needs a fully connected first layer"),
    ({"attack": "robbing_the_fed", "model": "cnn"}, "needs an imprint block at its beginning"),
    ({"model": "tests.tiny:IMAGE_SHAPE"}, "model: 'tests.tiny:IMAGE_SHAPE' is no function"),
    ({"dataset": "cifar10", "attack": "grnn", "model": "mlp"}, "data_dir: nowhere/cifar10.npz"),
    ({"attack": "dlg", "labels": "irlg"}, "labels: dlg has its own way"),
    ({"model": f"{__name__}:probabilities"}, "model: needs a Dense last layer"),
    ({"model": "crpa", "labels": "rlu"}, "labels: rlu needs a model without a class for gene"),
    ({"attack_options": ["std:0"]}, "inverting_gradients has no 'std'"),
    ({"attack_options": ["foo:1"]}, "inverting_gradients has no 'foo'; allowed: learning_rate:0.1"),
    ({"attack_options": ["unroll:maybe"]}, "unroll must be true or false, not 'maybe'"),
    ({"attack_options": ["unroll:["]}, "unroll must be true or false"),
    ({"attack_options": ["learning_rate:fast"]}, "learning_rate must be a number, 0 or more"),
    ({"attack_options": ["learning_rate:NaN"]}, "learning_rate must be a number, 0 or more"),
    ({"attack_options": ["learning_rate:-1"]}, "learning_rate must be a number, 0 or more"),
    ({"attack": "ggl", "images": 1, "start_from": "nowhere"}, "start_from: nowhere/config.yaml"),
  ],
)
def test_bad_input_that_only_the_data_shows(changes, message):
  with pytest.raises(ConfigError, match=message):
    leakage_setup.prepare(config(data_dir="nowhere", **changes))


def test_features_that_are_fewer_than_the_images_cannot_be_told_apart():
  """VGG16 has 4,096 units, but 512 features of small images."""
  layers = tf.keras.layers

  def model_fn():
    return tf.keras.Sequential(
      [
        layers.Input([8, 8, 1]),
        layers.Conv2D(3, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(50),
        layers.Dense(10),
      ]
    )

  asked = config(attack="feature_inversion", batch_size=4)
  with pytest.raises(ValueError, match="50 units of 3 features cannot tell 4 apart, give images=3"):
    leakage_attacks.build(asked, model_fn, None)


def test_images_that_the_generator_cannot_make_are_refused():
  model_fn = functools.partial(leakage_models.cnn, (30, 30, 1), 10)
  with pytest.raises(ValueError, match=r"attack: grnn: The generator needs sides .*, found 30x30"):
    leakage_attacks.build(config(attack="grnn"), model_fn, None)


@pytest.mark.parametrize("attack", ATTACKS)
def test_settings_reach_the_attack(attack):
  one = config(attack=attack, steps=7)
  found = leakage_attacks.settings(one)
  if attack == "robbing_the_fed":
    assert found == {}
    return
  assert found["evaluations" if attack == "ggl" else "steps"] == 7
  published = leakage_attacks.settings(config(attack=attack, search="published"))
  assert published == {}


@pytest.mark.parametrize("weights", ["published", "small"])
def test_the_imprint_block_is_the_asked_for(weights):
  asked = config(attack="robbing_the_fed", imprint_bins=5, imprint_weights=weights)
  _, _, second, *_ = leakage_setup.prepare(asked).model_fn().get_weights()
  assert (np.ptp(second) == 0) == (weights == "published")


def test_an_imprint_block_is_sent_anew_to_the_victims():
  one = config(
    attack="robbing_the_fed", mode="federated", imprint_bins=5, imprint_weights="small", rounds=1
  )
  setup = leakage_setup.prepare(one)
  initial = keras_state.initial_weights(setup.model_fn, one.seed)
  clients = [setup.federation.initial_client(0, i) for i in range(3)]
  with in_process.in_process():
    server, clients, _ = setup.federation.process.next(
      setup.federation.initial_server(initial, one.seed), clients, setup.data
    )
    seen = leakage_setup.observe(one, setup, server, clients[0], setup.data[0]).weights.trainable
  trained = server.weights.trainable
  unmoved = [np.array_equal(*pair) for pair in zip(trained, initial.trainable, strict=True)]
  assert not any(unmoved)
  for part, block in zip(seen[:4], initial.trainable[:4], strict=True):
    np.testing.assert_array_equal(part, block)
  for part, own in zip(seen[4:], trained[4:], strict=True):
    np.testing.assert_array_equal(part, own)


def test_attacks_published_for_one_gradient_take_an_update_for_a_batchs():
  sought = {
    name: sought_images(config(attack=name, mode="federated", batch_size=3)) for name in ATTACKS
  }
  assert {name for name, count in sought.items() if count is not None} == {
    "dlg", "grnn", "cocktail_party", "feature_inversion",
  }  # fmt: skip
  assert set(sought.values()) == {None, 3}
  assert sought_images(config(attack="dlg", mode="federated", batch_size=500)) == 8
  assert sought_images(config(attack="dlg", mode="federated", images=2)) == 2
  assert sought_images(config(attack="dlg", mode="gradient")) is None


def test_numbers_are_read_as_the_attack_wants_them():
  found = leakage_attacks.settings(
    config(attack_options=["learning_rate:1", "total_variation:1e-4", "unroll:false"])
  )
  assert found == {"learning_rate": 1.0, "total_variation": 1e-4, "unroll": False, "steps": 600}
  assert isinstance(found["learning_rate"], float)


def test_every_label_inference_can_be_asked_for():
  assert {*leakage_config.LABELS, "given"} == set(labels.METHODS)


def test_every_attack_is_checked():
  for attack in ATTACKS:
    check(config(attack=attack, images=1, imprint_bins=10))
