"""Binds a compiled TFF computation to Python: building blocks become closures.

A closure takes an environment, a dict from the names in scope to values, and returns
the value of its block; a function is a `Function`. Every leaf is imported once, when
it is bound.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow_federated.python.core.impl.compiler import building_blocks as blocks

from tff_attacks.runtime import intrinsics, values
from tff_attacks.runtime.intrinsics import Function
from tff_attacks.runtime.leaf import Leaf
from tff_attacks.runtime.values import Value

Environment = dict[str, Value]
Closure = Callable[[Environment], Value]


class Leaves(NamedTuple):
  """How leaves run.

  Attributes:
    tensorflow: Imports the `Computation` proto of a leaf.
    device: Where literals are put.
  """

  tensorflow: Callable[[Any], Leaf]
  device: str | None


CLIENTS = "@clients"
"""The name, which no block can have, of the invocation's `Clients`."""


def bind(block: blocks.ComputationBuildingBlock, leaves: Leaves) -> Closure:
  """Binds a block and all blocks in it.

  Args:
    block: A building block, compiled to call-dominant form.
    leaves: How leaves run.

  Returns:
    The closure.

  Raises:
    NotImplementedError: If the block, or one in it, is of a kind that is not covered.
  """

  def bind_inner(inner):
    return bind(inner, leaves)

  match block:
    case blocks.Reference():
      name = block.name
      return lambda environment: environment[name]
    case blocks.Selection():
      source = bind_inner(block.source)
      index = block.index
      if index is None:
        names = [name for name, _ in values.fields(block.source.type_signature)]
        index = names.index(block.name)
      return lambda environment: source(environment)[index]
    case blocks.Struct():
      elements = [bind_inner(element) for element in block]
      return lambda environment: [element(environment) for element in elements]
    case blocks.Call():
      function = bind_inner(block.function)
      if block.argument is None:
        return lambda environment: function(environment).call(None)
      argument = bind_inner(block.argument)
      return lambda environment: function(environment).call(argument(environment))
    case blocks.Block():
      locals_ = [(name, bind_inner(value)) for name, value in block.locals]
      result = bind_inner(block.result)

      def run_block(environment):
        environment = dict(environment)
        for name, value in locals_:
          environment[name] = value(environment)
        return result(environment)

      return run_block
    case blocks.Lambda():
      name, result = block.parameter_name, bind_inner(block.result)

      def close(environment):
        return Function(lambda argument: result({**environment, name: argument}), block)

      return close
    case blocks.Literal():
      with tf.device(leaves.device):
        literal = tf.constant(block.value, block.type_signature.dtype.type)
      return lambda environment: literal
    case blocks.Intrinsic():
      if block.uri not in intrinsics.INTRINSICS:
        raise NotImplementedError(
          f"The in-process runtime does not cover the intrinsic {block.uri}."
        )
      run = functools.partial(intrinsics.INTRINSICS[block.uri], block.type_signature)
      return lambda environment: Function(functools.partial(run, environment[CLIENTS]), block)
    case blocks.CompiledComputation():
      function = _bind_leaf(block, leaves)
      return lambda environment: function
    case _:
      raise NotImplementedError(f"The in-process runtime does not cover {type(block).__name__}.")


def _bind_leaf(block, leaves):
  kind = block.proto.WhichOneof("computation")
  if kind != "tensorflow":
    raise NotImplementedError(
      f"The in-process runtime runs TensorFlow, and cannot run the {kind} computation of type "
      f"{block.type_signature}."
    )
  leaf = leaves.tensorflow(block.proto)
  pack = values.packer(block.type_signature.result)
  return Function(lambda argument: pack(leaf(values.flatten(argument))), block, leaf)
