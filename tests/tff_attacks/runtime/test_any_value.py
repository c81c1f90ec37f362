"""Any types and any values go through both runtimes alike."""

import collections

import hypothesis
import numpy as np
import tensorflow_federated as tff
from hypothesis import strategies as st

from tests.tff_attacks.runtime.computations import (
  FLOAT,
  FLOATS,
  INT,
  Unsorted,
  at_clients,
  check_agrees,
  identity,
  same,
)

SCALARS = {
  np.int32: st.integers(-(2**31), 2**31 - 1).map(np.int32),
  np.uint8: st.integers(0, 255).map(np.uint8),
  np.float32: st.floats(width=32).map(np.float32),
  np.float16: st.floats(width=16).map(np.float16),
  np.complex64: st.complex_numbers(width=64).map(np.complex64),
  np.bool_: st.booleans().map(np.bool_),
  np.str_: st.binary(max_size=4),
}


@st.composite
def tensors(draw):
  dtype = draw(st.sampled_from(list(SCALARS)))
  shape = draw(st.lists(st.integers(0, 2), max_size=2))
  value = [draw(SCALARS[dtype]) for _ in range(int(np.prod(shape)))]
  if not shape:
    return dtype, value[0]
  unknown = [draw(st.booleans()) for _ in shape]
  spec = [None if u else size for u, size in zip(unknown, shape, strict=True)]
  array = np.array(value, object if dtype is np.str_ else dtype).reshape(shape)
  return tff.TensorType(dtype, spec), array


def structs(inner):
  unnamed = st.lists(inner, max_size=3).map(
    lambda parts: (tuple(t for t, _ in parts), tuple(v for _, v in parts))
  )
  named = st.dictionaries(st.sampled_from("abcd"), inner, min_size=1, max_size=3).map(
    lambda parts: (
      collections.OrderedDict((k, t) for k, (t, _) in parts.items()),
      collections.OrderedDict((k, v) for k, (_, v) in parts.items()),
    )
  )
  pairs = st.tuples(inner, inner).map(
    lambda parts: tuple(Unsorted(*part) for part in zip(*parts, strict=True))
  )
  return unnamed | named | pairs


nested = st.recursive(tensors(), structs, max_leaves=5)
few_examples = hypothesis.settings(
  max_examples=20,
  deadline=None,
  derandomize=True,
  database=None,
  suppress_health_check=list(hypothesis.HealthCheck),
)


@few_examples
@hypothesis.given(nested)
def test_any_value_passes_unchanged(tff_worker, context, typed):
  type_spec, value = typed
  check_agrees(context, same(type_spec)(), [value])
  check_agrees(context, identity(tff.to_type([type_spec]))(), [[value]])


@few_examples
@hypothesis.given(st.lists(st.floats(-1e3, 1e3, width=32), max_size=70))
def test_any_number_of_clients(tff_worker, context, values):
  check_agrees(context, TOTALS, [[FLOAT(v) for v in values]])


@tff.federated_computation(FLOATS)
def TOTALS(values):  # noqa: N802 (a constant)
  return tff.federated_sum(values), tff.federated_mean(values), tff.federated_max(values)


@few_examples
@hypothesis.given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=5))
def test_any_sequences(tff_worker, context, data):
  check_agrees(context, COUNTS, [data])


@tff.federated_computation(at_clients(tff.SequenceType(INT)))
def COUNTS(data):  # noqa: N802 (a constant)
  count = tff.tensorflow.computation(
    lambda d: d.reduce((0, 0), lambda s, x: (s[0] + 1, s[1] * 10 + x)), tff.SequenceType(INT)
  )
  return tff.federated_map(count, data), tff.federated_sum(tff.federated_map(count, data))
