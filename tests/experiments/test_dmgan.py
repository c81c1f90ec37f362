"""A client's GAN: the settings, the table, and the script as a user runs it."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import crpa_config, crpa_setup, data, dmgan, dmgan_report
from experiments.options import ConfigError
from tests import programs
from tff_attacks.metrics import leakage


def config(**changes):
  base = {"dataset": "digits", "other_dataset": "digits", "repetitions": 1, "images_per_class": 60}
  return dmgan.DmganConfig(**base | {"batch_size": 20, "adversary_lacks": "reconstruct"} | changes)


def test_settings_are_what_they_say():
  runs = dmgan.plan(config(repetitions=2, generator_epochs=3))
  assert [one.name for one in runs[:2]] == ["few_clients-seed0", "few_clients-seed1"]
  cells = {one.setting: one.config for one in runs}
  assert tuple(cells) == dmgan.SETTINGS
  assert [cell.num_clients for cell in cells.values()] == [10, 100, 10]
  # Three passes over 60 images, and over 6, in batches of 20.
  assert [cell.generator_steps for cell in cells.values()] == [9, 1, 9]
  assert {cell.generated_label for cell in cells.values()} == {"extra"}
  assert {cell.start_accuracy for cell in cells.values()} == {-1.0}  # From the first round on.
  for cell in cells.values():
    crpa_config.check(cell)


def test_the_last_class_can_be_reconstructed():
  for one in dmgan.plan(config(reconstruct=9)):
    crpa_config.check(one.config)


def test_bad_input_is_refused():
  for clients in ([10], [10, 100]):
    with pytest.raises(ConfigError, match="clients: give two numbers, of many and of few"):
      dmgan.plan(config(clients=clients))
  with pytest.raises(ConfigError, match="data_dir: "):
    dmgan.plan(config(other_dataset="cifar10", data_dir="nowhere"))


def run_of(setting, succeeded, **values):
  base = {
    "setting": setting, "num_clients": 10, "dataset": "mnist", "succeeded": succeeded,
    "first_round": 4.0 if succeeded else np.nan, "succeeded_rounds": 20, "judged": 30,
    "recognised": 0.7, "recognised_noise": 0.02,
    "correlation": 0.6, "other_correlation": 0.3, "psnr": 11.0, "guess_psnr": 9.0,
    "mean_psnr": 10.0, "ssim": 0.2, "guess_ssim": 0.1, "mean_ssim": 0.3, "identified": 0.01,
    "guess_identified": 0.02, "mean_identified": 0.0, "test_accuracy": 0.9,
  }  # fmt: skip
  return base | values


def cells(rows, **options):
  lines = dmgan_report.describe(pd.DataFrame(rows), **options)
  return [
    [c.strip() for c in line.split("|")[1:-1]] for line in lines if line[:3] in ("| f", "| o")
  ]


def test_the_table_compares_with_the_papers_words():
  rows = [run_of("few_clients", True), run_of("few_clients", True, first_round=8.0)]
  rows += [run_of("few_clients", False), run_of("other_data", False, dataset="cifar10")]
  few, other = cells(rows)
  assert few[:8] == ["few clients", "10", "mnist", "3", "2 of 3", "7", "20 of 30", "70%"]
  assert few[11:13] == ["11.0", "10.0"]
  assert (few[-1], other[-1]) == ("yes", "yes")
  assert (other[4], other[5]) == ("0 of 1", "")
  (missed,) = cells([run_of("few_clients", False)])
  assert missed[-1] == "no"
  gone = dict.fromkeys(("psnr", "ssim", "recognised"), np.nan)
  (diverged,) = cells([run_of("few_clients", False, **gone)])
  assert (diverged[7], diverged[11], diverged[13]) == ("", "", "")
  none = pd.DataFrame([run_of("few_clients", False)]).drop(columns=["psnr", "guess_psnr"])
  (diverged,) = cells(none.to_dict("records"))
  assert diverged[11] == ""
  (unsaid,) = cells([run_of("few_clients", True)], agreement=False)
  assert unsaid[-1] == ""


def test_the_committed_table_is_of_its_runs():
  folder = pathlib.Path(dmgan.__file__).parent / "results" / "dmgan"
  text = "\n".join(dmgan_report.describe(pd.read_csv(folder / "summary.csv")))
  assert (folder / "table.md").read_text() == text + "\n"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  folder = tmp_path_factory.mktemp("dmgan") / "sweep"
  result = programs.run(
    "dmgan", "preset=quick", "settings=[few_clients]", "rounds=2", f"output_dir={folder}"
  )
  assert result.returncode == 0, result.stdout + result.stderr + (folder / "log.txt").read_text()
  return folder


@pytest.mark.slow
def test_a_sweep_leaves_its_table_and_picture(swept):
  assert (swept / "table.md").read_text().count("\n| ") == 2
  Image.open(swept / "images" / "settings.png").verify()


@pytest.mark.slow
def test_scores_are_of_the_other_clients_images(swept):
  """By hand: the generated images, and those of the class in the clients' data."""
  summary = pd.read_csv(swept / "summary.csv", float_precision="round_trip").iloc[0]
  (one,) = dmgan.plan(
    config(
      settings=["few_clients"], clients=[12, 4], images_per_class=120, alpha=0.5, reconstruct=3
    )
  )
  with np.load(swept / "runs" / one.name / "reconstructions.npz") as arrays:
    generated = arrays["generated"]
  dataset = data.load("digits", None, 0)
  split, clients = crpa_setup.distribute(one.config, dataset)
  labels = np.concatenate([client.labels for client in clients])
  true = np.concatenate([client.images for client in clients])[labels == 3]
  assert len(true) == 120
  assert not split.table[split.adversary, 3]
  matching = leakage.match(generated, true)
  expected = leakage.psnr_of_each(generated, true[matching.order]).mean()
  assert summary["psnr"] == pytest.approx(expected, rel=1e-6)
  assert (summary["judged"], summary["num_clients"]) == (2, 4)
