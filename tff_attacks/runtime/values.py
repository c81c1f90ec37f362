"""TFF values of the in-process runtime, and their way in and out.

A tensor is an eager tensor; a struct is a list; a sequence is the variant tensor of a
`tf.data.Dataset`, on the CPU; T@SERVER is the member; T@CLIENTS is a list over the
clients, or `AllEqual`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import array
from tensorflow_federated.python.core.impl.types import type_conversions
from tensorflow_federated.python.core.impl.utils import tensorflow_utils

Value = Any


class AllEqual(NamedTuple):
  """A value that all clients share."""

  member: Value


def fields(type_spec: tff.StructType) -> list[tuple[str | None, tff.Type]]:
  """Names, None where there is none, and types of a struct's elements."""
  return structure.to_elements(type_spec)


def per_client(value: Value, num_clients: int) -> list[Value]:
  """A federated value at clients as a list."""
  return [value.member] * num_clients if isinstance(value, AllEqual) else value


def ingest(
  value: Any,
  type_spec: tff.Type,
  device: str | None,
  bind: Callable[[tff.framework.ConcreteComputation], Value] | None = None,
) -> Value:
  """Converts an argument of a computation.

  Args:
    value: What the caller gave: arrays, tensors, datasets, computations, structures of
      them.
    type_spec: Its TFF type.
    device: Where tensors are put.
    bind: Converts computations, where there can be any.

  Returns:
    The value.

  Raises:
    TypeError: If the value is not of that type.
  """
  if isinstance(type_spec, tff.FederatedType):
    if type_spec.all_equal:
      member = ingest(value, type_spec.member, device, bind)
      return member if type_spec.placement is tff.SERVER else AllEqual(member)
    if not isinstance(value, list | tuple):
      raise TypeError(f"Expected a list with an element for each client, found {type(value)}.")
    return [ingest(element, type_spec.member, device, bind) for element in value]
  if isinstance(type_spec, tff.StructType):
    parts = zip(_elements(value, type_spec), fields(type_spec), strict=True)
    return [ingest(element, t, device, bind) for element, (_, t) in parts]
  if isinstance(type_spec, tff.SequenceType):
    return _ingest_sequence(value, type_spec)
  if isinstance(type_spec, tff.TensorType):
    return _ingest_tensor(value, type_spec, device)
  if bind is not None and isinstance(value, tff.framework.ConcreteComputation):
    type_spec.check_assignable_from(value.type_signature)
    return bind(value)
  raise TypeError(f"Expected a computation of type {type_spec}, found {type(value)}.")


def _elements(value: Any, type_spec: tff.StructType) -> list[Any]:
  container = structure.from_container(value)
  names = [name for name, _ in fields(type_spec)]
  given = structure.name_list_with_nones(container)
  if len(given) != len(names) or any(g not in (n, None) for g, n in zip(given, names, strict=True)):
    raise TypeError(f"A value with the elements {given} is no {type_spec}.")
  return list(container)


def _ingest_tensor(value: Any, type_spec: tff.TensorType, device: str | None) -> tf.Tensor:
  dtype = type_spec.dtype.type
  if isinstance(value, tf.Variable):
    value = value.read_value()
  if not isinstance(value, tf.Tensor) or value.dtype != dtype:
    value = _as_array(value, dtype)
  if not tf.TensorShape(type_spec.shape).is_compatible_with(np.shape(value)):
    raise TypeError(f"Expected a tensor of shape {type_spec.shape}, found {np.shape(value)}.")
  with tf.device(device):
    return tf.convert_to_tensor(value, dtype)


def _as_array(value: Any, dtype: type[np.generic]) -> array.Array:
  """What TFF accepts for the dtype: values of its kind that lose nothing."""
  leaves = tf.nest.flatten(value) if isinstance(value, list | tuple) else [value]
  leaves = [leaf.numpy() if isinstance(leaf, tf.Tensor) else leaf for leaf in leaves]
  for leaf in leaves:
    if not (isinstance(leaf, array.Array) and array.is_compatible_dtype(leaf, dtype)):
      found = getattr(leaf, "dtype", type(leaf).__name__)
      raise TypeError(f"Expected a tensor of dtype {tf.as_dtype(dtype).name}, found {found}.")
  if not isinstance(value, list | tuple):
    return leaves[0]
  try:
    return np.asarray(value, dtype)
  except ValueError as error:
    raise TypeError(f"Expected a tensor, found a list of unequal lists: {error}") from error


def _ingest_sequence(value: Any, type_spec: tff.SequenceType) -> tf.Tensor:
  with tf.device("CPU:0"):
    if isinstance(value, list):
      value = tensorflow_utils.make_data_set_from_elements(None, value, type_spec.element)
    if not isinstance(value, tf.data.Dataset):
      raise TypeError(f"Expected a tf.data.Dataset or a list, found {type(value)}.")
    found = tff.SequenceType(tff.types.tensorflow_to_type(value.element_spec))
    if not type_spec.is_assignable_from(found):
      raise TypeError(f"Expected {type_spec}, found {found}.")
    return tf.data.experimental.to_variant(_in_order(value, type_spec.element))


