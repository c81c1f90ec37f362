"""Optimisers of reconstructions: they show how far they are, and can be stopped at their best."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cma
import numpy as np
import tensorflow as tf
from scipy import optimize

from tff_attacks.leakage.leakage import UnusableError


class Stop(Exception):  # noqa: N818 (As `StopIteration`: it is no error.)
  """Raised by a `Watch`: the search ends with its best so far."""


Watch = Callable[[int, float, Callable[[], np.ndarray]], None]
"""(step, its loss, what returns the best images so far), called after every step. May `Stop` it."""

Show = Callable[[list[np.ndarray]], np.ndarray]
"""Values that are searched for -> the images that they stand for."""

Box = tuple[Any, Any]
"""The lowest and the highest values, numbers or arrays that broadcast."""


class Found(NamedTuple):
  """The end of a search.

  Attributes:
    values: The values with the lowest loss.
    losses: float32 `[steps]`, of the steps taken.
  """

  values: list[np.ndarray]
  losses: np.ndarray


def unwatched(step: int, loss: float, images: Callable[[], np.ndarray]) -> None:
  """A `Watch` that does nothing."""
  del step, loss, images


def themselves(values: list[np.ndarray]) -> np.ndarray:
  """The `Show` of a search whose first values are the images."""
  return values[0]


class _Best:
  """The values with the lowest loss, kept when the search is stopped."""

  def __init__(self, values: Sequence[np.ndarray], watch: Watch, show: Show):
    self.values = [np.asarray(value) for value in values]
    self.losses: list[float] = []
    self.lowest = np.inf
    self._watch = watch
    self._show = show

  def __enter__(self):
    return self

  def __exit__(self, kind, error, trace):
    return kind is Stop

  def see(self, loss: float, values: Sequence[np.ndarray | tf.Tensor]) -> None:
    self.losses.append(loss)
    if loss < self.lowest:
      self.lowest, self.values = loss, [np.array(value) for value in values]
    self._watch(len(self.losses), loss, lambda: self._show(self.values))

  def found(self) -> Found:
    if not np.isfinite(self.lowest):
      raise UnusableError("search: it took no step with a finite loss")
    return Found(self.values, np.array(self.losses, np.float32))


def lbfgs(
  loss_fn: Callable[[list[tf.Tensor]], tf.Tensor],
  start: Sequence[np.ndarray],
  steps: int,
  watch: Watch = unwatched,
) -> Found:
  """Minimises by SciPy's L-BFGS-B without bounds.

  It ends where it finds no lower loss, which on the kinks of rectifiers comes early: it then begins
  anew from the best, until that brings nothing, or all steps are taken.

  Args:
    loss_fn: (values) -> loss.
    start: Where to start.
    steps: Iterations at most.
    watch: Told every iteration.

  Raises:
    UnusableError: If no step had a finite loss.
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

  with _Best(start, watch, themselves) as best:
    before = None
    while (left := steps - len(best.losses)) and best.lowest != before:
      before = best.lowest
      optimize.minimize(
        objective,
        np.concatenate([np.ravel(value) for value in best.values]).astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=on_iteration,
        # It stops at `steps`, not at a small gradient: those are what it is after.
        options={"maxiter": left, "maxfun": 20 * left, "maxcor": 100, "ftol": 0, "gtol": 0},
      )
  return best.found()


