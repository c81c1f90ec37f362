import dataclasses

import pytest

from experiments import options


@dataclasses.dataclass
class Config:
  preset: str = options.option("quick", "Values.", choices=("quick", "paper"))
  rounds: int = options.option(10, "Rounds.", at_least=1)
  rate: float = options.option(0.1, "Rate.", above=0)
  name: str | None = options.option(None, "Free text.")
  names: list[str] = options.option(["a"], "Some of these.", choices=("a", "b"))
  sizes: list[float] = options.option([1.0], "Sizes.", above=0)


def test_accepts_its_defaults():
  options.validate(Config())


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"preset": "slow"}, "preset: 'slow' is not allowed; allowed: quick, paper"),
    ({"rounds": 0}, "rounds: 0 is not allowed; allowed: 1 or more"),
    ({"rate": 0.0}, "rate: 0.0 is not allowed; allowed: above 0"),
    ({"rate": float("nan")}, "rate: nan is not allowed"),
    ({"rate": float("inf")}, "rate: inf is not allowed"),
    ({"names": []}, r"names: \[\] is not allowed; allowed: one or more, each a, b"),
    ({"names": ["a", "c"]}, r"names: \['a', 'c'\] is not allowed; allowed: one or more, each a, b"),
    ({"sizes": [1.0, 0.0]}, "sizes: .* allowed: one or more, each above 0"),
  ],
)
def test_refuses_by_name_with_what_is_allowed(changes, message):
  with pytest.raises(options.ConfigError, match=message):
    options.validate(Config(**changes))


@dataclasses.dataclass
class DerivedConfig(Config):
  clients: list[str] = options.option([], "Names.")


def test_manual_shows_inherited_options_last_and_lists():
  text = options.manual(DerivedConfig, "experiments.example", "Does it.", {})
  assert "clients=[]  (list[str])" in text
  assert text.index("clients=") < text.index("preset=")
  assert DerivedConfig().clients is not DerivedConfig().clients


def test_manual_leaves_out_what_a_sweep_sets_itself():
  class Sweep(DerivedConfig):
    varies = ("clients",)

  assert "clients" not in options.manual(Sweep, "experiments.example", "Does it.", {})


def test_manual_names_every_option_with_default_type_limit_and_presets():
  presets = {"quick": {"preset": "quick", "rounds": 5}, "paper": {"preset": "paper", "rounds": 300}}
  text = options.manual(Config, "experiments.example", "Does it.", presets)
  assert "rounds=5  (int: 1 or more)" in text
  assert "paper: 300" in text
  assert "rate=0.1  (float: above 0)" in text
  assert max(map(len, text.splitlines())) <= 80
