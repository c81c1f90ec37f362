import numpy as np
import pytest
import tensorflow as tf

from models import judge, registry
from tests import tiny
from tff_attacks.data import datasets


def user_model(image_shape, num_classes):
  return tf.keras.Sequential(
    [
      tf.keras.layers.Input(image_shape),
      tf.keras.layers.Flatten(),
      tf.keras.layers.Dense(num_classes, activation="softmax"),
    ]
  )


def test_finds_a_users_model_by_its_path():
  found = registry.find("model", "tests.models.test_registry:user_model", {})
  contract = registry.check_global_model(found((8, 8, 1), 3), (8, 8, 1), 3)
  assert contract == registry.Contract(num_outputs=3, from_logits=False)


def test_recognises_logits_and_the_additional_class():
  contract = registry.check_global_model(tiny.global_model(), tiny.IMAGE_SHAPE, 3)
  assert contract == registry.Contract(num_outputs=4, from_logits=True)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("other", "unknown 'other'; allowed: attacking_distance, .* crpa"),
    ("no.such.module:f", "cannot be imported"),
    ("models.crpa:nothing", "cannot be imported"),
    ("models.crpa:NOISE_SIZE", "is no function"),
  ],
)
def test_refuses_unknown_models(name, message):
  with pytest.raises(ValueError, match=message):
    registry.find("model", name, registry.GLOBAL_MODELS)


def test_refuses_models_that_do_not_fit():
  model = tiny.global_model()
  with pytest.raises(ValueError, match="its input is"):
    registry.check_global_model(model, (28, 28, 1), 3)
  with pytest.raises(ValueError, match="its output is"):
    registry.check_global_model(model, tiny.IMAGE_SHAPE, 10)
  layers = tf.keras.layers
  nested = tf.keras.Sequential([layers.Input([4]), layers.Activation("sigmoid")])
  for last in (layers.Activation("sigmoid"), nested, layers.ReLU(), layers.Dense(4, "relu")):
    activation = "relu" if isinstance(last, layers.ReLU | layers.Dense) else "sigmoid"
    bounded = tf.keras.Model(model.inputs, last(model.output))
    with pytest.raises(ValueError, match=f"it ends with {activation}; let it end with softmax"):
      registry.check_global_model(bounded, tiny.IMAGE_SHAPE, 3)
  with pytest.raises(ValueError, match="it makes"):
    registry.check_generator(tiny.generator(), (28, 28, 1))
  bright = tf.keras.layers.Rescaling(1.0, offset=1.0)
  linear = tf.keras.Sequential([tf.keras.layers.Input([tiny.NOISE_SIZE]), tiny.generator(), bright])
  with pytest.raises(ValueError, match=r"generator: it makes images outside of \[-1, 1\]"):
    registry.check_generator(linear, tiny.IMAGE_SHAPE)


def test_judge_is_trained_reproducibly():
  data = datasets.load("digits").train.take(np.arange(64))
  first, second = (judge.train(*data, 10, 1, steps=3)(data.images).numpy() for _ in "ab")
  np.testing.assert_array_equal(first, second)
