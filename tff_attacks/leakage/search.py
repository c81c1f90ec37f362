"""Optimisers of reconstructions: they show how far they are, and Ctrl-C keeps the best so far."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize

Watch = Callable[[int, float, list[np.ndarray]], None]
"""(step, its loss, the best values so far), called after every step."""


class Found(NamedTuple):
  """The end of a search.

  Attributes:
    values: The values with the lowest loss.
    losses: float32 `[steps]`, of the steps taken.
  """

  values: list[np.ndarray]
  losses: np.ndarray


def unwatched(step: int, loss: float, values: list[np.ndarray]) -> None:
  """A `Watch` that does nothing."""
  del step, loss, values


class _Best:
  """The values with the lowest loss, kept through an interruption."""

  def __init__(self, values, watch: Watch):
    self.values = [np.asarray(value) for value in values]
    self.losses = []
    self._lowest = np.inf
    self._watch = watch

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    return kind is KeyboardInterrupt

  def see(self, loss: float, values) -> None:
    self.losses.append(loss)
    if loss < self._lowest:
      self._lowest, self.values = loss, [np.array(value) for value in values]
    self._watch(len(self.losses), loss, self.values)

  def found(self) -> Found:
    if not np.isfinite(self._lowest):
      raise ValueError("search: the loss was finite in no step")
    return Found(self.values, np.array(self.losses, np.float32))


def lbfgs(
  loss_fn: Callable[[list[tf.Tensor]], tf.Tensor],
  start: Sequence[np.ndarray],
  steps: int,
  watch: Watch = unwatched,
) -> Found:
  """Minimises by SciPy's L-BFGS-B without bounds.

  Args:
    loss_fn: (values) -> loss.
    start: Where to start.
    steps: Iterations at most.
    watch: Told every iteration.
  """
  shapes = [np.shape(value) for value in start]
  sizes = [int(np.prod(shape)) for shape in shapes]

  def unpack(vector):
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

  evaluated = {}  # Losses of this iteration by vector; SciPy does not tell the one it took.

  @tf.function
  def value_and_gradient(values):
    with tf.GradientTape() as tape:
      tape.watch(values)
      loss = loss_fn(values)
    return loss, tape.gradient(loss, values)

  def objective(vector):
    values = [tf.constant(value, tf.float32) for value in unpack(vector)]
    loss, gradient = value_and_gradient(values)
    evaluated[vector.tobytes()] = float(loss)
    flat = np.concatenate([np.ravel(part) for part in gradient])
    return float(loss), flat.astype(np.float64)

  def on_iteration(vector):
    best.see(evaluated[vector.tobytes()], unpack(vector))
    evaluated.clear()

  with _Best(start, watch) as best:
    optimize.minimize(
      objective,
      np.concatenate([np.ravel(value) for value in start]).astype(np.float64),
      jac=True,
      method="L-BFGS-B",
      callback=on_iteration,
      # It stops at `steps`, not at a small gradient: those are what it is after.
      options={"maxiter": steps, "maxfun": 20 * steps, "maxcor": 100, "ftol": 0, "gtol": 0},
    )
  return best.found()


def three_drops(
  learning_rate: float, steps: int
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
  """A tenth of the learning rate from 3/8, 5/8 and 7/8 of the steps on."""
  return tf.keras.optimizers.schedules.PiecewiseConstantDecay(
    [steps * eighths // 8 for eighths in (3, 5, 7)],
    [learning_rate * 0.1**passed for passed in range(4)],
  )


def adam(
  loss_fn: Callable[[list[tf.Tensor]], tf.Tensor],
  start: Sequence[np.ndarray],
  steps: int,
  learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule,
  signed: Sequence[bool],
  box: float | None = 1.0,
  watch: Watch = unwatched,
) -> Found:
  """Minimises by Adam.

  Args:
    loss_fn: (values) -> loss.
    start: Where to start.
    steps: Steps.
    learning_rate: Of Adam; see also `three_drops`.
    signed: Which values are moved by the signs of their gradients alone; those are images.
    box: Images stay within [-box, box]; None lets them leave.
    watch: Told every step.
  """
  start = [
    np.clip(value, -box, box) if sign and box is not None else value
    for value, sign in zip(start, signed, strict=True)
  ]
  variables = [tf.Variable(value, dtype=tf.float32) for value in start]
  optimizer = tf.keras.optimizers.legacy.Adam(learning_rate)

  @tf.function
  def step():
    with tf.GradientTape() as tape:
      loss = loss_fn([variable.read_value() for variable in variables])
    gradients = tape.gradient(loss, variables)
    gradients = [
      tf.sign(gradient) if sign else gradient
      for gradient, sign in zip(gradients, signed, strict=True)
    ]
    before = [variable.read_value() for variable in variables]
    with tf.control_dependencies(before):
      optimizer.apply_gradients(zip(gradients, variables, strict=True))
      if box is not None:
        for variable, sign in zip(variables, signed, strict=True):
          if sign:
            variable.assign(tf.clip_by_value(variable, -box, box))
    return loss, before

  with _Best(start, watch) as best:
    for _ in range(steps):
      loss, before = step()
      best.see(float(loss), before)
  return best.found()
