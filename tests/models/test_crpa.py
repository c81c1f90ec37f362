import pytest

from models import crpa


def outputs(model):
  return [tuple(layer.output_shape[1:]) for layer in model.layers]


def test_discriminator_has_the_published_layers():
  model = crpa.discriminator()
  assert outputs(model) == [
    (14, 14, 64), (14, 14, 64), (14, 14, 64),
    (7, 7, 128), (7, 7, 128), (7, 7, 128),
    (6272,), (11,),
  ]  # fmt: skip
  assert model.count_params() == (25 + 1) * 64 + (25 * 64 + 1) * 128 + (6272 + 1) * 11
  assert [layer.alpha for layer in model.layers if hasattr(layer, "alpha")] == pytest.approx(
    [0.3, 0.3]
  )
  assert [layer.rate for layer in model.layers if hasattr(layer, "rate")] == [0.3, 0.3]


def test_generator_has_the_published_layers():
  model = crpa.generator()
  assert outputs(model) == [
    (12544,), (12544,), (12544,), (7, 7, 256),
    (7, 7, 128), (7, 7, 128), (7, 7, 128),
    (14, 14, 64), (14, 14, 64), (14, 14, 64),
    (28, 28, 1),
  ]  # fmt: skip
  batch_norm = 4 * (12544 + 128 + 64)
  convolutions = 16 * (256 * 128 + 128 * 64 + 64 * 1)
  assert model.count_params() == 100 * 12544 + convolutions + batch_norm


def test_models_follow_the_data():
  assert crpa.discriminator((32, 32, 3), 100).output_shape == (None, 101)
  assert crpa.generator((32, 32, 3)).output_shape == (None, 32, 32, 3)


def test_generator_refuses_sides_that_it_cannot_make():
  with pytest.raises(ValueError, match="divisible by 4"):
    crpa.generator((30, 28, 1))
