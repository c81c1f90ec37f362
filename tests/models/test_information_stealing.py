import pytest

from models import information_stealing


def outputs(model):
  return [tuple(layer.output_shape[1:]) for layer in model.layers]


def test_discriminator_has_the_published_layers():
  model = information_stealing.discriminator()
  assert outputs(model) == [(13, 13, 32), (6, 6, 64), (2304,), (200,), (11,)]
  assert model.count_params() == (
    (9 + 1) * 32 + (9 * 32 + 1) * 64 + (2304 + 1) * 200 + (200 + 1) * 11
  )


def test_generator_has_the_published_layers():
  model = information_stealing.generator()
  assert outputs(model) == [(1568,), (7, 7, 32), (14, 14, 32), (28, 28, 16), (28, 28, 1)]
  assert model.count_params() == (
    (100 + 1) * 1568 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 16 + (9 * 16 + 1) * 1
  )


def test_models_follow_the_data():
  assert information_stealing.discriminator((32, 32, 3), 100).output_shape == (None, 101)
  assert information_stealing.generator((32, 32, 3)).output_shape == (None, 32, 32, 3)
  with pytest.raises(ValueError, match="divisible by 4"):
    information_stealing.generator((30, 28, 1))
