"""`tff.learning` in this process and in the worker: the same weights."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.runtime import in_process

FEATURES, CLASSES, ROUNDS = 6, 3, 4
SPEC = collections.OrderedDict(
  x=tf.TensorSpec([None, FEATURES], tf.float32), y=tf.TensorSpec([None, 1], tf.int32)
)
ITERATOR = tff.learning.LoopImplementation.DATASET_ITERATOR
REDUCE = tff.learning.LoopImplementation.DATASET_REDUCE
algorithms, optimizers = tff.learning.algorithms, tff.learning.optimizers
sgd = optimizers.build_sgdm(0.1)


def keras_model():
  layers = tf.keras.layers
  model = tf.keras.Sequential(
    [
      layers.Input([FEATURES]),
      layers.Dense(8, "tanh", kernel_initializer=tf.keras.initializers.GlorotUniform(1)),
      layers.BatchNormalization(),
      layers.Dense(CLASSES, kernel_initializer=tf.keras.initializers.GlorotUniform(2)),
    ]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    input_spec=SPEC,
    metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
  )


def functional_model():
  @tf.function
  def predict(weights, x, training):
    del training
    return tf.linalg.matmul(x, weights[0][0]) + weights[0][1]

  @tf.function
  def loss(output, label, sample_weight=None):
    return tf.reduce_mean(
      tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(label, [-1]), output)
    )

  weights = (np.full([FEATURES, CLASSES], 0.1, np.float32), np.zeros([CLASSES], np.float32))
  return tff.learning.models.FunctionalModel(
    initial_weights=(weights, ()),
    predict_on_batch_fn=predict,
    loss_fn=loss,
    input_spec=SPEC,
  )


def client_data(seed):
  rng = np.random.default_rng(seed)
  count = 10 + seed
  data = collections.OrderedDict(
    x=rng.normal(size=[count, FEATURES]).astype(np.float32),
    y=rng.integers(0, CLASSES, [count, 1]).astype(np.int32),
  )
  return tf.data.Dataset.from_tensor_slices(data).batch(4)


def fed_avg(model=keras_model, client=sgd, **options):
  return algorithms.build_weighted_fed_avg(model, client, **options)


def dp():
  """Without noise, which has no seed."""
  return algorithms.build_unweighted_fed_avg(
    keras_model,
    sgd,
    model_aggregator=tff.learning.dp_aggregator(noise_multiplier=0.0, clients_per_round=3),
    loop_implementation=ITERATOR,
  )


CASES = {
  "iterator": lambda: fed_avg(loop_implementation=ITERATOR),
  "reduce": lambda: fed_avg(loop_implementation=REDUCE),
  "functional, Adam": lambda: fed_avg(
    functional_model(), optimizers.build_adam(0.01), loop_implementation=ITERATOR
  ),
  "Adam at the server": lambda: fed_avg(
    server_optimizer_fn=optimizers.build_adam(0.1), loop_implementation=ITERATOR
  ),
  "differential privacy": dp,
  "robust": lambda: fed_avg(
    model_aggregator=tff.learning.robust_aggregator(), loop_implementation=ITERATOR
  ),
  "compression": lambda: fed_avg(
    model_aggregator=tff.learning.compression_aggregator(), loop_implementation=ITERATOR
  ),
  "FedProx": lambda: algorithms.build_weighted_fed_prox(
    keras_model, 0.1, sgd, loop_implementation=ITERATOR
  ),
  "Mime": lambda: algorithms.build_weighted_mime_lite(
    keras_model, optimizers.build_sgdm(0.1, 0.9), loop_implementation=ITERATOR
  ),
  "FedSGD": lambda: algorithms.build_fed_sgd(keras_model, loop_implementation=ITERATOR),
}
SLOW = {"Adam at the server", "robust", "FedProx", "Mime", "FedSGD"}


def flat(weights):
  return np.concatenate([np.ravel(w) for w in tf.nest.flatten(weights)])


def run(process, state):
  losses = []
  for round_number in range(ROUNDS):
    clients = [client_data(3 * round_number % 5 + i) for i in range(3)]
    output = process.next(state, clients)
    state = output.state
    losses.append(output.metrics["client_work"].get("train"))
  weights = process.get_model_weights(state)
  return flat([weights.trainable, weights.non_trainable]), losses


@pytest.mark.parametrize(
  "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CASES]
)
def test_weights_agree_with_the_worker(tff_worker, name):
  process = CASES[name]()
  state = process.initialize()
  before = process.get_model_weights(state)
  expected, expected_losses = run(process, state)
  with in_process.in_process():
    found, losses = run(process, state)
  assert np.abs(expected - flat([before.trainable, before.non_trainable])).max() > 1e-3
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  for f, e in zip(tf.nest.flatten(losses), tf.nest.flatten(expected_losses), strict=True):
    np.testing.assert_allclose(f, e, rtol=1e-5)


def test_initial_states_agree(tff_worker):
  process = CASES["iterator"]()
  expected = process.initialize()
  with in_process.in_process():
    found = process.initialize()
  tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_secure_aggregation_in_the_clear(tff_worker):
  """The worker runs what `tff.backends.test` makes of the computation."""
  process = fed_avg(
    model_aggregator=tff.learning.secure_aggregator(zeroing=False, clipping=False),
    loop_implementation=ITERATOR,
  )
  plain = tff.backends.test.replace_secure_intrinsics_with_bodies(process.next)
  initial = found = expected = process.initialize()
  rounds = [[client_data(start + i) for i in range(3)] for start in range(ROUNDS)]
  for clients in rounds:
    expected = plain(expected, clients)["state"]
  with in_process.in_process(insecure_aggregation=True):
    for clients in rounds:
      found = process.next(found, clients).state
  with in_process.in_process(), pytest.raises(NotImplementedError, match="federated_secure"):
    process.next(initial, rounds[0])
  expected = expected["global_model_weights"]
  for part in ("trainable", "non_trainable"):
    values = flat(getattr(found.global_model_weights, part))
    np.testing.assert_allclose(values, flat(expected[part]), rtol=1e-5, atol=1e-6)


def test_evaluation_agrees(tff_worker):
  process = algorithms.build_fed_eval(keras_model)
  state = process.initialize()
  data = [client_data(i) for i in range(3)]
  expected = process.next(state, data).metrics
  with in_process.in_process():
    found = process.next(state, data).metrics
  for f, e in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(f, e, rtol=1e-5)
