"""Options of an experiment: one dataclass field each, with its help and its limits.

The same field gives Hydra its type, `--help` its line and bad input its message.
"""

import contextlib
import dataclasses
import math
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import Any


class ConfigError(ValueError):
  """A configuration that cannot be run; the message names the field and what is allowed."""


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
  """Around what reads or checks a user's input, as a block or as a decorator.

  Raises:
    ConfigError: In place of a `ValueError` or `FileNotFoundError`, with its message.
  """
  try:
    yield
  except (ValueError, FileNotFoundError) as error:
    raise ConfigError(str(error)) from error


def option(
  default: Any,
  text: str,
  choices: Sequence[str] | None = None,
  at_least: float | None = None,
  above: float | None = None,
  at_most: float | None = None,
  below: float | None = None,
) -> Any:
  """A dataclass field with its help text and limits, which hold for each element of a list.

  Args:
    default: Default value.
    text: What it means, with its unit.
    choices: Allowed values.
    at_least: Lowest allowed value.
    above: Every value must be above this one.
    at_most: Highest allowed value.
    below: Every value must be below this one.

  Returns:
    The field.
  """
  limits = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
  metadata = {"text": text, "choices": choices, **limits}
  if isinstance(default, list):
    return dataclasses.field(default_factory=default.copy, metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def with_default(config_class: type, name: str, default: Any) -> Any:
  """The field of another config, with another default."""
  (field,) = (field for field in dataclasses.fields(config_class) if field.name == name)
  return dataclasses.field(default=default, metadata=field.metadata)


def shared(config: Any, config_class: type) -> dict[str, Any]:
  """The options of a config that another kind has, too, but for those of its results folder."""
  names = {field.name for field in dataclasses.fields(config_class)} - {"output_dir", "resume"}
  fields = (field.name for field in dataclasses.fields(config) if field.name in names)
  return {name: getattr(config, name) for name in fields}


def validate(config: Any) -> None:
  """Checks every field of a config against its own limits.

  Raises:
    ConfigError: At the first field that breaks them.
  """
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    allowed = _allowed(field)
    if value is None or not allowed:
      continue
    values = value if isinstance(value, list) else [value]
    if not values or not all(_within(one, **field.metadata) for one in values):
      raise ConfigError(f"{field.name}: {value!r} is not allowed; allowed: {allowed}")


def _within(
  value: Any,
  text: str,
  choices: Sequence[str] | None,
  at_least: float | None,
  above: float | None,
  at_most: float | None,
  below: float | None,
) -> bool:
  del text
  return (
    not (isinstance(value, float) and not math.isfinite(value))
    and (choices is None or value in choices)
    and (at_least is None or value >= at_least)
    and (above is None or value > above)
    and (at_most is None or value <= at_most)
    and (below is None or value < below)
  )


def _allowed(field: dataclasses.Field) -> str:
  each = "" if field.default_factory is dataclasses.MISSING else "one or more, each "
  limits = field.metadata
  if limits.get("choices"):
    return each + ", ".join(limits["choices"])
  phrases = {
    "at_least": "{} or more",
    "above": "above {}",
    "at_most": "{} or less",
    "below": "below {}",
  }
  said = [
    phrase.format(limits[name]) for name, phrase in phrases.items() if limits.get(name) is not None
  ]
  return each + ", ".join(said) if said else ""


def describe(config_class: type, field: dataclasses.Field) -> str:
  """The type of an option, and what is allowed of it, in words."""
  kind = typing.get_type_hints(config_class)[field.name]
  name = kind.__name__ if type(kind) is type else str(kind)
  allowed = _allowed(field)
  return f"{name}: {allowed}" if allowed else name


def manual(config_class: type, name: str, summary: str, presets: dict[str, dict]) -> str:
  """The text of `--help`.

  Args:
    config_class: Dataclass of `option` fields; what a sweep `varies` is not for the user.
    name: How the program is called.
    summary: What it does.
    presets: For each preset its values by option; the first is the default.

  Returns:
    A manual page, at most 80 columns wide; options of a base class stand last.
  """
  width = 78
  default = next(iter(presets), None)
  lines = ["NAME", f"  {name}", "", "DESCRIPTION"]
  lines += [textwrap.indent(textwrap.fill(part, width - 2), "  ") for part in summary.split("\n")]
  lines += ["", "USAGE", f"  python -m {name} [option=value ...]", "", "OPTIONS"]
  own_names = config_class.__annotations__
  hidden = getattr(config_class, "varies", ())
  fields = [field for field in dataclasses.fields(config_class) if field.name not in hidden]
  for field in sorted(fields, key=lambda field: field.name not in own_names):
    own: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
      own = field.default_factory()
    value = presets.get(default or "", {}).get(field.name, own)
    head = f"  {field.name}={'null' if value is None else value}"
    lines.append(f"{head}  ({describe(config_class, field)})")
    lines += textwrap.wrap(
      field.metadata["text"], width, initial_indent="      ", subsequent_indent="      "
    )
    by_preset = {p: values.get(field.name, own) for p, values in presets.items()}
    others = {p: other for p, other in by_preset.items() if other != value}
    if others and field.name != "preset":
      lines.append("      " + ", ".join(f"{p}: {v}" for p, v in others.items()))
  lines += [
    "",
    "EXIT STATUS",
    "  0 done; 1 failed; 2 bad input, refused before any work; 130 interrupted",
  ]
  return "\n".join(lines)
