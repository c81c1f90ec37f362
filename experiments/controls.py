"""How much of the average attack accuracy is the attack, how much the skew, how much the GAN."""

import dataclasses
import pathlib

from experiments import class_pairs, program, sweep_plan
from experiments.options import option

SUMMARY = """\
Runs CRPA on some pairs of classes beside its controls: no attack at all, and the same poisoning \
with noise, with images of an untrained generator, with real images of another class, and with \
real images of class G. Writes summary.csv (a row a run) and draws the bars.
It can be stopped at any time and goes on with resume=<folder>."""

_ATTACKS = [attack for attack in sweep_plan.ATTACKS if attack != "none"]


@dataclasses.dataclass
class ControlsConfig(class_pairs.PairsConfig):
  """Options of `python -m experiments.controls`."""

  attacks: list[str] = option(
    _ATTACKS, "What the adversary does, beside nothing at all.", choices=_ATTACKS
  )


def plan(config: ControlsConfig) -> list[sweep_plan.Run]:
  """A run for each pair, attack and seed."""
  cells = [
    (attack, {"reconstruct": g, "poison": t})
    for g, t in class_pairs.choose(config)
    for attack in config.attacks
  ]
  return sweep_plan.with_controls(config, cells)


def report(config: ControlsConfig, folder: pathlib.Path) -> None:
  """Draws the figure and says what came out."""
  del config
  from tff_attacks.plots import study

  summary = study.read(folder)
  study.controls(summary, folder)
  study.rounds(summary, folder)
  print(study.table(summary, ["reconstruct", "poison", "attack"]).to_string())


def run(config: ControlsConfig) -> int:
  """Runs the sweep and returns the exit status."""
  return sweep_plan.run(config, "controls", plan, report)


if __name__ == "__main__":
  program.main("experiments.controls", ControlsConfig, SUMMARY, run)
