import numpy as np
import tensorflow as tf

from tests import tiny
from tff_attacks import keras_state


def test_initial_weights_depend_on_the_seed_alone():
  first, again, other = (keras_state.initial_weights(tiny.global_model, s) for s in (1, 1, 2))
  np.testing.assert_array_equal(first.trainable[0], again.trainable[0])
  assert np.abs(first.trainable[0] - other.trainable[0]).max() > 0.01


def test_built_model_has_no_random_initialisation():
  with tf.Graph().as_default() as graph:
    keras_state.build(tiny.generator)
  assert not [op.type for op in graph.get_operations() if "Random" in op.type]


def test_assign_and_read_are_inverse_with_batch_norm():
  weights = keras_state.initial_weights(lambda: tiny.global_model(batch_norm=True), 0)
  model = keras_state.build(lambda: tiny.global_model(batch_norm=True), weights)
  read = keras_state.read(model)
  assert len(read.non_trainable) == 2
  tf.nest.map_structure(np.testing.assert_array_equal, read, weights)


def test_dropout_draws_from_the_given_seed():
  weights = keras_state.initial_weights(tiny.global_model, 0)
  model = keras_state.build(lambda: tiny.global_model(dropout=0.5), weights)
  inputs = tiny.images(0, 6).images
  call = tf.function(lambda seed: keras_state.call(model, inputs, seed))
  first, again, other = (call(tf.constant([s, 7])) for s in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3
  assert np.abs(first - model(inputs, training=False)).max() > 1e-3


def test_every_random_layer_has_its_own_stream():
  def two_dropouts():
    inputs = tf.keras.Input([1000])
    drop = tf.keras.layers.Dropout
    return tf.keras.Model(inputs, [drop(0.5)(inputs), drop(0.5)(inputs)])

  model = keras_state.build(two_dropouts)
  first, second = keras_state.call(model, tf.ones([1, 1000]), tf.constant([0, 0]))
  assert 0.4 < np.mean((first.numpy() > 0) == (second.numpy() > 0)) < 0.6


def test_where_results_repeat_inference_does_without_the_fused_kernel(monkeypatch):
  def images():
    inputs = tf.keras.Input([4, 4, 2])
    return tf.keras.Model(inputs, tf.keras.layers.BatchNormalization()(inputs))

  def kernels(model):
    call = tf.function(lambda x: tf.gradients(tf.reduce_sum(model(x, training=False) ** 2), x))
    graph = call.get_concrete_function(tf.TensorSpec([None, 4, 4, 2])).graph
    return {op.type for op in graph.get_operations() if "FusedBatchNorm" in op.type}

  x = tf.random.stateless_normal([3, 4, 4, 2], [0, 0])
  weights = keras_state.initial_weights(images, 0)
  fused = keras_state.build(images, weights)
  assert kernels(fused) == {"FusedBatchNormV3", "FusedBatchNormGradV3"}
  monkeypatch.setattr(keras_state.framework_config, "is_op_determinism_enabled", lambda: True)
  split = keras_state.build(images, weights)
  assert kernels(split) == set()
  split.trainable = False  # Then its training is inference, too.
  call = tf.function(lambda x: tf.gradients(tf.reduce_sum(split(x, training=True)), x))
  graph = call.get_concrete_function(x).graph
  assert not [op.type for op in graph.get_operations() if "FusedBatchNorm" in op.type]
  split.trainable = True
  for training in (True, False, True):
    np.testing.assert_allclose(fused(x, training=training), split(x, training=training), atol=1e-5)
    for one, other in zip(fused.weights, split.weights, strict=True):  # Moving statistics, too.
      np.testing.assert_allclose(one, other, rtol=1e-6)