def three_drops(
  learning_rate: float, steps: int
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
  """The learning rate, divided by 10 after 3/8, 5/8 and 7/8 of the steps."""
  return tf.keras.optimizers.schedules.PiecewiseConstantDecay(
    [steps * eighths // 8 for eighths in (3, 5, 7)],
    [learning_rate * 0.1**passed for passed in range(4)],
  )


class Descent:
  """Minimises step by step. What it compiles serves later searches of the same shapes, too."""

  def __init__(
    self,
    loss_fn: Callable[[list[tf.Tensor], Any], tf.Tensor],
    optimizer: tf.keras.optimizers.legacy.Optimizer,
    signed: bool = False,
    box: Box | None = None,
  ):
    """Takes what all searches have in common.

    Args:
      loss_fn: (values, what is given) -> loss.
      optimizer: A new one, whose state is zeros at first.
      signed: Whether the first value is moved by the signs of its gradient alone.
      box: What the first value stays within; None lets it leave.
    """
    self._loss_fn = loss_fn
    self._optimizer = optimizer
    self._signed = signed
    self._box = box
    self._variables: list[tf.Variable] = []
    self._compiled = tf.function(self._step)

  def __call__(
    self,
    start: Sequence[np.ndarray],
    steps: int,
    given: Any = (),
    watch: Watch = unwatched,
    show: Show = themselves,
  ) -> Found:
    """Searches; ends early at a loss that is not finite.

    Args:
      start: Where to start; of the same shapes in every search.
      steps: Steps.
      given: Structure of tensors, for the loss.
      watch: Told every step.
      show: What it is shown.

    Raises:
      UnusableError: If no step had a finite loss.
    """
    if self._box is not None:
      start = [np.clip(start[0], *self._box), *start[1:]]
    if not self._variables:
      self._variables = [tf.Variable(value, dtype=tf.float32) for value in start]
    for variable, value in zip(self._variables, start, strict=True):
      variable.assign(tf.cast(value, tf.float32))
    for variable in self._optimizer.variables():
      variable.assign(tf.zeros_like(variable))
    with _Best(start, watch, show) as best:
      for _ in range(steps):
        loss, before = self._compiled(given)
        best.see(float(loss), before)
        if not np.isfinite(loss):  # Nor is anything that would follow.
          break
    return best.found()

  def _step(self, given):
    variables = self._variables
    with tf.GradientTape() as tape:
      loss = self._loss_fn([variable.read_value() for variable in variables], given)
    gradients = tape.gradient(loss, variables)
    if self._signed:
      gradients[0] = tf.sign(gradients[0])
    before = [variable.read_value() for variable in variables]
    with tf.control_dependencies(before):
      self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
      if self._box is not None:
        variables[0].assign(tf.clip_by_value(variables[0], *self._box))
    return loss, before


def descend(
  loss_fn: Callable[[list[tf.Tensor]], tf.Tensor],
  start: Sequence[np.ndarray],
  steps: int,
  optimizer: tf.keras.optimizers.legacy.Optimizer,
  signed: bool = False,
  box: Box | None = None,
  watch: Watch = unwatched,
  show: Show = themselves,
) -> Found:
  """Minimises step by step: one search of a `Descent`.

  Args:
    loss_fn: (values) -> loss.
    start: Where to start.
    steps: Steps.
    optimizer: A new one, that takes them.
    signed: Whether the first value is moved by the signs of its gradient alone.
    box: What the first value stays within; None lets it leave.
    watch: Told every step.
    show: What it is shown.

  Raises:
    UnusableError: If no step had a finite loss.
  """
  descent = Descent(lambda values, given: loss_fn(values), optimizer, signed, box)
  return descent(start, steps, watch=watch, show=show)


def check_evaluations(evaluations: int, size: int) -> None:
  """Checks that so many suffice for a search among points of so many dimensions.

  Raises:
    ValueError: If there are fewer than a generation has points.
  """
  generation = int(cma.CMAOptions().eval("popsize", None, {"N": size}))
  if evaluations < generation:
    raise ValueError(f"evaluations: must be {generation} or more, a generation")


def evolve(
  loss_fn: Callable[[tf.Tensor], tf.Tensor],
  start: np.ndarray,
  evaluations: int,
  seed: int,
  watch: Watch = unwatched,
  show: Show = themselves,
) -> Found:
  """Minimises by CMA-ES, which needs no gradient; its first steps are about 1 long.

  Args:
    loss_fn: (population `[p, d]`) -> losses `[p]`; those of points that are not finite are taken
      for infinite.
    start: `[d]`, where to start.
    evaluations: Of points, at most.
    seed: Of the populations.
    watch: Told every generation; its step is the number of evaluations.
    show: What it is shown.

  Raises:
    ValueError: If there are fewer evaluations than a generation has points.
    UnusableError: If no step had a finite loss.
  """
  check_evaluations(evaluations, start.size)
  # cma takes a seed of 0 for the time.
  options = {"seed": seed % (2**32 - 1) + 1, "verbose": -9, "maxfevals": evaluations}
  evolution = cma.CMAEvolutionStrategy(start, 1.0, options)
  evaluate = tf.function(loss_fn)

  def watch_evaluations(step, loss, images):
    del step
    watch(evolution.countevals, loss, images)

  with _Best([start], watch_evaluations, show) as best:
    while evolution.countevals + evolution.popsize <= evaluations:
      population = evolution.ask()
      losses = evaluate(tf.constant(np.stack(population), tf.float32)).numpy()
      losses = np.where(np.isfinite(losses), losses, np.inf)
      evolution.tell(population, losses.tolist())
      best.see(float(losses.min()), [population[losses.argmin()]])
  return best.found()
