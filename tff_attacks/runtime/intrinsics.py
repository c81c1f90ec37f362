"""TFF's intrinsics on the values of the in-process runtime.

Those that TFF itself can express by others (sums, means, generic arithmetic) are
replaced before a computation gets here. Sums run over the clients in their order, as
in the stock runtime, so that roundings agree.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_attacks.runtime import values
from tff_attacks.runtime.leaf import Leaf
from tff_attacks.runtime.values import AllEqual, Value


class Function(NamedTuple):
  """A function at run time.

  Attributes:
    call: Argument (None if there is none) -> result.
    block: The building block that it came from.
    leaf: The TensorFlow leaf that it is, None if it is something else.
  """

  call: Callable[[Value], Value]
  block: Any
  leaf: Leaf | None = None


class Clients(NamedTuple):
  """The clients of one invocation.

  Attributes:
    number: How many there are.
    map: (function, arguments) -> results, one for each client; in which order the
      clients run is its own choice.
  """

  number: int
  map: Callable[[Function, Sequence[Value]], list[Value]]


def _apply(type_spec, clients, argument):
  del type_spec, clients
  function, value = argument
  return function.call(value)


def _map(type_spec, clients, argument):
  del type_spec
  function, value = argument
  return clients.map(function, values.per_client(value, clients.number))


def _map_all_equal(type_spec, clients, argument):
  del type_spec, clients
  function, value = argument
  return AllEqual(function.call(value.member))


def _eval_at_server(type_spec, clients, function):
  del type_spec, clients
  return function.call(None)


def _eval_at_clients(type_spec, clients, function):
  del type_spec
  return clients.map(function, [None] * clients.number)


def _at_server(type_spec, clients, value):
  del type_spec, clients
  return value


def _at_clients(type_spec, clients, value):
  del type_spec, clients
  return AllEqual(value)


def _aggregate(type_spec, clients, argument):
  value, accumulator, accumulate, _, report = argument
  members = values.per_client(value, clients.number)
  if accumulate.leaf is not None:
    pack = values.packer(type_spec.parameter[1])
    flat = [values.flatten(member) for member in members]
    accumulator = pack(accumulate.leaf.fold(values.flatten(accumulator), flat))
  else:
    for member in members:
      accumulator = accumulate.call([accumulator, member])
  return report.call(accumulator)


def _zip_at_clients(type_spec, clients, argument):
  leaves = _federated_leaves(argument, type_spec.parameter)
  if all(isinstance(leaf, AllEqual) for leaf in leaves):
    return AllEqual(_rebuild(type_spec.parameter, iter([leaf.member for leaf in leaves])))
  lists = [values.per_client(leaf, clients.number) for leaf in leaves]
  return [_rebuild(type_spec.parameter, iter(members)) for members in zip(*lists, strict=True)]


def _federated_leaves(value, type_spec):
  if isinstance(type_spec, tff.FederatedType):
    return [value]
  parts = zip(value, values.fields(type_spec), strict=True)
  return [leaf for part, (_, t) in parts for leaf in _federated_leaves(part, t)]


def _rebuild(type_spec, leaves):
  if isinstance(type_spec, tff.FederatedType):
    return next(leaves)
  return [_rebuild(t, leaves) for _, t in values.fields(type_spec)]


def _select(type_spec, clients, argument):
  keys, max_key, state, select = argument
  element_type = type_spec.result.member.element
  limit = int(max_key)

  def selected(client_keys):
    client_keys = tf.unstack(client_keys)
    for key in client_keys:
      if not 0 <= int(key) < limit:
        raise ValueError(f"federated_select: the key {int(key)} is not in [0, {limit}).")
    return _sequence([select.call([state, key]) for key in client_keys], element_type)

  return [selected(client_keys) for client_keys in values.per_client(keys, clients.number)]


def _sequence(elements, element_type):
  with tf.device("CPU:0"):
    signature = values.element_spec(element_type)
    dataset = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=signature)
    if elements:
      elements = [values.to_element(element, element_type) for element in elements]
      datasets = [tf.data.Dataset.from_tensors(element) for element in elements]
      dataset = functools.reduce(tf.data.Dataset.concatenate, datasets)
    return tf.data.experimental.to_variant(dataset)


def _sequence_map(type_spec, clients, argument):
  del clients
  function, sequence = argument
  source = type_spec.parameter[1]

  def apply(element):
    result = function.call(values.from_element(element, source.element))
    return values.to_element(result, type_spec.result.element)

  with tf.device("CPU:0"):
    mapped = values.map_elements(values.as_dataset(sequence, source), apply)
    return tf.data.experimental.to_variant(mapped)


def _sequence_reduce(type_spec, clients, argument):
  del clients
  sequence, accumulator, reduce = argument
  source = type_spec.parameter[0]
  for element in values.as_dataset(sequence, source):
    accumulator = reduce.call([accumulator, values.from_element(element, source.element)])
  return accumulator


INTRINSICS: dict[str, Callable[[tff.FunctionType, Clients, Value], Value]] = {
  "federated_aggregate": _aggregate,
  "federated_apply": _apply,
  "federated_broadcast": _at_clients,
  "federated_eval_at_clients": _eval_at_clients,
  "federated_eval_at_server": _eval_at_server,
  "federated_map": _map,
  "federated_map_all_equal": _map_all_equal,
  "federated_select": _select,
  "federated_value_at_clients": _at_clients,
  "federated_value_at_server": _at_server,
  "federated_zip_at_clients": _zip_at_clients,
  "federated_zip_at_server": _at_server,
  "sequence_map": _sequence_map,
  "sequence_reduce": _sequence_reduce,
}
"""uri -> (type of the intrinsic, clients, argument) -> result."""
