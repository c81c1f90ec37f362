"""The table's cells, its report, and the script as a user runs it."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from experiments import leakage_attacks, leakage_report
from experiments import leakage_table as table
from experiments.leakage_config import ATTACKS, check, known_images, sought_images
from experiments.leakage_table import LeakageTableConfig
from experiments.options import ConfigError
from tests import programs


def plan(**changes):
  base = {"repetitions": 1, "auxiliary_images": 70, "other_dataset": "digits"}
  return table.plan(LeakageTableConfig(**base | changes))


def test_every_cell_can_be_run():
  runs = plan(repetitions=2)
  assert len({run.name for run in runs}) == len(runs)
  assert {run.attack for run in runs} == set(ATTACKS)
  for run in runs:
    check(run.config)
    leakage_attacks.settings(run.config)
    if run.attack == "cocktail_party":  # The model has 256 units.
      assert (sought_images(run.config) or known_images(run.config)) <= 256


def test_columns_are_what_they_say():
  cells = {
    run.setting: run.config
    for run in plan(attacks=["dlg"], partitions=["iid"], dataset="cifar10", data_dir="nowhere")
  }
  assert tuple(cells) == (*table.SETTINGS, "one_image_cnn")
  assert cells["one_image"].mode == "gradient"
  assert cells["one_image"].batch_size == 1
  assert (cells["one_image_cnn"].mode, cells["one_image_cnn"].model) == ("gradient", "cnn")
  federated = [
    (c.num_clients, c.samples_per_client, c.batch_size, c.local_epochs, sought_images(c))
    for name, c in cells.items()
    if c.mode == "federated"
  ]
  assert federated == [
    (100, 40, 10, 1, 10),
    (10, 400, 10, 1, 10),
    (10, 400, 50, 1, 50),
    (10, 400, 50, 5, 50),
    (100, 40, 10, 1, 10),
    (100, 40, 10, 1, 10),
  ]
  assert (cells["many_clients"].dataset, cells["other_data"].dataset) == ("cifar10", "digits")
  assert (cells["many_clients"].model, cells["other_model"].model) == ("cnn", "lenet")
  # On one gradient, the network and the steps with which it works.
  assert (cells["one_image"].model, cells["one_image"].steps) == ("lenet", 2400)
  assert cells["many_clients"].steps is None
  published = plan(
    attacks=["dlg", "grnn"], settings=["one_image", "many_clients"], search="published"
  )
  assert {run.config.steps for run in published} == {None}


def test_given_steps_are_those_of_every_search():
  for run in plan(steps=60):
    assert run.config.steps == (None if run.attack == "robbing_the_fed" else 60)


def test_one_generator_serves_all_runs_of_a_seed():
  runs = plan(attacks=["ggl"], dataset="cifar10")
  first = {run.config.dataset: run for run in reversed(runs)}
  assert set(first) == {"digits", "cifar10"}
  for run in runs:
    serves = run.setting != "untrained" and run != first[run.config.dataset]
    assert run.after == (first[run.config.dataset].name if serves else "")
  assert [run.config.generator_steps for run in runs if run.setting == "untrained"] == [0, 0]


def test_single_cells_beside_the_table():
  runs = plan(settings=["one_image"], partitions=["iid"])
  extra = {(run.attack, run.setting): run.config for run in runs if run.setting != "one_image"}
  assert set(extra) == set(table.EXTRA)
  assert extra["dlf", "epochs_10"].local_epochs == 10
  small = extra["dlf", "mlp_1000"]
  assert (small.model, small.samples_per_client, small.local_epochs) == ("mlp", 50, 2)
  assert extra["inverting_gradients", "rate_1"].attack_options == ["learning_rate:1"]
  small = extra["robbing_the_fed", "cnn_small_weights"]
  assert (small.model, small.imprint_weights, small.mode) == ("cnn", "small", "federated")
  assert not {run.setting for run in plan(extra=False)} & {setting for _, setting in table.EXTRA}


def test_the_cocktail_party_attack_has_no_other_model():
  settings = [run.setting for run in plan(attacks=["cocktail_party"], partitions=["iid"])]
  assert "other_model" not in settings


def test_bad_numbers_are_refused():
  with pytest.raises(ConfigError, match="clients: give two numbers"):
    plan(clients=[3])
  with pytest.raises(ConfigError, match="clients: give that of many first"):
    plan(clients=[10, 100])
  with pytest.raises(ConfigError, match="victims: must be 1 or more"):
    plan(victims=0)
  with pytest.raises(ConfigError, match="data_dir: "):
    plan(other_dataset="mnist", data_dir="nowhere")


def runs_of(attack, setting, identified, **values):
  base = {
    "attack": attack, "model": "cnn", "setting": setting, "partition": "iid", "dataset": "cifar10",
    "psnr": 20.0, "guess_psnr": 12.0,
    "mean_psnr": 14.0, "ssim": 0.5, "guess_ssim": 0.3, "mean_ssim": 0.2, "correlation": 0.9,
    "guess_correlation": 0.4, "mean_correlation": 0.6, "guess_copied": 0.0, "mean_copied": 0.25,
    "label_accuracy": 0.9, "guess_label_accuracy": 0.8,
    "seconds": 120.0, "reconstructed": 4.0, "images": 40.0,
    "not_run": None, "guess_identified": 0.1, "mean_identified": 0.0, "copies": 2.0,
    "victims": 3, "failed_victims": 0,
  }  # fmt: skip
  return [base | values | {"identified": share} for share in identified]


def test_the_report_compares_with_the_papers_words():
  rows = runs_of("inverting_gradients", "one_batch", [1.0, 0.8])
  rows += runs_of("inverting_gradients", "epochs_5", [0.9])
  rows += runs_of("inverting_gradients", "other_data", [0.9])
  # Matched with the nearest of many images, and no nearer to it than a guess.
  rows += runs_of("grnn", "many_clients", [1.0], psnr=13.0)
  lines = leakage_report.describe(pd.DataFrame(rows))
  cells = [
    [c.strip() for c in line.split("|")[1:-1]] for line in lines if line[:3] in ("| i", "| g")
  ]
  assert [cell[-1] for cell in cells] == ["yes", "no", "", "yes"]
  assert cells[0][3:8] == ["iid", "2", "4 of 40", "20.0 ± 0.0", "14.0"]
  assert cells[0][8:12] == ["0.50", "0.30", "0.90", "0.60"]
  assert cells[0][12:17] == ["90%", "10%", "5%", "90%", "80%"]
  assert "of a guess's at most 25%" in lines[-1]
  assert "the same as the paper in 2 of 3 cells, of which 0 are of other data" in lines[-1]


def test_findings_of_other_data_than_the_papers_are_told():
  rows = runs_of("cocktail_party", "one_batch", [1.0])
  lines = leakage_report.describe(pd.DataFrame(rows))
  assert "the same as the paper in 1 of 1 cells, of which 1 are of other data" in lines[-1]


def agreed(**values):
  rows = runs_of("inverting_gradients", "one_batch", [0.9], **values)
  (line,) = [one for one in leakage_report.describe(pd.DataFrame(rows)) if one[:3] == "| i"]
  return line


def test_what_a_guess_reaches_is_not_recognised():
  """The paper recognises the images of a batch."""
  assert agreed().endswith("| yes |")
  assert agreed(guess_identified=0.7).endswith("| no |")
  assert agreed(mean_identified=0.7).endswith("| no |")


def test_clients_that_failed_count():
  line = agreed(failed_victims=2, failed="update: holds numbers that")
  assert "4 of 40; 2 of 3 clients failed" in line
  assert line.endswith("| no |")


def test_clients_that_were_not_run_are_told():
  assert "4 of 40; 1 of 3 clients not run |" in agreed(not_run_victims=1)


def test_partitions_are_told_apart():
  rows = runs_of("dlf", "few_clients", [1.0], psnr=30.0)
  rows += runs_of("dlf", "few_clients", [0.0], partition="dirichlet")
  text = "\n".join(leakage_report.describe(pd.DataFrame(rows)))
  assert "| few clients | iid | 1 | 4 of 40 | 30.0 |" in text
  assert "| few clients | dirichlet | 1 | 4 of 40 | 20.0 |" in text


def test_an_attack_that_failed_recognises_nothing():
  rows = runs_of("dlf", "epochs_5", [np.nan], psnr=np.nan, failed="update: holds numbers that")
  (line,) = [one for one in leakage_report.describe(pd.DataFrame(rows)) if "failed:" in one]
  assert "failed: update: holds numbers that" in line
  assert line.endswith("| yes |")  # The paper finds no meaningful images.


def test_a_cell_that_was_not_run_says_what_it_would_have_cost():
  rows = runs_of("dlf", "few_clients", [np.nan], psnr=np.nan, not_run="it would take 50 minutes")
  (line,) = [one for one in leakage_report.describe(pd.DataFrame(rows)) if "not run" in one]
  assert "not run: it would take 50 minutes" in line
  assert "label counts fail" in line


def test_the_committed_table_is_of_its_runs():
  folder = pathlib.Path(table.__file__).parent / "results" / "leakage_cifar10"
  text = "\n".join(leakage_report.describe(pd.read_csv(folder / "summary.csv")))
  assert (folder / "table.md").read_text() == text + "\n"


@pytest.mark.slow
def test_the_quick_table(tmp_path):
  folder = tmp_path / "table"
  result = programs.run(
    "leakage_table", "preset=quick", f"output_dir={folder}", "jobs=2", "steps=20",
    "attacks=[inverting_gradients,robbing_the_fed,ggl]", "settings=[one_image,many_clients]",
    "extra=false",
  )  # fmt: skip
  assert result.returncode == 0, result.stdout + result.stderr
  summary = pd.read_csv(folder / "summary.csv")
  assert len(summary) == 6
  assert (folder / "table.md").read_text().count("\n| ") == 7