def _in_order(dataset: tf.data.Dataset, element_type: tff.Type) -> tf.data.Dataset:
  """The dataset with components in the order of the type's containers.

  Those of a dict are sorted by name, those of a named tuple are not.
  """
  count = len(tf.nest.flatten(dataset.element_spec))
  numbered = tf.nest.pack_sequence_as(dataset.element_spec, range(count))
  converted = to_element(from_element(numbered, element_type), element_type)
  if tf.nest.flatten(converted) == list(range(count)):
    return dataset
  return map_elements(dataset, lambda e: to_element(from_element(e, element_type), element_type))


def map_elements(dataset: tf.data.Dataset, function: Callable[[Any], Any]) -> tf.data.Dataset:
  """Maps a dataset; unlike in `tf.data`, an element that is a tuple is one argument."""
  is_tuple = type(dataset.element_spec) is tuple
  return dataset.map(lambda *parts: function(parts if is_tuple else parts[0]))


def emit(
  value: Value, type_spec: tff.Type, convert: Callable[[tf.Tensor], Any], num_clients: int = 0
) -> Any:
  """Converts a result into what the caller gets.

  Args:
    value: The result.
    type_spec: Its TFF type, with the Python containers.
    convert: What becomes of a tensor.
    num_clients: How many clients there are.

  Raises:
    TypeError: If the result is a function.
  """
  emitted = _emit(value, type_spec, convert, num_clients)
  return type_conversions.type_to_py_container(emitted, type_spec)


def _emit(value, type_spec, convert, num_clients):
  if isinstance(type_spec, tff.FederatedType):
    if type_spec.placement is tff.SERVER:
      return _emit(value, type_spec.member, convert, num_clients)
    if type_spec.all_equal:
      return _emit(value.member, type_spec.member, convert, num_clients)
    members = per_client(value, num_clients)
    return [_emit(member, type_spec.member, convert, num_clients) for member in members]
  if isinstance(type_spec, tff.StructType):
    return structure.Struct(
      (name, _emit(element, t, convert, num_clients))
      for element, (name, t) in zip(value, fields(type_spec), strict=True)
    )
  if isinstance(type_spec, tff.SequenceType):
    return as_dataset(value, type_spec)
  if isinstance(type_spec, tff.TensorType):
    return convert(value)
  raise TypeError(f"A value of type {type_spec} cannot be a result.")


def as_dataset(variant: tf.Tensor, type_spec: tff.SequenceType) -> tf.data.Dataset:
  """A sequence as a dataset whose elements are those of the type."""
  with tf.device("CPU:0"):
    return tf.data.experimental.from_variant(variant, element_spec(type_spec.element))


def element_spec(type_spec: tff.Type) -> Any:
  """The `tf.data` element spec of a type of tensors and structs."""
  return type_conversions.type_to_tf_structure(type_spec)


def from_element(element: Any, type_spec: tff.Type) -> Value:
  """An element of a dataset as a value."""
  if not isinstance(type_spec, tff.StructType):
    return element
  if isinstance(element, Mapping):
    parts = [element[name] for name, _ in fields(type_spec)]
  else:
    parts = list(structure.from_container(element))
  return [from_element(p, t) for p, (_, t) in zip(parts, fields(type_spec), strict=True)]


def to_element(value: Value, type_spec: tff.Type) -> Any:
  """A value as an element of a dataset; the inverse of `from_element`."""
  if not isinstance(type_spec, tff.StructType):
    return value
  parts = [to_element(v, t) for v, (_, t) in zip(value, fields(type_spec), strict=True)]
  named = [(name, part) for (name, _), part in zip(fields(type_spec), parts, strict=True)]
  return type_conversions.type_to_py_container(structure.Struct(named), type_spec)


def flatten(value: Value) -> list[tf.Tensor]:
  """The tensors of a value of tensors, sequences and structs, in order; of None, none."""
  if value is None:
    return []
  if not isinstance(value, list):
    return [value]
  return [tensor for element in value for tensor in flatten(element)]


def packer(type_spec: tff.Type) -> Callable[[list[tf.Tensor]], Value]:
  """Returns the inverse of `flatten` for one type."""
  if not isinstance(type_spec, tff.StructType):
    return lambda tensors: tensors[0]
  if not any(isinstance(t, tff.StructType) for _, t in fields(type_spec)):
    return list
  parts = [(_count(t), packer(t)) for _, t in fields(type_spec)]

  def pack(tensors):
    value, start = [], 0
    for count, pack_part in parts:
      value.append(pack_part(tensors[start : start + count]))
      start += count
    return value

  return pack


def _count(type_spec: tff.Type) -> int:
  if isinstance(type_spec, tff.StructType):
    return sum(_count(t) for _, t in fields(type_spec))
  return 1
