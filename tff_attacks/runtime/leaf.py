"""One TensorFlow leaf of a TFF computation, as a function of eager tensors.

TFF serialises a `tff.tensorflow.computation` as a TensorFlow 1 graph, to be run in a
fresh session each time. Here the graph is imported once and cut into three functions:
make the resources (variables, tables), initialise them, run the body. Every call thus
has resources of its own, as every session has.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context as eager_context
from tensorflow.python.framework import op_def_registry
from tensorflow_federated.proto.v0 import computation_pb2
from tensorflow_federated.python.core.impl.utils import tensorflow_utils
from tensorflow_federated.python.tensorflow_libs import serialization_utils

# Ops that make a resource, and the forms of them that no other call can find by name.
_ANONYMOUS = {
  "HashTableV2": "AnonymousHashTable",
  "MutableHashTableV2": "AnonymousMutableHashTable",
  "MutableHashTableOfTensorsV2": "AnonymousMutableHashTableOfTensors",
  "MutableDenseHashTableV2": "AnonymousMutableDenseHashTable",
  "IteratorV2": "AnonymousIteratorV3",
}
_NAMING = ("shared_name", "container", "use_node_name_sharing")
_RESOURCES = ("VarHandleOp", *_ANONYMOUS.values())
# Calls of a leaf that go into one, if it has no more ops than this: then calls are what costs.
_TOGETHER = 16
_SMALL = 100
_CALL = "StatefulPartitionedCall"
_LOOPS = {"While", "StatelessWhile"}
_SESSIONS = itertools.count()
_IMPORTS = itertools.count()


class Leaf:
  """A leaf, imported: a function of the tensors of its parameter's type, in order.

  A sequence is a variant tensor.

  Attributes:
    groups: Whether `map` and `fold` put several calls into one: the leaf is small, without
      loops, state or random draws of its own.
  """

  def __init__(self, proto: computation_pb2.Computation, device: str | None):
    """Imports a leaf.

    Args:
      proto: It holds TensorFlow.
      device: Name of the device to run on; None leaves the choice to TensorFlow.
    """
    self._device = device
    body, parameters, self._takes_token = _as_body(proto)
    self._specs = [tf.TensorSpec(t.shape, t.dtype) for t in parameters]
    self._function = _compile(body, self._specs, device)
    self.groups = not self._takes_token and _is_small_and_stateless(proto)
    self._map: Any = None
    self._fold: Any = None

  def __call__(self, arguments: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Runs the leaf and returns the tensors of its result's type."""
    if self._takes_token:
      arguments = [*arguments, tf.constant(str(next(_SESSIONS)))]
    with tf.device(self._device):
      return self._function(*arguments) or []

  def map(self, members: Sequence[list[tf.Tensor]]) -> list[list[tf.Tensor]]:
    """Calls the leaf for as many of the members as fill groups."""
    grouped = self._grouped(members)
    if grouped and self._map is None:
      self._map = _compile(self._map_group, self._specs * _TOGETHER, self._device)
    results = []
    with tf.device(self._device):
      for group in grouped:
        flat = self._map(*itertools.chain.from_iterable(group)) or []
        results += _split(flat, _TOGETHER)
    return results

  def fold(
    self, accumulator: list[tf.Tensor], members: Sequence[list[tf.Tensor]]
  ) -> list[tf.Tensor]:
    """Applies a leaf of type (<U, T> -> U) to the members of T one after another."""
    grouped = self._grouped(members)
    if grouped and self._fold is None:
      size = len(accumulator)
      specs = [*self._specs[:size], *(self._specs[size:] * _TOGETHER)]
      self._fold = _compile(functools.partial(self._fold_group, size), specs, self._device)
    with tf.device(self._device):
      for group in grouped:
        accumulator = self._fold(*accumulator, *itertools.chain.from_iterable(group)) or []
    for member in members[len(grouped) * _TOGETHER :]:
      accumulator = self([*accumulator, *member])
    return accumulator

  def _grouped(self, members):
    count = len(members) // _TOGETHER if self.groups else 0
    return [members[i * _TOGETHER : (i + 1) * _TOGETHER] for i in range(count)]

  def _map_group(self, *arguments):
    return [tensor for member in _split(arguments, _TOGETHER) for tensor in self(member)]

  def _fold_group(self, size, *arguments):
    accumulator = list(arguments[:size])
    for member in _split(arguments[size:], _TOGETHER):
      accumulator = self([*accumulator, *member])
    return accumulator


def _split(flat: Sequence[tf.Tensor], count: int) -> list[list[tf.Tensor]]:
  size = len(flat) // count
  return [list(flat[i * size : (i + 1) * size]) for i in range(count)]


