"""Floating-point operations of a CRPA round, counted from its models.

A training sample costs three forward passes: one forward and, backward, one for the
gradients of the weights and one for those of the layers' inputs. Optimizers and
Dropout, which cost no matrix products, are left out.
"""

from collections.abc import Sequence

import tensorflow as tf

_TRAIN = 3


def forward(model: tf.keras.Model) -> int:
  """Floating-point operations of one sample's forward pass, 2 for each multiply-add."""
  image = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32)
  graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(image).graph
  profiler = tf.compat.v1.profiler
  options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
  return profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops


def local_training(model: int, sizes: Sequence[int], poison_images: int) -> int:
  """Of one epoch of every client.

  Args:
    model: Of the global model's forward pass.
    sizes: Each client's number of own images.
    poison_images: Generated images, on which the adversary trains, too.
  """
  return _TRAIN * model * (sum(sizes) + poison_images)


def gan(model: int, generator: int, images: int, batch_size: int, poison_images: int) -> int:
  """Of one pass of the adversary's GAN, and of the images that it generates after it.

  Args:
    model: Of the global model's forward pass.
    generator: Of the generator's forward pass.
    images: The adversary's own images.
    batch_size: Images in a GAN step.
    poison_images: Images generated in the end.
  """
  # For a generated image the discriminator runs forward once and backward twice: to the
  # image alone for the generator's loss, to image and weights for its own.
  generated = _TRAIN * generator + 4 * model
  steps = max(round(images / batch_size), 1)
  real = min(images, batch_size) * _TRAIN * model
  return steps * (batch_size * generated + real) + poison_images * generator
