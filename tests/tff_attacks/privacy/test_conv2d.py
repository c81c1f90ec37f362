import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_attacks.privacy import conv2d


@st.composite
def layers(draw):
  """A convolution that its input is large enough for, and the input's shape."""
  kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
  strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
  dilation = (1, 1)
  if strides == (1, 1):
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
  layer = tf.keras.layers.Conv2D(
    draw(st.integers(1, 40)),
    kernel,
    strides,
    draw(st.sampled_from(["same", "valid"])),
    dilation_rate=dilation,
    use_bias=draw(st.booleans()),
    activation=draw(st.sampled_from([None, "tanh"])),
    kernel_initializer=tf.keras.initializers.GlorotUniform(draw(st.integers(0, 100))),
    bias_initializer="ones",
  )
  reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
  size = [r + draw(st.integers(0, 4)) for r in reach]
  return layer, [draw(st.sampled_from([2, 4, 6])), *size, draw(st.integers(1, 40))]


def norms(layer, images, num_microbatches=None):
  """(fast, explicit) norms of the gradients of each record's, or microbatch's, loss."""
  count = num_microbatches or len(images)

  def losses(outputs):
    rows = tf.reshape(tf.sin(3.0 * outputs) + outputs**2, [count, len(images) // count, -1])
    return tf.reduce_mean(tf.reduce_sum(rows, axis=2), axis=1)

  with tf.GradientTape(persistent=True) as tape:
    base, outputs, sqr_norm = conv2d.conv2d_layer_computation(
      layer, (images,), {}, tape, num_microbatches
    )
    per_record = losses(outputs)
  fast = tf.sqrt(sqr_norm(tape.gradient(per_record, base)))
  jacobians = tape.jacobian(per_record, layer.trainable_variables, experimental_use_pfor=False)
  explicit = tf.sqrt(sum(tf.reduce_sum(tf.reshape(j, [count, -1]) ** 2, 1) for j in jacobians))
  np.testing.assert_allclose(outputs, layer(images), rtol=1e-6, atol=1e-6)
  return fast, explicit


@given(layers(), st.integers(0, 100), st.booleans())
@settings(max_examples=60, deadline=None)
def test_fast_norms_are_those_of_explicit_gradients(case, seed, microbatched):
  layer, shape = case
  images = tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)
  fast, explicit = norms(layer, images, 2 if microbatched else None)
  np.testing.assert_allclose(fast, explicit, rtol=1e-4)


@pytest.mark.parametrize("records", [31, 32, 33, 70])
def test_many_records_are_taken_a_few_at_once(records):
  layer = tf.keras.layers.Conv2D(3, 3, strides=2)
  layer.build([None, 6, 6, 2])
  images = tf.random.stateless_normal([records, 6, 6, 2], [0, 1])
  gradients = tf.random.stateless_normal([records, 2, 2, 3], [0, 2])

  def sqr_norms(images, gradients):
    with tf.GradientTape() as tape:
      _, _, sqr_norm = conv2d.conv2d_layer_computation(layer, (images,), {}, tape)
    return sqr_norm(gradients)

  singly = [sqr_norms(images[i : i + 1], gradients[i : i + 1])[0] for i in range(records)]
  np.testing.assert_allclose(sqr_norms(images, gradients), singly, rtol=1e-5)
  specs = [tf.TensorSpec([None, *t.shape[1:]]) for t in (images, gradients)]
  graph = tf.function(sqr_norms, specs, autograph=False)
  np.testing.assert_allclose(graph(images, gradients), singly, rtol=1e-5)


@pytest.mark.parametrize("filters", [2, 64])
def test_both_forms_are_used(filters, monkeypatch):
  """Many channels at few positions make the Gram matrices cheaper, and the other way round."""
  forms = []
  matmul = tf.matmul
  monkeypatch.setattr(tf, "matmul", lambda a, b, **how: forms.append(how) or matmul(a, b, **how))
  layer = tf.keras.layers.Conv2D(filters, 3, strides=2)
  norms(layer, tf.random.stateless_normal([3, 7, 7, filters], [0, 1]))
  gram = [{"transpose_b": True}] * 2
  assert forms == (gram if filters == 64 else [{"transpose_a": True}])


@pytest.mark.parametrize("option", [{"groups": 2}, {"data_format": "channels_first"}])
def test_what_it_cannot_do_is_refused(option):
  layer = tf.keras.layers.Conv2D(4, 3, **option)
  with pytest.raises(NotImplementedError, match="groups" if "groups" in option else "first"):
    conv2d.conv2d_layer_computation(layer, (tf.zeros([1, 8, 8, 4]),), {}, tf.GradientTape())
