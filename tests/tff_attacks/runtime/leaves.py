"""A leaf of a TensorFlow computation."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.runtime import leaf

INT, FLOAT = np.int32, np.float32


VECTOR = tff.TensorType(FLOAT, [None])


def leaf_of(function, *types, device=None):
  computation = tff.tensorflow.computation(function, *types)
  return leaf.Leaf(tff.framework.ConcreteComputation.get_proto(computation), device)


def run(made, *arguments):
  return [result.numpy() for result in made([tf.constant(a) for a in arguments])]
