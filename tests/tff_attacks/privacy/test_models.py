import pytest
import tensorflow as tf

from tests import tiny
from tff_attacks.privacy import models, records

layers = tf.keras.layers


def sequential(*middle):
  return tf.keras.Sequential([layers.Input([8, 8, 4]), *middle, layers.Flatten(), layers.Dense(3)])


def used_twice():
  inputs = layers.Input([8, 8, 4])
  layer = layers.Conv2D(4, 3, padding="same")
  return tf.keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layer(layer(inputs)))))


def shared_weight():
  inputs = layers.Input([4])
  first, second = layers.Dense(4), layers.Dense(4)
  hidden = first(inputs)
  second.build([None, 4])
  second.kernel = first.kernel
  return tf.keras.Model(inputs, second(hidden))


class MeanOfBatch(layers.Layer):
  def call(self, inputs):
    return inputs - tf.reduce_mean(inputs, axis=0)


class Hidden(layers.Layer):
  """Mixes records, but lets no gradient through."""

  def call(self, inputs):
    return inputs - tf.stop_gradient(tf.reduce_mean(inputs, axis=0))


class Neighbours(layers.Layer):
  """Mixes each record with the one beside it."""

  def call(self, inputs):
    pairs = tf.reshape(inputs, [-1, 2, *inputs.shape[1:]])
    return tf.reshape(pairs + tf.reduce_mean(pairs, axis=1, keepdims=True), tf.shape(inputs))


class WhileTraining(layers.Layer):
  """As the centring of a batch normalization that keeps no statistics."""

  def call(self, inputs, training=False):
    return inputs - tf.reduce_mean(inputs, axis=0) if training else inputs


class Remembering(layers.Layer):
  """Sends a statistic of the batch."""

  def build(self, input_shape):
    self.mean = self.add_weight("mean", input_shape[1:], trainable=False)

  def call(self, inputs, training=False):
    if training:
      self.mean.assign(tf.reduce_mean(inputs, axis=0))
    return inputs


def called_in_inference():
  inner = tf.keras.Sequential([layers.Input([4]), layers.Dense(3)], name="inner")
  inputs = layers.Input([4])
  return tf.keras.Model(inputs, inner(inputs, training=False))


class Subclassed(tf.keras.Model):
  def __init__(self):
    super().__init__()
    self.dense = layers.Dense(3)

  def call(self, inputs):
    return self.dense(inputs)


def test_the_models_of_this_project_are_fit():
  from models import crpa

  for model_fn in (crpa.discriminator, lambda: tiny.global_model(dropout=0.5)):
    models.check_separable(model_fn)
    records.check_model(model_fn())


@pytest.mark.parametrize(
  ("model", "message"),
  [
    (sequential(layers.BatchNormalization(name="bn")), r"layer bn \(BatchNormalization\) mixes"),
    (sequential(MeanOfBatch()), "depends on other records"),
    (sequential(WhileTraining()), "depends on other records"),
    (sequential(Hidden()), "depends on other records"),
    (sequential(Neighbours()), "depends on other records"),
    (sequential(Remembering()), "training changes .*mean.*, which is sent without noise"),
    (sequential(layers.Conv2D(2, 3, kernel_regularizer="l2")), "regularization losses"),
    (sequential(layers.Conv2D(2, 3, activity_regularizer="l2")), "regularization losses"),
  ],
)
def test_what_no_clipping_bounds_is_refused(model, message):
  with pytest.raises(ValueError, match=message):
    models.check_separable(lambda: model)


@pytest.mark.parametrize(
  ("model", "message"),
  [
    (
      sequential(layers.DepthwiseConv2D(3, name="depth")),
      r"layer depth \(DepthwiseConv2D\) has no fast gradient norm",
    ),
    (
      tf.keras.Sequential([layers.Input([8]), layers.Embedding(5, 2, name="words")]),
      "layer words .Embedding. has no fast gradient norm",
    ),
    (sequential(layers.Conv2D(4, 3, groups=2, name="g")), "layer g .*: a convolution with groups"),
    (sequential(sequential(layers.LayerNormalization(name="ln"))), "layer ln .* has no fast"),
    (used_twice(), "is used twice"),
    (shared_weight(), "layers share a weight"),
    (called_in_inference(), "model inner in it is called with training="),
    (Subclassed(), "no functional or Sequential model"),
  ],
)  # fmt: skip
def test_what_has_no_fast_norm_is_refused(model, message):
  with pytest.raises(ValueError, match=message):
    records.check_model(model)
