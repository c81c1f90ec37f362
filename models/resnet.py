"""Residual networks for small images: a stem of one 3x3 convolution."""

import tensorflow as tf

layers = tf.keras.layers

_REDUCTION = 16


def resnet8(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """ResNet-8, smaller than any of the source: three stages of one block, 16, 32 and 64 filters.

  Source: https://arxiv.org/abs/1512.03385, section 4.2, but with projections.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _resnet(image_shape, num_classes, _basic, blocks=(1, 1, 1), filters=16)


def resnet18(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """ResNet-18.

  Source: https://arxiv.org/abs/1512.03385, with the stem of its CIFAR-10 networks.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _resnet(image_shape, num_classes, _basic, blocks=(2, 2, 2, 2))


def resnet18_pooled(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """ResNet-18 whose stem ends with max pooling, as in github.com/huyvnphan/PyTorch_CIFAR10.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _resnet(image_shape, num_classes, _basic, blocks=(2, 2, 2, 2), pooled=True)


def se_resnet50(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """ResNet-50 with squeeze-and-excitation.

  Source: https://arxiv.org/abs/1709.01507.

  Args:
    image_shape: Height, width and channels.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _resnet(image_shape, num_classes, _squeezed_bottleneck, blocks=(3, 4, 6, 3))


def _resnet(image_shape, num_classes, residual, blocks, filters=64, pooled=False):
  inputs = layers.Input(image_shape)
  outputs = _activated(_convolution(inputs, filters, 3))
  if pooled:
    outputs = layers.MaxPooling2D(3, 2, "same")(outputs)
  for stage, count in enumerate(blocks):
    for block in range(count):
      strides = 2 if stage and not block else 1
      change = residual(outputs, filters * 2**stage, strides)
      if outputs.shape[-1] != change.shape[-1]:
        outputs = _normalised(_convolution(outputs, change.shape[-1], 1, strides))
      outputs = layers.ReLU()(outputs + change)
  outputs = layers.GlobalAveragePooling2D()(outputs)
  return tf.keras.Model(inputs, layers.Dense(num_classes)(outputs))


def _basic(inputs, filters, strides):
  outputs = _activated(_convolution(inputs, filters, 3, strides))
  return _normalised(_convolution(outputs, filters, 3))


def _squeezed_bottleneck(inputs, filters, strides):
  outputs = _activated(_convolution(inputs, filters, 1))
  outputs = _activated(_convolution(outputs, filters, 3, strides))
  outputs = _normalised(_convolution(outputs, 4 * filters, 1))
  gates = layers.GlobalAveragePooling2D(keepdims=True)(outputs)
  gates = layers.Dense(4 * filters // _REDUCTION, activation="relu")(gates)
  return outputs * layers.Dense(4 * filters, activation="sigmoid")(gates)


def _convolution(inputs, filters, size, strides=1):
  convolution = layers.Conv2D(
    filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal"
  )
  return convolution(inputs)


def _normalised(inputs):
  return layers.BatchNormalization()(inputs)


def _activated(inputs):
  return layers.ReLU()(_normalised(inputs))
