"""A sweep beside the published values."""

import dataclasses
import pathlib

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments import published
from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError
from tests.experiments.test_claims import pairs_of
from tests.programs import run_here
from tff_attacks.metrics import reconstruction


def sweep_of(folder, experiment, rows, **changes):
  """A finished sweep of CRPA, as far as it is read here."""
  folder.mkdir()
  pd.DataFrame(rows).to_csv(folder / "summary.csv", index=False)
  (folder / "experiment.txt").write_text(experiment)
  config = dataclasses.asdict(CRPAConfig()) | changes
  (folder / "config.yaml").write_text(yaml.safe_dump(config))
  return folder


@pytest.mark.parametrize(
  ("experiment", "changes"),
  [
    ("combinations", {"alpha": 1.0}),
    ("controls", {"generated_label": "extra"}),
    ("distributions", {"adversary_lacks": "none"}),
    ("differential_privacy", {"l2_norm_clip": 10.0}),
  ],
)
def test_another_attack_is_not_put_beside_the_published_values(experiment, changes, tmp_path):
  rows = [{"dataset": "mnist", "attack": "crpa"}]
  asked = sweep_of(tmp_path / "asked", experiment, rows)
  assert len(published.read(experiment, str(asked))) == 1
  other = sweep_of(tmp_path / "other", experiment, rows, **changes)
  ((name, value),) = changes.items()
  with pytest.raises(ConfigError, match=f"{experiment}: other than .* has {name}={value}"):
    published.read(experiment, str(other))


def test_sweeps_of_different_data_sets_do_not_stand_together(tmp_path):
  folders = [
    sweep_of(tmp_path / name, name, [{"dataset": dataset, "attack": "crpa"}])
    for name, dataset in (("combinations", "mnist"), ("controls", "fashion_mnist"))
  ]
  result = run_here(
    "compare", *(f"{folder.name}={folder}" for folder in folders), f"output_dir={tmp_path / 'out'}"
  )
  assert result.returncode == 2
  assert "combinations, controls: of different data sets, mnist, fashion_mnist" in result.stderr


def test_compare_puts_a_sweep_beside_the_published_values(tmp_path):
  rng = np.random.default_rng(0)
  rows = []
  for (g, t), value in published.matrix("mnist").items():
    for seed in (0, 1):
      rows.append(
        {"dataset": "mnist", "attack": "crpa", "reconstruct": g, "poison": t, "seed": seed,
         "average_attack_accuracy": value + rng.normal(scale=0.01), "no_attack": rng.uniform(),
         "mean_test_accuracy": 0.9, "recognised": 0.5, "recognised_noise": 0.1,
         "correlation": 0.5, "other_correlation": 0.3}
      )  # fmt: skip
  folder = tmp_path / "compare"
  sweep_folder = sweep_of(tmp_path / "sweep", "combinations", rows)
  three = [row for row in rows if row["reconstruct"] == 4 and row["poison"] in (1, 7, 9)]
  controls_folder = sweep_of(tmp_path / "controls", "controls", three)
  result = run_here(
    "compare", f"combinations={sweep_folder}", f"controls={controls_folder}",
    f"output_dir={folder}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  text = (folder / "compare.md").read_text()
  row = "| ours and published | 90 |"
  assert f"{row} 0.99 | 0.99 | 0.0" in text or f"{row} 1.00 | 1.00 |" in text
  assert "| the same without T = 0 and (0, 1) | 80 |" in text
  assert "| the same of T = 0 and (0, 1) | 10 |" in text
  assert "| the choice of classes matters (AAA) | held | 3 pairs, 2 seeds" in text
  assert "| 0.9 | 0.5 | 0.1 | 0.5 | 0.3 | 0.51 |" in text  # 4 -> 9, and what was published.
  assert "| privacy stops the attack | not decided |" in text


RESULTS = pathlib.Path(__file__).parents[2] / "experiments" / "results"


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist"])
def test_the_committed_results_are_what_their_readmes_say(dataset):
  def said(experiment):
    folder = RESULTS / f"{experiment}_{dataset}"
    lines = published.compare(**{experiment: published.read(experiment, str(folder))})
    return "\n".join(lines), (folder / "README.md").read_text()

  text, readme = said("combinations")
  rows = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines()}
  for row in ("| ours", "| published"):
    assert " | ".join(rows[row][:-1]) + " |" in readme
  assert f"| our AAA | 90 | **{rows['| ours and published'][2]}** |" in readme
  no_attack = (rows[f"| ours without attack and {other}"][2] for other in ("published", "ours"))
  assert f"| our AAA without any attack | 90 | {' | '.join(no_attack)} |" in readme

  text, readme = said("controls")
  rows = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines()}
  names = {
    "untrained": "images of the untrained generator", "noise": "uniform noise",
    "other_class": "real images of another class", "crpa": "**CRPA", "real": "real images of G",
  }  # fmt: skip
  for row, name in names.items():
    aaa, added = rows[f"| {row}"][1:3]
    line = next(line for line in readme.splitlines() if line.startswith(f"| {name}"))
    assert f"| {aaa} | {added} |" in line.replace("*", "")


