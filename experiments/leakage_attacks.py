"""The server's attacks by name, with the settings of a configuration."""

import functools
import inspect
import json
import math
import pkgutil
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from experiments.leakage_config import ATTACKS, LeakageConfig, known_images, sought_images
from models import grnn as grnn_networks
from tff_attacks import keras_state
from tff_attacks.leakage import feature_inversion, labels, leakage

_STEPS = ("steps", "evaluations")
"""The keyword of an attack that the option `steps` sets."""

_STANDARDISED = ("mean", "std")
"""Keywords that are no settings: images are sought as they are."""


def _function(config: LeakageConfig) -> Callable[..., leakage.Reconstruct]:
  return pkgutil.resolve_name(f"tff_attacks.leakage.{ATTACKS[config.attack].function}")


def settings(config: LeakageConfig) -> dict[str, Any]:
  """The attack's keywords that differ from its own, but for what `build` finds for it.

  Raises:
    ValueError: If the attack has no such keyword, or a value has another type.
  """
  parameters = inspect.signature(_function(config)).parameters
  own = {
    name: p.default
    for name, p in parameters.items()
    if isinstance(p.default, bool | int | float) and name not in _STANDARDISED
  }
  found = dict(ATTACKS[config.attack].quick) if config.search == "quick" else {}
  if config.steps is not None:
    found |= {name: config.steps for name in _STEPS if name in own}
  allowed = [name for name in own if name not in _STEPS]
  for setting in config.attack_options:
    name, _, text = setting.partition(":")
    if name not in allowed:
      defaults = ", ".join(f"{name}:{json.dumps(own[name])}" for name in allowed) or "none"
      raise ValueError(f"attack_options: {config.attack} has no {name!r}; allowed: {defaults}")
    found[name] = _value(name, text, type(own[name]))
  return found


def _value(name: str, text: str, kind: type) -> Any:
  """A setting as the attack wants it."""
  value: Any
  try:
    value = json.loads(text)
  except ValueError:
    value = None
  if kind is float and type(value) is int:
    value = float(value)
  of_kind = type(value) is kind
  if not (of_kind and math.isfinite(value) and value >= 0):
    what = {bool: "true or false", int: "a whole number", float: "a number, 0 or more"}[kind]
    raise ValueError(f"attack_options: {name} must be {what}, not {text!r}")
  return value


def search_steps(config: LeakageConfig) -> int | None:
  """How many steps the attack's search has, as far as that is known before."""
  keywords = inspect.signature(functools.partial(_function(config), **settings(config)))
  names = {*_STEPS, "inversion_steps"} & set(keywords.parameters)
  return sum(keywords.parameters[name].default for name in names) or None


def build(
  config: LeakageConfig, model_fn: keras_state.ModelFn, generator: tf.keras.Model | None
) -> leakage.Reconstruct:
  """The attack.

  Args:
    config: The configuration.
    model_fn: Builds the global model.
    generator: Of ggl.

  Raises:
    ValueError: If the attack has no such settings, or cannot work on such images.
  """
  keywords = settings(config)
  attack, facts = _function(config), ATTACKS[config.attack]
  parameters = inspect.signature(attack).parameters
  model, count = model_fn(), sought_images(config) or known_images(config)
  classes = model.output_shape[-1]
  if facts.last_layer:
    keras_state.last_layer(model)
  if config.labels == "yin" and count > classes:
    raise ValueError(f"labels: yin takes each of the {classes} classes once, give images={classes}")
  if config.labels != "own":
    if "infer_labels" not in parameters:
      raise ValueError(f"labels: {config.attack} has its own way, leave it out")
    keywords["infer_labels"] = labels.METHODS[config.labels]
  if "generator" in parameters:
    keywords["generator"] = generator
  if "generator_fn" in parameters:
    keywords["generator_fn"] = functools.partial(
      grnn_networks.generator, model.input_shape[1:], classes
    )
    try:
      keywords["generator_fn"]()
    except ValueError as error:  # It cannot make images of such a size.
      raise ValueError(f"attack: {config.attack}: {error}") from error
  reconstruct = attack(model_fn, **keywords)
  if facts.mixtures:
    dense = feature_inversion.first_dense(model)
    most = min(dense.units, dense.input_shape[-1])
    if most < count:
      raise ValueError(
        f"images: {dense.units} units of {dense.input_shape[-1]} features cannot tell {count} "
        f"apart, give images={most}"
      )
  return reconstruct
