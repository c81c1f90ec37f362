"""The script as a user runs it, and its federations."""

import json
import signal
import subprocess
import sys

import dp_accounting
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from experiments import semi_targeted_setup
from experiments.options import ConfigError
from tests import programs
from tests.experiments.test_semi_targeted_setup import config
from tff_attacks.metrics import classification

SHORT = ["num_clients=6", "samples_per_client=60", "clients_per_round=4", "rounds=6", "patience=2",
         "attacking_frequency=0.5", "checkpoint_every=1", "converge_rounds=6"]  # fmt: skip


def run(*arguments, **options):
  return programs.run_here("semi_targeted", *arguments, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  result = programs.run("semi_targeted", *SHORT, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  return folder, result.stdout


def test_leaves_its_results(finished):
  folder, output = finished
  assert "3 of 6 clients were compromised and took part" in output
  metrics = pd.read_csv(folder / "metrics.csv")
  summary = json.loads((folder / "summary.json").read_text())
  assert len(metrics) == 6
  attacked = metrics[metrics["malicious_clients"].cumsum() > 0]
  assert summary["best_ata"] == attacked["ata"].max()
  best = attacked.loc[attacked["ata"].idxmax()]
  assert summary["its_mta"] == best["mta"]
  assert summary["its_targets"] == {"2": best["target_2"]}
  assert summary["not_finite"] == 0
  matrices = classification.read_confusion_matrices(folder / "confusion.csv")
  for matrix, row in zip(matrices, metrics.to_dict("records"), strict=True):
    of_source = matrix[2] / matrix[2].sum()
    others = np.delete(np.arange(10), 2)
    expected = {
      "ata": np.nan if row["target_2"] == -1 else of_source[int(row["target_2"])],
      "max_ata": of_source[others].max(),
      "mta": np.diag(matrix)[others].sum() / matrix[others].sum(),
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)
  # Those who take part are drawn anew, not as in the rounds before the attack.
  drawn = [json.loads(row) for row in pd.read_csv(folder / "clients.csv")["client"]]
  sample = semi_targeted_setup.prepare(config(seed=0)).sample
  assert drawn == [sample(6 + i) for i in range(6)]
  assert (metrics["max_ata"] >= metrics["ata"].fillna(0)).all()
  assert summary["malicious_clients_in_all"] == metrics["malicious_clients"].sum() > 0
  # ADA chooses another class than the source, once a compromised client is there.
  chosen = metrics["target_2"][metrics["malicious_clients"].cumsum() > 0]
  assert not chosen.isin([-1, 2]).any()
  clients = pd.read_csv(folder / "clients.csv")
  for (_, row), (_, who) in zip(metrics.iterrows(), clients.iterrows(), strict=True):
    malicious, norms = json.loads(who["malicious"]), json.loads(who["update_norm"])
    assert len(json.loads(who["client"])) == len(malicious) == len(norms) == 4
    assert sum(malicious) == row["malicious_clients"]
    if not all(malicious):
      assert np.mean(np.array(norms)[~np.array(malicious)]) == pytest.approx(row["honest_norm"])
    # Who is compromised has a target, and nobody else.
    assert [target != -1 for target in json.loads(who["target_2"])] == malicious
  for name in ("accuracies", "norms", "features"):
    Image.open(folder / "images" / f"{name}.png").verify()


def test_says_that_it_had_not_converged(finished):
  folder, output = finished
  summary = json.loads((folder / "summary.json").read_text())
  assert (summary["rounds_before_attack"], summary["converged"]) == (6, False)
  assert len(pd.read_csv(folder / "convergence" / "metrics.csv")) == 6
  assert "After 6 rounds (its loss was still falling), 3 of 6 clients" in output
  assert summary["before_attack"]["test_accuracy"] > 0.3


@pytest.mark.slow
def test_stops_when_it_has_converged(tmp_path):
  result = run(
    *SHORT[:-1], "learning_rate=0.05", "converge_rounds=200", "rounds=1", "attack=none",
    f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  losses = pd.read_csv(tmp_path / "convergence" / "metrics.csv")["test_loss"]
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert summary["converged"]
  assert summary["rounds_before_attack"] == len(losses) < 200
  assert len(losses) - 1 - losses.idxmin() == 2
  assert summary["malicious_norm"] is None  # Nobody is compromised.


@pytest.mark.slow
def test_a_model_that_diverges_before_the_attack_is_said_so(tmp_path):
  # One step a client: of more, the server would refuse the updates, which are no numbers.
  one_step = [option.replace("client=60", "client=16") for option in SHORT]
  result = run(*one_step, "learning_rate=1e12", f"output_dir={tmp_path}")
  assert result.returncode == 1
  assert "error: the global model diverged in round " in result.stderr
  assert "Traceback" not in result.stderr


def test_starts_from_the_converged_model_of_another_run(finished, tmp_path):
  """Which makes it the run that it would have been."""
  folder, _ = finished
  result = run(*SHORT, f"start_from={folder}", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  assert not (tmp_path / "convergence").exists()
  first, second = (pd.read_csv(path / "metrics.csv") for path in (folder, tmp_path))
  pd.testing.assert_frame_equal(
    first.drop(columns="seconds"), second.drop(columns="seconds"), rtol=1e-3, atol=1e-4
  )


@pytest.mark.slow
def test_optimizers_that_are_kept_go_on_in_the_attack(tmp_path):
  """Of the same run, and of one that starts from where another converged."""
  kept = [*SHORT, "keep_optimizer_state=true", "rounds=3"]
  folders = [tmp_path / name for name in ("whole", "started")]
  for folder, start in zip(folders, ([], [f"start_from={folders[0]}"]), strict=True):
    result = run(*kept, *start, f"output_dir={folder}")
    assert result.returncode == 0, result.stderr
  first, second = (pd.read_csv(folder / "metrics.csv") for folder in folders)
  pd.testing.assert_frame_equal(
    first.drop(columns="seconds"), second.drop(columns="seconds"), rtol=1e-3, atol=1e-4
  )
  with np.load(folders[0] / "converged.npz") as arrays:
    steps = next(a for a in arrays.values() if a.shape == (6,) and a.dtype == np.int32)
  # Six rounds of four clients, whose 60 images are four batches.
  assert steps.sum() == 6 * 4 * 4


def test_robust_rules_say_whom_they_rejected(finished, tmp_path):
  folder, _ = finished
  result = run(
    *SHORT, f"start_from={folder}", "attack=model_replacement", "boost=1e4", "rounds=3",
    "aggregator=norm_filter", "norm_bound=100", f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  metrics = pd.read_csv(tmp_path / "metrics.csv")
  assert (metrics["rejected_malicious"] == metrics["malicious_clients"]).all()
  assert (metrics["rejected_honest"] == 0).all()
  assert metrics["malicious_norm"].max() > 1000 * metrics["honest_norm"].max()
  assert metrics["test_accuracy"].min() > 0.3


def test_epsilon_is_that_of_whoever_took_part_most_often(tmp_path):
  """Before and under the attack; nobody is protected by chance."""
  noise = ["aggregator=dp", "norm_bound=1", "noise_multiplier=0.5", "delta=0.01"]
  result = run(*SHORT, *noise, "rounds=3", "converge_rounds=2", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  sample = semi_targeted_setup.prepare(config(seed=0)).sample
  under = [json.loads(row) for row in pd.read_csv(tmp_path / "clients.csv")["client"]]
  metrics = pd.read_csv(tmp_path / "metrics.csv")
  for done, found in enumerate(metrics["epsilon"], start=1):
    rounds = [sample(0), sample(1), *under[:done]]
    most = int(np.bincount(np.concatenate(rounds)).max())
    accountant = dp_accounting.rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(0.5), most)
    assert found == pytest.approx(accountant.get_epsilon(0.01))
  text = " ".join((tmp_path / "privacy.txt").read_text().split())
  assert f"No one of the 6 clients takes part in more than {most} of the 5 rounds." in text
  assert text in " ".join(result.stdout.split())


@pytest.mark.parametrize("option", ["start_from={}", "honest_sources=false"])
def test_noise_proves_nothing_of_what_was_without_it(option, finished, tmp_path):
  """Weights of another training, or images of honest clients at compromised ones."""
  result = run(
    *SHORT, "aggregator=dp", "norm_bound=1", "noise_multiplier=0.5", "rounds=1",
    option.format(finished[0]), f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert "epsilon" not in pd.read_csv(tmp_path / "metrics.csv")
  assert (tmp_path / "privacy.txt").read_text().startswith("No guarantee of differential privacy:")


def stop(start, table, how):
  """Stops a run once a table has two rows; returns its status and its output."""
  with programs.started("semi_targeted", *start) as program:
    programs.wait_until(lambda: table.exists() and table.read_text().count("\n") >= 3, program)
    program.send_signal(how)
    output, _ = program.communicate(timeout=100)
  return program.returncode, output


@pytest.mark.slow
def test_killed_while_it_converges_and_while_it_attacks(finished, tmp_path):
  stop([*SHORT, f"output_dir={tmp_path}"], tmp_path / "convergence" / "metrics.csv", signal.SIGKILL)
  stop([f"resume={tmp_path}"], tmp_path / "metrics.csv", signal.SIGKILL)
  result = run(f"resume={tmp_path}")
  assert result.returncode == 0, result.stderr
  first, second = (pd.read_csv(path / "metrics.csv") for path in (finished[0], tmp_path))
  pd.testing.assert_frame_equal(
    first.drop(columns="seconds"), second.drop(columns="seconds"), rtol=1e-3, atol=1e-4
  )


@pytest.mark.slow
def test_interrupted_while_it_converges(tmp_path):
  """Nothing that is half trained may count as converged."""
  start = [*SHORT, "converge_rounds=500", "patience=500", f"output_dir={tmp_path}"]
  status, output = stop(start, tmp_path / "convergence" / "metrics.csv", signal.SIGINT)
  assert status == 130, output
  assert f"resume={tmp_path}" in output
  assert not (tmp_path / "converged.npz").exists()
  assert not (tmp_path / "metrics.csv").exists()


WITHOUT_TARGETS = """
from experiments import program, semi_targeted, semi_targeted_setup
from tff_attacks.attacks import attack

semi_targeted_setup._attack = lambda shapes, parameters, from_logits: attack.honest()
program.main(
  "experiments.semi_targeted", semi_targeted.SemiTargetedConfig, semi_targeted.SUMMARY,
  semi_targeted.run,
)
"""


@pytest.mark.slow
def test_an_attack_that_chooses_no_target_is_measured_by_the_configured_one(tmp_path):
  """As that of the README, once it is named among those of the script."""
  options = [*SHORT, "attack=label_flipping", "target=7", f"output_dir={tmp_path / 'run'}"]
  command = [sys.executable, "-c", WITHOUT_TARGETS, *options]
  result = subprocess.run(command, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr
  clients = pd.read_csv(tmp_path / "run" / "clients.csv")
  for _, row in clients.iterrows():
    found = np.array(json.loads(row["target_2"]))
    np.testing.assert_array_equal(found, np.where(json.loads(row["malicious"]), 7, -1))


@pytest.mark.slow
def test_several_sources_at_once(tmp_path):
  result = run(*SHORT, "sources=[2,4]", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  metrics = pd.read_csv(tmp_path / "metrics.csv")
  assert not metrics["target_2"].isin([-1, 2]).any()
  assert not metrics["target_4"].isin([-1, 4]).any()
  matrices = classification.read_confusion_matrices(tmp_path / "confusion.csv")
  for matrix, row in zip(matrices, metrics.to_dict("records"), strict=True):
    shares = [matrix[s, int(row[f"target_{s}"])] / matrix[s].sum() for s in (2, 4)]
    assert row["ata"] == pytest.approx(np.mean(shares))
    others = np.delete(np.arange(10), [2, 4])
    assert row["mta"] == pytest.approx(np.diag(matrix)[others].sum() / matrix[others].sum())


def merged(image_shape, num_classes):
  """A model that ends with no fully connected layer."""
  inputs = tf.keras.Input(image_shape)
  flat = tf.keras.layers.Flatten()(inputs)
  halves = [tf.keras.layers.Dense(num_classes)(flat) for _ in range(2)]
  return tf.keras.Model(inputs, tf.keras.layers.Average()(halves))


@pytest.mark.slow
def test_a_model_without_a_fully_connected_end(tmp_path):
  result = run(
    *SHORT, "attack=label_flipping", "target=7", f"model={__name__}:merged",
    f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert not (tmp_path / "features.npz").exists()
  assert (tmp_path / "images" / "accuracies.png").exists()


def test_once_begun_it_needs_its_start_no_more(finished):
  folder, _ = finished
  begun = config(start_from="/nowhere", output_dir=str(folder))
  assert semi_targeted_setup.prepare(begun).start is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": "attacking_distance_unpooled"}, "has model=attacking_distance, not attacking_dis"),
    ({"converge_rounds": 9}, "has converge_rounds=.*, not 9"),
    ({"converge_rounds": 6, "patience": 9}, "has patience=2, not 9"),
    ({"seed": 1}, "has seed=0, not 1"),
    ({"samples_per_client": 50}, "has samples_per_client=60, not 50"),
    ({"learning_rate": 0.1}, "has learning_rate=0.001, not 0.1"),
    ({"keep_optimizer_state": True}, "has keep_optimizer_state=False, not True"),
  ],
)
def test_another_federation_is_no_start(changes, message, finished):
  folder, _ = finished
  with pytest.raises(ConfigError, match=f"start_from: .* {message}"):
    semi_targeted_setup.prepare(config(start_from=str(folder), **changes))


def test_bad_input_leaves_nothing(tmp_path):
  folder = tmp_path / "results"
  result = run("aggregator=krum", "clients_per_round=4", f"output_dir={folder}")
  assert result.returncode == 2
  assert "error: aggregator: krum needs 5 clients" in result.stderr
  assert not folder.exists()


def test_a_class_that_honest_clients_lack_is_forgotten(finished, tmp_path):
  """Without any attack; so that it is what an attack is measured against."""
  folder, _ = finished
  result = run(
    *SHORT, f"start_from={folder}", "attack=none", "honest_sources=false", "rounds=4",
    f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  text = pd.read_csv(tmp_path / "confusion.csv")["confusion"]
  first, last = (np.array(json.loads(text.iloc[i])) for i in (0, -1))
  assert last[2, 2] < first[2, 2] / 2
  assert np.delete(np.diag(last), 2).sum() >= np.delete(np.diag(first), 2).sum()


@pytest.mark.slow
def test_a_round_of_the_published_setting(shared_data, tmp_path):
  """MNIST, 100 clients with 500 images each, 10 in a round."""
  result = run(
    "preset=paper", f"data_dir={shared_data}", "rounds=1", "converge_rounds=1", "test_images=500",
    f"output_dir={tmp_path}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert json.loads((tmp_path / "summary.json").read_text())["test_accuracy"] > 0.3
