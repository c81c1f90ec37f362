"""Every script refuses what its options do not allow: by name, and before any work."""

import dataclasses
import json
import pathlib
import re
import runpy
import sys
import types
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from experiments import options, program, results_folder, saved_config

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted(
  ".".join(path.relative_to(ROOT).with_suffix("").parts)
  for path in (ROOT / "experiments").rglob("*.py")
  if "  program.main(" in path.read_text()
)
NEEDED = {name: ["pairs=[4-9]"] for name in ("distributions", "controls", "differential_privacy",
  "dp_frontier")} | {"compare": ["combinations=x"], "original_crpa": ["original=x"],
  "report": ["folder=x"], "semi_targeted_average": ["sweeps=[x]"]}  # fmt: skip
"""Options without which a script refuses everything."""


def config_class(script):
  module = runpy.run_module(script)
  return typing.get_type_hints(module["run"])["config"]


@pytest.fixture(scope="module")
def classes():
  return {script: config_class(script) for script in SCRIPTS}


def bad_values(field, kind):
  """Strategies for values that a field does not allow."""
  if typing.get_origin(kind) in (typing.Union, types.UnionType):
    kind = next(each for each in typing.get_args(kind) if each is not type(None))
  limits = field.metadata
  listed = typing.get_origin(kind) is list
  kind = typing.get_args(kind)[0] if listed else kind
  words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8).map("x_{}".format)
  bad = []
  if limits.get("choices"):
    bad.append(words)
  if kind is bool:
    bad.append(words)
  if kind in (int, float):
    bad.append(words)
    lowest = limits["at_least"] if limits["at_least"] is not None else limits["above"]
    if lowest is not None:
      bad.append(st.integers(max_value=int(lowest) - 1))
    highest = limits["at_most"] if limits["at_most"] is not None else limits["below"]
    if highest is not None:
      bad.append(st.integers(min_value=int(highest) + 1, max_value=2**40))
    bad += [st.just(limits[name]) for name in ("above", "below") if limits[name] is not None]
  if kind is int:
    bad.append(st.floats(0.1, 99).filter(lambda x: x != int(x)))
  if kind is float and (limits["at_least"] is not None or limits["above"] is not None):
    bad.append(st.sampled_from(["nan", "inf", "-inf"]))
  if listed:
    bad = [each.map(lambda value: [value]) for each in bad]
    if limits.get("choices"):
      bad.append(st.just([]))
  elif kind is not str or limits.get("choices"):
    bad.append(st.just([1, 2]))
  return bad


def written(value):
  return json.dumps(value) if not isinstance(value, str) else value


@st.composite
def bad_options(draw, classes):
  """(script, command line, what the message must name)."""
  script = draw(st.sampled_from(SCRIPTS))
  fields = dataclasses.fields(classes[script])
  hints = typing.get_type_hints(classes[script])
  choices = [(field.name, bad) for field in fields for bad in bad_values(field, hints[field.name])]
  if not choices or draw(st.integers(0, 9)) == 0:
    name = draw(st.text("abcdefghijklmnopqrstuvwxyz_", min_size=3, max_size=12))
    hypothesis.assume(name not in hints and not name.startswith("_"))
    return script, [f"{name}=1"], name
  name, bad = draw(st.sampled_from(choices))
  value = draw(bad)
  text = f"[{','.join(map(written, value))}]" if isinstance(value, list) else written(value)
  needed = NEEDED.get(script.rpartition(".")[2], [])
  needed = [option for option in needed if not option.startswith(f"{name}=")]
  if "dataset" in hints and name not in ("dataset", "preset"):
    data = "mnist" if script.endswith(("compare", "original_crpa")) else "digits"
    needed = [*needed, f"dataset={data}"]
  return script, [*needed, f"{name}={text}"], name


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["-m", "seed=0,1"], "-m: one run at a time"),
    (["seed=0,1", "--multirun"], "--multirun: one run at a time"),
    (["seed=0,1"], "seed=0,1: one value only"),
    (["+seed=1"], r"\+seed=1: options are given as seed=<value>"),
    (["--dataset", "mnist"], "--dataset: options are given as dataset=<value>"),
    (["+recontruct=5"], "recontruct: there is no such option; did you mean reconstruct?"),
    (["unheard_of=5"], "unheard_of: there is no such option$"),
    (["rounds=ten"], "rounds: ten is not allowed; allowed: int: 1 or more"),
    (["rounds=null"], "rounds: null is not allowed"),
    (["workers=a"], r"workers: a is not allowed; allowed: list\[str\]"),
    (["resume=nowhere"], "resume: nowhere/config.yaml cannot be read: .* No such file"),
  ],
)
def test_what_hydra_would_take_in_another_sense(arguments, message, monkeypatch, capfd, tmp_path):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "argv", ["experiments.crpa", *arguments])
  with pytest.raises(SystemExit) as ended:
    runpy.run_module("experiments.crpa", run_name="__main__", alter_sys=True)
  _, errors = capfd.readouterr()
  assert ended.value.code == program.BAD_INPUT
  assert re.search(f"^error: {message}", errors, re.MULTILINE), errors
  assert len(errors.splitlines()) == 1
  assert not list(tmp_path.iterdir())


COMMITTED = sorted((ROOT / "experiments" / "results").rglob("config.yaml"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_committed_runs_can_be_run_anew(path):
  """From their `config.yaml` alone."""
  made = path.with_name("experiment.txt")
  # Those of several runs beside each other are in the folder of their script.
  script = made.read_text() if made.exists() else path.parts[-3]
  options.validate(saved_config.load(config_class(f"experiments.{script}"), path.parent))


@pytest.mark.slow
@hypothesis.settings(
  max_examples=200,
  deadline=None,
  derandomize=True,
  phases=[hypothesis.Phase.generate],  # Hydra shows tracebacks under the tracer of shrinking.
  suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(data=st.data())
def test_two_hundred_bad_configurations(data, classes, monkeypatch, capfd, tmp_path):
  script, arguments, name = data.draw(bad_options(classes))
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "argv", [script, *arguments])
  monkeypatch.setattr(results_folder, "create", lambda *_: pytest.fail("it was accepted"))
  with pytest.raises(SystemExit) as ended:
    runpy.run_module(script, run_name="__main__", alter_sys=True)
  _, errors = capfd.readouterr()
  assert ended.value.code == program.BAD_INPUT, errors
  assert re.search(rf"\b{name}\b", errors)
  assert "Traceback" not in errors
  assert not list(tmp_path.iterdir())
