"""Fast gradient norms of `tf.keras.layers.Conv2D`, which TF Privacy 0.9 has none for.

A registry function in the form of `tensorflow_privacy.privacy.fast_gradient_clipping`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

# An image's patches take many times its memory: 25/4 with kernels of 5 and strides of 2.
_RECORDS_AT_ONCE = 32


def conv2d_layer_computation(
  layer_instance: tf.keras.layers.Conv2D,
  input_args: Sequence[Any],
  input_kwargs: Mapping[str, Any],
  tape: tf.GradientTape,
  num_microbatches: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
  """Registry function for `tf.keras.layers.Conv2D`.

  A convolution is a matrix product of each patch of the image with the kernel. With the
  patches a of an example as rows, `[T, D]`, and g the gradients of its outputs, `[T, P]`,
  its kernel's gradient is a^T g, and the squared norm of that is also the sum of
  (a a^T) * (g g^T). The first form costs T D P multiplications, the second
  T^2 (D + P): the cheaper one is computed. Source: https://arxiv.org/abs/2205.10683.

  Args:
    layer_instance: The layer, channels last, without groups.
    input_args: Its input `[n, height, width, channels]`, alone.
    input_kwargs: Must be empty.
    tape: Watches the outputs before the activation.
    num_microbatches: If given, the norms are those of so many microbatches, whose losses
      are means; must divide n.

  Returns:
    (outputs before the activation, outputs, function from the gradients of the former
    to the squared norms `[n]` or `[num_microbatches]`).

  Raises:
    NotImplementedError: If the layer has groups or channels first.
    ValueError: If there are other arguments.
  """
  if input_kwargs or len(input_args) != 1:
    raise ValueError("Conv2D layer calls should receive one input and no kwargs.")
  check_layer(layer_instance)
  activation = layer_instance.activation
  layer_instance.activation = None
  base_vars = layer_instance(*input_args)
  tape.watch(base_vars)
  layer_instance.activation = activation
  outputs = base_vars if activation is None else activation(base_vars)

  def sqr_norms_of(images, gradients):
    patches = tf.image.extract_patches(
      images,
      sizes=[1, *layer_instance.kernel_size, 1],
      strides=[1, *layer_instance.strides, 1],
      rates=[1, *layer_instance.dilation_rate, 1],
      padding=layer_instance.padding.upper(),
    )
    patches, gradients = (_rows(t, num_microbatches) for t in (patches, gradients))
    sqr_norms = _sqr_norms_of_products(patches, gradients)
    if layer_instance.use_bias:
      sqr_norms += tf.reduce_sum(tf.reduce_sum(gradients, axis=1) ** 2, axis=1)
    return sqr_norms

  def sqr_norm_fn(base_vars_grads):
    if num_microbatches is not None:
      return sqr_norms_of(input_args[0], base_vars_grads)
    return _few_at_once(sqr_norms_of, input_args[0], base_vars_grads)

  return base_vars, outputs, sqr_norm_fn


def check_layer(layer: tf.keras.layers.Conv2D) -> None:
  """Checks that there is a fast gradient norm for a convolution.

  Raises:
    NotImplementedError: If it has groups or channels first.
  """
  if layer.groups != 1:
    raise NotImplementedError("a convolution with groups has no fast gradient norm")
  if layer.data_format != "channels_last":
    raise NotImplementedError("a convolution with channels first has no fast gradient norm")


def _few_at_once(
  sqr_norms_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], images: tf.Tensor, gradients: tf.Tensor
) -> tf.Tensor:
  """The squared norms of all records, a few after another."""
  records = tf.shape(images)[0]
  parts = -(-records // _RECORDS_AT_ONCE)

  def step(part, norms):
    few = slice(part * _RECORDS_AT_ONCE, (part + 1) * _RECORDS_AT_ONCE)
    return part + 1, norms.write(part, sqr_norms_of(images[few], gradients[few]))

  norms = tf.TensorArray(images.dtype, parts, infer_shape=False, element_shape=[None])
  _, norms = tf.while_loop(
    lambda part, _: part < parts, step, (tf.constant(0), norms), parallel_iterations=1
  )
  return norms.concat()


def _rows(images: tf.Tensor, num_microbatches: tf.Tensor | None) -> tf.Tensor:
  """The positions of each example, or of all examples of a microbatch, as rows."""
  positions = None
  if num_microbatches is None and images.shape[1:3].is_fully_defined():
    positions = images.shape[1] * images.shape[2]
  records = tf.shape(images)[0] if num_microbatches is None else num_microbatches
  rows = tf.reshape(images, [records, -1, images.shape[3]])
  return tf.ensure_shape(rows, [None, positions, images.shape[3]])


def _sqr_norms_of_products(a: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
  """Squared Frobenius norms of a^T g for `[n, T, D]` and `[n, T, P]`."""
  (_, positions, d), p = a.shape, g.shape[2]
  if positions is not None and positions * (d + p) < d * p:
    products = tf.matmul(a, a, transpose_b=True) * tf.matmul(g, g, transpose_b=True)
    # Of positive and negative terms: rounding must not leave less than nothing.
    return tf.maximum(tf.reduce_sum(products, axis=[1, 2]), 0.0)
  return tf.reduce_sum(tf.matmul(a, g, transpose_a=True) ** 2, axis=[1, 2])