@pytest.mark.parametrize(("dataset", "alphas"), [("mnist", (0, 10)), ("fashion_mnist", (0,))])
def test_the_committed_table_of_privacy_is_of_its_runs(dataset, alphas):
  folder = RESULTS / f"differential_privacy_{dataset}"
  runs = published.read("differential_privacy", str(folder)).assign(
    added=lambda runs: runs["average_attack_accuracy"] - runs["no_attack"],
    reconstructed=lambda runs: reconstruction.succeeded(
      runs["recognised"], runs["correlation"], runs["other_correlation"]
    ),
  )
  names = {
    "none": "no privacy", "microbatches_clipped": "batches clipped", "microbatches": "as published",
    "records_clipped": "records clipped", "records": "noise for records",
    "clients_clipped": "clients clipped", "clients": "noise for clients",
  }  # fmt: skip
  readme = (folder / "README.md").read_text().replace("*", "")
  for setting, name in names.items():
    said = next(line for line in readme.splitlines() if line.startswith(f"| {name}"))
    said = [cell.partition("+/-")[0].strip() for cell in said.split("|")[3:-1]]
    for i, alpha in enumerate(alphas):
      cells = said[3 * i : 3 * i + 3]
      some = runs[(runs["setting"] == setting) & (runs["alpha"] == alpha)]
      attacked = some[some["attack"] == "crpa"]
      accuracy = some.loc[some["attack"] == "none", "late_test_accuracy"].mean()
      assert float(cells[0]) == pytest.approx(accuracy, abs=0.00501)
      assert float(cells[1]) == pytest.approx(attacked["added"].mean(), abs=0.000501)
      assert cells[2] == f"{attacked['reconstructed'].sum()} of {len(attacked)}"


def test_the_committed_table_of_the_studys_size_is_of_its_rounds():
  folder = RESULTS / "differential_privacy_mnist"
  text = (folder / "README.md").read_text().replace("*", "")
  lines = text.partition("rounds 1 to 20")[2].splitlines()[2:]
  names = {
    "no privacy": "none", "batches clipped": "microbatches_clipped", "as published": "microbatches",
    "records clipped": "records_clipped", "noise for records": "records",
  }  # fmt: skip
  runs = pd.read_csv(folder / "study_size.csv").set_index(["setting", "attack"])
  seen = []
  for line in lines[: lines.index("")]:
    name, _, *cells = [cell.partition("(")[0].strip() for cell in line.split("|")[1:-1]]
    attack = "none" if name == "the same without attack" else "crpa"
    setting = seen[-1][0] if attack == "none" else names[name.partition(":")[0]]
    seen.append((setting, attack))
    rounds = runs.loc[[seen[-1]]]
    means = [rounds["attack_accuracy"][first : first + 20].mean() for first in (0, 20, 40)]
    means += [rounds["attack_accuracy"].mean(), rounds["test_accuracy"][40:].mean()]
    for cell, mean in zip(cells[:5] if len(rounds) > 20 else cells[:1], means, strict=False):
      assert float(cell) == pytest.approx(mean, abs=0.00501)
  assert set(seen) == set(runs.index)


def test_what_repeated_runs_add_to_each_other():
  rows = [
    {"dataset": "mnist", "reconstruct": 4, "poison": 9, "seed": seed, "attack": attack,
     "average_attack_accuracy": aaa + seed / 100, "no_attack": 0.1 + seed / 100}
    for seed in range(3)
    for attack, aaa in (("crpa", 0.3), ("noise", 0.25))
  ]  # fmt: skip
  columns = (
    "mean_test_accuracy",
    "recognised",
    "recognised_noise",
    "correlation",
    "other_correlation",
  )
  text = published.compare(controls=pd.DataFrame(rows).assign(**dict.fromkeys(columns, 0.5)))
  assert "| no attack | 0.110 |  | 0.200 (p = 0.250) |" in text
  assert "| noise | 0.260 | 0.150 (p = 0.250) | 0.050 (p = 0.250) |" in text
  assert "| crpa | 0.310 | 0.200 (p = 0.250) |  |" in text


