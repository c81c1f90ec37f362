"""Common networks have the size that is known of them, and logits."""

import functools

import numpy as np
import pytest

from models import registry
from tff_attacks import keras_state


@functools.cache
def colour(name):
  """For ten classes of 32x32 images."""
  return registry.GLOBAL_MODELS[name]((32, 32, 3), 10)


def trainable(model):
  return sum(int(np.prod(w.shape)) for w in model.trainable_variables)


@pytest.mark.parametrize(
  ("name", "size"),
  [
    # 32x32 in colour, 10 classes: torchvision's networks with the same layers have as many.
    ("resnet18", 11_173_962),
    ("resnet18_pooled", 11_173_962),
    ("vgg16", 33_638_218),
    ("densenet121", 6_964_106),
    ("densenet121_pooled", 6_964_106),
    # Its convolutions have biases, which torchvision's have not.
    ("resnet50", 23_528_522 + 26_560),
    ("dlf_cnn", 1_792 + 73_856 + 8 * 8 * 128 * 200 + 200 + 2_010),
    ("cnn", 896 + 18_496 + 16 * 16 * 64 * 512 + 512 + 5_130),
    ("mlp", 3072 * 256 + 256 + 2_570),
  ],
)
def test_trainable_weights(name, size):
  model = colour(name)
  assert trainable(model) == size
  contract = registry.check_global_model(model, (32, 32, 3), 10)
  assert contract == registry.Contract(num_outputs=10, from_logits=True)


@pytest.mark.parametrize("name", ["vgg16", "densenet121", "resnet50", "inception_resnet"])
def test_small_images_are_padded(name):
  model = registry.GLOBAL_MODELS[name]((28, 28, 1), 10)
  registry.check_global_model(model, (28, 28, 1), 10)
  keras_state.last_layer(model)


@pytest.mark.parametrize(
  ("name", "size"),
  [
    ("attacking_distance", 4 * 4 * 50 * 200), ("attacking_distance_unpooled", 20 * 20 * 50 * 200),
  ],
)  # fmt: skip
def test_trainable_weights_for_grey_images(name, size):
  """Two convolutions of 5x5, and 200 units: they differ in what these see."""
  convolutions = 5 * 5 * 20 + 20 + 5 * 5 * 20 * 50 + 50
  model = registry.GLOBAL_MODELS[name]((28, 28, 1), 10)
  assert trainable(model) == convolutions + size + 200 + 2_010


def test_squeezing_and_exciting_adds_two_layers_to_each_block():
  """Their weights are 2 / 16 of the squared width, and biases."""
  model = registry.GLOBAL_MODELS["se_resnet50"]((32, 32, 3), 10)
  size = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
  added = sum(
    count * (2 * width**2 // 16 + width + width // 16)
    for count, width in ((3, 256), (4, 512), (6, 1024), (3, 2048))
  )
  # The stem has a 3x3 instead of a 7x7 kernel.
  assert size == 23_528_522 - (49 - 9) * 3 * 64 + added


def test_a_pooled_stem_halves_every_feature_map():
  def sides(name, of):
    model = colour(name)
    return [layer.output_shape[1] for layer in model.layers if of in layer.name]

  assert sides("resnet18", "add") == [32, 32, 16, 16, 8, 8, 4, 4]
  assert sides("resnet18_pooled", "add") == [16, 16, 8, 8, 4, 4, 2, 2]
  assert sides("densenet121", "block1_concat") == [8, 4, 2, 1]
  assert sides("densenet121_pooled", "block1_concat") == [16, 8, 4, 2]
