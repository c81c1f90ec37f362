"""The script as a user runs it, and its federations."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from experiments import information_stealing_setup
from experiments.information_stealing_config import InformationStealingConfig, check
from experiments.options import ConfigError
from tests import programs
from tff_attacks.learning import aggregation
from tff_attacks.metrics import classification

SHORT = [
  "rounds=6", "images_per_class=40", "samples_per_round=10", "generator_steps=4",
  "generated_images=30", "latest_start=3", "image_every=1", "checkpoint_every=1",
]  # fmt: skip


def run(*arguments, **options):
  return programs.run_here("information_stealing", *arguments, **options)


def config(**changes):
  return InformationStealingConfig(**{"images_per_class": 20, "latest_start": 3} | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  result = programs.run("information_stealing", *SHORT, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  return folder, result.stdout


def test_leaves_a_complete_results_folder(finished):
  folder, _ = finished
  metrics = pd.read_csv(folder / "metrics.csv")
  assert metrics["attack_started"].tolist() == [-1, -1, -1, 3, 3, 3]
  assert {"precision", "recall", "f1", "target_recall", "training_loss_10"} <= set(metrics.columns)
  matrices = classification.read_confusion_matrices(folder / "confusion.csv")
  for matrix, row in zip(matrices, metrics.to_dict("records"), strict=True):
    assert row["test_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    for prefix, too in (("", True), ("honest_", False)):
      for name, value in classification.macro_scores(matrix, too)._asdict().items():
        assert row[prefix + name] == pytest.approx(value)
  # Nothing to train on before the attack.
  assert (metrics["training_loss_10"] > 0).tolist() == [False] * 3 + [True] * 3
  quality = pd.read_csv(folder / "reconstruction.csv")
  assert quality["round"].tolist() == [3, 4, 5]
  assert quality["distance"].to_numpy() == pytest.approx(2 * quality["distance_unit"].to_numpy())
  for picture in ("roc", "scores", "distance", "progress", "reconstructions", "round_0004"):
    Image.open(folder / "images" / f"{picture}.png").verify()


@pytest.mark.slow
def test_a_model_that_diverges_is_reported_to_the_end(tmp_path):
  # Its hidden units are bounded, so that less stays finite.
  result = run(*SHORT, "learning_rate=1e38", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert summary["test_loss"] is None
  assert summary["auc"]["final"] == {}


def test_the_report_says_that_the_accuracy_was_not_reached(finished):
  folder, output = finished
  assert "A client without data attacked from round 4 on, when latest_start had come" in output
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["threshold_round"] is None
  assert summary["attack_started"] == 3
  assert set(summary["auc"]) == {"initial", "final"}
  metrics = pd.read_csv(folder / "metrics.csv")
  assert summary["before_attack"]["f1"] == pytest.approx(metrics["f1"][:3].mean())
  assert summary["after_attack"]["f1"] == pytest.approx(metrics["f1"][3:].mean())


@pytest.mark.slow
def test_resumes_to_the_same_numbers(tmp_path):
  """In the midst of the attack."""
  whole, resumed = tmp_path / "whole", tmp_path / "resumed"
  for rounds, folder in ((6, whole), (4, resumed)):
    options = [*SHORT, f"rounds={rounds}", "start_accuracy=0.1", f"output_dir={folder}"]
    assert run(*options).returncode == 0
  programs.ask_for_more(resumed, 4, 6)
  result = run(f"resume={resumed}")
  assert result.returncode == 0, result.stderr
  assert "4/6" in result.stderr
  assert "0/6" not in result.stderr
  scores = [np.load(folder / "scores_reached.npz")["probabilities"] for folder in (whole, resumed)]
  np.testing.assert_array_equal(*scores)
  for name in ("metrics", "reconstruction", "confusion"):
    first, second = (pd.read_csv(f / f"{name}.csv") for f in (whole, resumed))
    pd.testing.assert_frame_equal(
      first.drop(columns="seconds", errors="ignore"),
      second.drop(columns="seconds", errors="ignore"),
      check_exact=True,
    )


def test_two_users_and_the_control(tmp_path):
  result = run(*SHORT, "victim_classes=[0,3]", "attack=none", "rounds=2", f"output_dir={tmp_path}")
  assert result.returncode == 0, result.stderr
  assert "Without any attack, test accuracy ended at" in result.stdout
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert set(summary["auc"]["final"]) == {"0", "3"}


def test_each_honest_user_holds_a_class_and_the_adversary_nothing():
  setup = information_stealing_setup.prepare(config())
  held = [(set(images.labels.tolist()), images.labels.size) for images in setup.data]
  assert held == [({label}, 20) for label in range(10)] + [(set(), 0)]
  assert set(setup.dataset.test.labels) == set(range(10))


def test_noise_optimizers_and_aggregator_are_the_asked_for(monkeypatch):
  seed = tf.constant([0, 1])
  for noise, largest in (("uniform", 1), ("normal", 4)):
    drawn = information_stealing_setup.prepare(config(noise=noise)).draw_noise(50, seed)
    assert largest * 0.5 < np.abs(drawn).max() <= largest * 1.5
  kept, dropped = (
    information_stealing_setup.prepare(config(keep_optimizer_state=keep)).federation
    for keep in (True, False)
  )
  assert tf.nest.flatten(kept.initial_client(0, 0).optimizer)
  assert not tf.nest.flatten(dropped.initial_client(0, 0).optimizer)
  asked, build = [], aggregation.build_aggregator
  monkeypatch.setattr(
    aggregation, "build_aggregator", lambda name: asked.append(name) or build(name)
  )
  options = {
    "target": 3, "generated_images": 31, "generator_steps": 7, "total_variation": 0.5,
    "generator_learning_rate": 0.25, "start_accuracy": 0.75, "latest_start": 5,
  }  # fmt: skip
  setup = information_stealing_setup.prepare(
    config(**options, samples_per_round=11, learning_rate=0.125, aggregator="nonempty_mean",
           keep_optimizer_state=True)
  )  # fmt: skip
  expected = {name: options[name] for name in options if name != "generator_steps"}
  assert setup.parameters._asdict() == expected | {"steps": 7, "drawn_images": 11}
  assert float(setup.federation.initial_client(0, 0).optimizer["learning_rate"]) == 0.125
  assert asked == ["nonempty_mean"]


def test_a_victim_of_two_users_holds_its_classes():
  setup = information_stealing_setup.prepare(config(victim_classes=[3, 7], target=7))
  assert [images.labels.size for images in setup.data] == [40, 0]
  assert set(setup.data[0].labels) == set(setup.dataset.test.labels) == {3, 7}
  # The judge still sees every class.
  assert np.unique(setup.dataset.train.labels).size == 10


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"target": 10}, "target: 10 is not a class of digits; allowed: 0 to 9"),
    ({"victim_classes": [0, 11]}, "victim_classes: 11 is not a class of digits"),
    ({"victim_classes": [2, 2], "target": 2}, "victim_classes: a class is named twice"),
    ({"victim_classes": [2], "target": 1}, "target: the victim does not hold 1"),
    ({"start_accuracy": 1.0}, "start_accuracy: 1.0 is not allowed; allowed: 0 or more, below 1"),
    ({"generated_images": 20}, "generated_images: must be samples_per_round or more"),
    ({"noise": "pink"}, "noise: 'pink' is not allowed; allowed: uniform, normal"),
  ],
)
def test_refuses_before_anything_is_loaded(changes, message):
  with pytest.raises(ConfigError, match=message):
    check(config(**changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"images_per_class": 1000}, "images_per_class: 1000 images of class 0 are needed"),
    ({"model": "models.judge:classifier"}, "model: needs 11 outputs, one for generated images"),
    ({"generator": "other"}, "generator: unknown 'other'"),
    ({"test_images": 3}, "test_images: no test image of class"),
  ],
)
def test_refuses_what_the_data_or_the_models_rule_out(changes, message):
  with pytest.raises(ConfigError, match=message):
    information_stealing_setup.prepare(config(**changes))


def test_bad_input_ends_with_2_and_leaves_nothing(tmp_path):
  for arguments in (["preset=small"], ["dataset=mnist", "data_dir=/nowhere"]):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
  assert not list(tmp_path.iterdir())


def test_help_shows_its_own_presets():
  text = run("--help").stdout
  assert "python -m experiments.information_stealing [option=value ...]" in text
  assert "paper: 120" in text