def private_runs():
  """Noise for batches stops all, noise for records stops nothing."""
  for setting, noise, aaa, recognised in (
    ("none", np.nan, 0.5, 0.9), ("sgd", np.nan, np.nan, np.nan),
    ("microbatches_clipped", 0.0, 0.03, 0.1), ("microbatches", 0.3, 0.02, 0.0),
    ("records", 0.3, 0.4, 0.8),
  ):  # fmt: skip
    for alpha in (0.0, 10.0):
      for seed in (0, 1):
        yield {
          "dataset": "mnist", "attack": "crpa", "reconstruct": 4, "poison": 9, "seed": seed,
          "alpha": alpha, "setting": setting, "noise_multiplier": noise,
          "average_attack_accuracy": aaa, "no_attack": 0.01, "mean_test_accuracy": 0.6 + alpha / 40,
          "recognised": recognised, "recognised_noise": 0.3, "correlation": 0.5,
          "other_correlation": 0.4, "late_test_accuracy": 0.7,
          "epsilon": 455.0 if noise > 0 else np.nan,
        }  # fmt: skip


def test_compare_says_which_privacy_stops_what(tmp_path):
  runs = pd.DataFrame(private_runs())
  alone = runs.assign(attack="none", late_test_accuracy=0.6)
  sweep_folder = sweep_of(tmp_path / "sweep", "differential_privacy", pd.concat([runs, alone]))
  folder = tmp_path / "compare"
  result = run_here("compare", f"differential_privacy={sweep_folder}", f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  text = (folder / "compare.md").read_text()
  less = "stops the poisoning (it adds less than 0.05 to AAA)"
  assert (
    f"| privacy as published {less} | held | added with it 0.010, clipping alone 0.020, without "
    "privacy 0.490; with it at most 0.010 (4 → 9, alpha = 0); 2 cells of pair and alpha |"
  ) in text
  assert f"| privacy of each record {less} | **not held** | added with it 0.390, " in text
  assert (
    "(at the end recognised, and most like G) | **not held** | reconstructed with it 4 of 4 runs, "
    "without privacy 4 of 4 runs (Fisher's exact test: p = 1) |"
  ) in text
  assert "| microbatches | 0.7 | 0.6 | 0.7 | 0.6 |" in text  # With and without attack.
  assert "| 4 | 9 | 0.0 | microbatches | 455.0 | 2 | 0 | 0.02 |" in text
  assert "| 4 | 9 | 0.0 | sgd |  | 2 | 2 |  |" in text  # It diverged.
  # The study's own pairs are there, too.
  assert "| 8 | 4 | 0.0 | microbatches |" in text
  assert "| 0.4 | 0.053 |" in text  # What the study printed.
  assert "| published, microbatches | 0.45 |  | 0.89 |  |" in text


@pytest.mark.parametrize("experiment", published.SWEEPS)
def test_a_sweep_of_one_pair_stands_beside_what_was_published(experiment, tmp_path):
  rows = [row for row in private_runs() if row["seed"] == 0 and row["setting"] == "none"]
  rows = rows[:1] if experiment == "combinations" else rows
  folder = sweep_of(tmp_path / "sweep", experiment, rows)
  published.write(folder)
  text = (folder / "published.md").read_text()
  assert ("0.51" if experiment in ("combinations", "controls") else "0.53") in text  # 4 -> 9.
  assert "## The study's claims" in text


def test_what_the_study_has_no_values_for_stands_alone(tmp_path):
  rows = [{**next(private_runs()), "dataset": "digits"}]
  for experiment in ("combinations", "dp_frontier"):
    folder = sweep_of(tmp_path / experiment, experiment, rows)
    published.write(folder)
    assert not (folder / "published.md").exists()


def test_runs_that_diverged_are_no_numbers():
  """None of them, of the attacked ones or of their controls, may end the report."""
  several = pairs_of(lambda g, t: 0.1 * g + 0.01 * t, seeds=2).assign(dataset="mnist")
  several["no_attack"] = several["average_attack_accuracy"] / 2
  for gone in (several.index, several.index[several["reconstruct"] < 3]):
    for column in ("average_attack_accuracy", "no_attack"):
      runs = several.copy()
      runs.loc[gone, column] = np.nan
      text = "\n".join(published._combinations(runs))
      assert "nan" not in text
      if column == "average_attack_accuracy" and len(gone) < len(several):
        assert "| ours | 63 | " in text


def test_differences_are_of_the_runs_that_there_are():
  rows = pd.DataFrame(
    {"attack": attack, "reconstruct": g, "poison": 9, "seed": 0, "no_attack": 0.1,
     "average_attack_accuracy": aaa}
    for g in range(4)
    for attack, aaa in (("crpa", 0.3 + g / 10), ("noise", 0.2), ("real", 0.5))
    if attack != "real" or g == 0
  )  # fmt: skip
  text = "\n".join(published._differences(rows))
  assert "| crpa | 0.450 | 0.350 (p = 0.125) |  |" in text
  assert "| real | 0.500 | 0.400 | -0.200 |" in text
  assert "Not all runs are there: no attack 4, noise 4, crpa 4, real 1" in text
  assert "Not all" not in "\n".join(published._differences(rows[rows["attack"] != "real"]))
  published._differences(rows.assign(average_attack_accuracy=np.nan))  # All diverged.
