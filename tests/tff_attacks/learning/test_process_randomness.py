"""All randomness of the process comes from its seeds, and none is used twice."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tests import tiny
from tests.tff_attacks.learning.test_process import CLIENTS, build, run, start
from tff_attacks.learning import aggregation, local_training, process
from tff_attacks.privacy import clients as clients_privacy
from tff_attacks.privacy import microbatches, records
from tff_attacks.runtime import in_process

STATEFUL = {"RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt",
            "RandomShuffle", "Multinomial", "StatefulUniform", "StatefulStandardNormalV2",
            "RandomGamma", "RngReadAndSkip"}  # fmt: skip
LOSSES = local_training.per_example_cross_entropy(from_logits=True)
PRIVATE = {
  "nothing": (local_training.plain_gradient(tiny.LOSS_FN), None),
  "records": (records.gradient(LOSSES, 1.0, 1.0), None),
  "microbatches": (microbatches.gradient(LOSSES, 1.0, 1.0, 2), None),
  "clients": (local_training.plain_gradient(tiny.LOSS_FN), clients_privacy.fixed_clipping),
  "adaptive": (local_training.plain_gradient(tiny.LOSS_FN), clients_privacy.adaptive_clipping),
}


@pytest.mark.parametrize("private", PRIVATE)
def test_no_leaf_draws_unseeded_randomness(private):
  """Every random op of the compiled process takes its seed as an input."""
  gradient, noisy_mean = PRIVATE[private]
  aggregator = aggregation.build_aggregator("mean")
  if noisy_mean:
    aggregator = tff.aggregators.as_weighted_aggregator(noisy_mean(1.0, 0.1, CLIENTS))
  federation = process.build_federation(
    lambda: tiny.global_model(dropout=0.3),
    local_training.local_training(tff.learning.optimizers.build_sgdm(0.1), gradient, 4),
    tiny.attack(),
    aggregator,
  )
  ops = leaf_ops(federation.process.next)
  assert any(op.startswith("Stateless") for op in ops)
  assert ops & STATEFUL == set()


def leaf_ops(computation):
  """The op types that a computation's TensorFlow leaves execute, library functions included."""
  found = set()
  for leaf in messages(tff.framework.serialize_computation(computation)):
    if leaf.DESCRIPTOR.name != "TensorFlow":
      continue
    graph = tf.compat.v1.GraphDef()
    leaf.graph_def.Unpack(graph)
    outputs = {message.tensor_name.split(":")[0] for message in messages(leaf.result)
               if message.DESCRIPTOR.name == "TensorBinding"}  # fmt: skip
    live = tf.compat.v1.graph_util.extract_sub_graph(graph, sorted(outputs))
    found |= executed_ops(live.node, {f.signature.name: f.node_def for f in live.library.function})
  return found


def executed_ops(nodes, functions):
  """Op types of nodes and of the functions that they call; Keras leaves others behind."""
  ops = {node.op for node in nodes}
  called = {
    name
    for node in nodes
    for attribute in node.attr.values()
    for name in (attribute.func.name, *(f.name for f in attribute.list.func))
  }
  for name in (called | ops) & functions.keys():
    ops |= executed_ops(functions[name], functions)
  return ops


def messages(message):
  """A protocol buffer and all that it contains."""
  yield message
  for field, value in message.ListFields():
    if field.message_type is not None:
      for child in value if field.label == field.LABEL_REPEATED else [value]:
        yield from messages(child)


def test_the_search_for_unseeded_randomness_finds_it():
  draw = tf.function(lambda: tf.cond(tf.constant(True), lambda: tf.random.uniform([]), lambda: 0.0))
  leaf = tff.tensorflow.computation(lambda: draw())
  assert leaf_ops(leaf) & STATEFUL == {"RandomUniform"}


def test_randomness_repeats_over_no_batch_epoch_round_or_client():
  """Whatever repeats would make the sum larger, by a factor of 1.41 or more."""

  def noise(model, batch, seed):
    del batch
    return 0.0, [tf.random.stateless_normal(v.shape, seed) for v in model.trainable_variables]

  epochs, batches, rounds = 2, 2, 2
  training = local_training.local_training(
    tff.learning.optimizers.build_sgdm(1.0), noise, tiny.BATCH_SIZE, epochs
  )
  federation = build(training=training)
  data = [tiny.images(i, batches * tiny.BATCH_SIZE) for i in range(CLIENTS)]
  with in_process.in_process():
    server, clients = start(federation)
    after, _ = run(federation, server, clients, data, rounds)
  parts = zip(after.weights.trainable, server.weights.trainable, strict=True)
  change = np.concatenate([np.ravel(a - b) for a, b in parts])
  expected = np.sqrt(epochs * batches * rounds / CLIENTS)
  assert change.std() == pytest.approx(expected, rel=0.2)