def _as_body(
  proto: computation_pb2.Computation,
) -> tuple[Callable[..., list[tf.Tensor]], list[tf.Tensor], bool]:
  """The leaf as a function that makes its resources anew, and its parameters.

  Whether the last of these is the session's token comes third: few leaves use theirs.
  """
  leaf = proto.tensorflow
  graph_def = serialization_utils.unpack_graph_def(leaf.graph_def)
  _isolate(graph_def)
  whole = tf.compat.v1.wrap_function(
    lambda: tf.graph_util.import_graph_def(graph_def, name=""), signature=[]
  )
  graph = whole.graph
  parameters = _tensors(graph, leaf.parameter)
  results = _tensors(graph, leaf.result)
  takes_token = False
  if leaf.session_token_tensor_name:
    token = graph.get_tensor_by_name(leaf.session_token_tensor_name)
    takes_token = bool(token.consumers()) or any(token is result for result in results)
    parameters += [token] * takes_token
  resources = [op.outputs[0] for op in graph.get_operations() if op.type in _RESOURCES]
  inputs = parameters + resources
  make = whole.prune(parameters, resources) if resources else lambda *_: []
  initialize = None
  if leaf.initialize_op:
    initialize = whole.prune(inputs, graph.get_operation_by_name(leaf.initialize_op))
  # A result may be a parameter, which `prune` would refuse, or stand there twice.
  known = {id(tensor) for tensor in inputs}
  computed = list({id(t): t for t in results if id(t) not in known}.values())
  run = whole.prune(inputs, computed)

  def body(*arguments):
    fed = [*arguments, *make(*arguments)]
    if initialize is not None:
      initialize(*fed)
    found = {id(t): value for t, value in zip(inputs, fed, strict=True)}
    found |= {id(t): value for t, value in zip(computed, run(*fed), strict=True)}
    return [found[id(t)] for t in results]

  return body, parameters, takes_token


def _compile(
  body: Callable[..., list[tf.Tensor]], specs: Sequence[tf.TensorSpec], device: str | None
) -> Callable[..., list[tf.Tensor] | None]:
  """Traces a function of flat tensors."""
  with tf.device(device):
    function = tf.function(
      body,
      autograph=False,
      input_signature=specs,
      # In a group, sums of several calls would else become one, in another order.
      experimental_attributes={"_noinline": True},
    )
    # What a call of the concrete function ends in, after 0.1 ms of checks that TFF's
    # types have made unnecessary.
    return function.get_concrete_function()._inference_function


def op_types(proto: computation_pb2.Computation) -> set[str]:
  """Types of all ops of a leaf, those in its functions included."""
  graph_def = serialization_utils.unpack_graph_def(proto.tensorflow.graph_def)
  return {node.op for node in _nodes(graph_def)}


def _is_small_and_stateless(proto: computation_pb2.Computation) -> bool:
  graph_def = serialization_utils.unpack_graph_def(proto.tensorflow.graph_def)
  library = {function.signature.name for function in graph_def.library.function}
  ops = [node.op for node in _nodes(graph_def)]
  if len(ops) > _SMALL or _LOOPS & set(ops):
    return False
  return not any(op_def_registry.get(op).is_stateful for op in set(ops) - library - {_CALL})


def _tensors(graph: tf.Graph, binding: computation_pb2.TensorFlow.Binding) -> list[tf.Tensor]:
  if binding.WhichOneof("binding") is None:
    return []
  names = tensorflow_utils.extract_tensor_names_from_binding(binding)
  return [graph.get_tensor_by_name(name) for name in names]


def _nodes(graph_def: tf.compat.v1.GraphDef) -> Iterator[tf.compat.v1.NodeDef]:
  yield from graph_def.node
  for function in graph_def.library.function:
    yield from function.node_def


def _isolate(graph_def: tf.compat.v1.GraphDef) -> None:
  """Renames, in place, whatever another leaf, or another call, could find by its name."""
  suffix = f"_leaf{next(_IMPORTS)}"
  renamed = {f.signature.name: f.signature.name + suffix for f in graph_def.library.function}
  for function in graph_def.library.function:
    function.signature.name = renamed[function.signature.name]
  for gradient in graph_def.library.gradient:
    gradient.function_name = renamed[gradient.function_name]
    gradient.gradient_func = renamed[gradient.gradient_func]
  for node in _nodes(graph_def):
    node.op = renamed.get(node.op, node.op)
    for value in node.attr.values():
      for function in (value.func, *value.list.func):
        if function.name in renamed:
          function.name = renamed[function.name]
    if node.op in _ANONYMOUS:
      node.op = _ANONYMOUS[node.op]
      for name in _NAMING:
        node.attr.pop(name, None)
    elif node.op == "VarHandleOp":
      # Under this name TensorFlow makes a new, reference-counted variable each time.
      node.attr["shared_name"].s = eager_context.anonymous_name().encode()
    elif "shared_name" in node.attr:
      node.attr["shared_name"].s += (node.name + suffix).encode()
