"""The script as a user runs it, and what the server sees."""

import contextlib
import dataclasses
import json
import signal
import time
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tqdm
from PIL import Image

from experiments import leakage_run, leakage_setup, saved_config
from experiments.leakage_config import LeakageConfig
from experiments.options import ConfigError
from tests import programs
from tff_attacks.leakage import leakage
from tff_attacks.metrics import leakage as metrics
from tff_attacks.runtime import in_process

SHORT = [
  "samples_per_client=8", "num_clients=3", "auxiliary_images=70", "model=mlp", "steps=5",
]  # fmt: skip


def run(*arguments, **options):
  return programs.run_here("leakage", *arguments, **options)


def config(**changes):
  small = {"num_clients": 3, "samples_per_client": 8, "batch_size": 4, "model": "mlp"}
  return LeakageConfig(**small | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  options = [*SHORT, "mode=federated", "rounds=2", "victims=2"]
  result = programs.run("leakage", *options, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  return folder, result


def test_leaves_a_complete_results_folder(finished):
  folder, result = finished
  assert pd.read_csv(folder / "metrics.csv")["round"].tolist() == [0, 1]
  scores = pd.read_csv(folder / "scores.csv")
  assert len(scores) == 2
  assert {"psnr", "guess_psnr", "mean_psnr", "ssim", "correlation", "identified"} <= set(scores)
  assert (scores["steps"] == 5).all()
  assert scores["guess_label_accuracy"].between(0, 1, inclusive="right").all()
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["psnr"] == pytest.approx(scores["psnr"].mean())
  assert summary["rounds"] == 2
  for victim in range(2):
    Image.open(folder / "images" / f"victim_{victim}.png").verify()
    with np.load(folder / f"victim_{victim}.npz") as arrays:
      assert arrays["found"].shape == arrays["true"].shape == (8, 28, 28, 1)
  assert "From the update of a client after 2 rounds" in result.stdout
  assert summary["in_words"] in (folder / "report.html").read_text()
  assert "5/5" in result.stderr


def test_scores_are_of_the_clients_own_images_among_those_of_nobody(finished):
  folder, _ = finished
  scores = pd.read_csv(folder / "scores.csv")
  setup = leakage_setup.prepare(saved_config.load(LeakageConfig, str(folder)))
  for victim in range(2):
    seed = int(np.random.SeedSequence([0, victim]).generate_state(1)[0])
    with np.load(folder / f"victim_{victim}.npz") as arrays:
      compared = metrics.compare(arrays["found"], setup.data[victim], setup.dataset.test, seed)
    row = scores.loc[victim, ["psnr", "identified", "guess_psnr", "mean_psnr"]].tolist()
    found, guess, mean = compared.found, compared.guess, compared.mean
    expected = [found.psnr, found.identified, guess.psnr, mean.psnr]
    assert row == pytest.approx(expected, rel=1e-4)


def test_the_same_seed_gives_the_same_result(finished, tmp_path):
  folder, _ = finished
  again = run(*SHORT, "mode=federated", "rounds=2", "victims=2", f"output_dir={tmp_path / 'run'}")
  assert again.returncode == 0, again.stderr
  for name in ("victim_0.npz", "victim_1.npz"):
    with np.load(folder / name) as one, np.load(tmp_path / "run" / name) as other:
      np.testing.assert_array_equal(one["found"], other["found"])


def test_ctrl_c_keeps_the_best_so_far_and_the_rest_can_follow(tmp_path):
  folder = tmp_path / "run"
  options = [*SHORT[:-1], "victims=2", "steps=100000", f"output_dir={folder}"]
  with (
    (tmp_path / "log").open("w") as log,
    programs.started("leakage", *options, stderr=log, stdout=log) as process,
  ):
    programs.wait_until(lambda: "step/s" in (tmp_path / "log").read_text(), process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
  assert not (folder / "scores.csv").exists()
  assert not (folder / "summary.json").exists()
  assert (folder / "images" / "victim_0.png").exists()
  assert "PSNR" in (tmp_path / "log").read_text().rpartition("After")[2]
  with np.load(folder / "victim_0.npz") as arrays:
    assert 0 < len(arrays["losses"]) < 100000
  # It is the first victim's again; as many steps would take too long here.
  text = (folder / "config.yaml").read_text()
  (folder / "config.yaml").write_text(text.replace("steps: 100000", "steps: 5"))
  result = run(f"resume={folder}")
  assert result.returncode == 0, result.stderr
  assert pd.read_csv(folder / "scores.csv")["steps"].tolist() == [5, 5]


@pytest.mark.slow
def test_a_trained_generator_serves_another_run_of_its_seed(tmp_path):
  options = [
    *SHORT[:-1],
    "steps=40",
    "attack=ggl",
    "images=1",
    "attack_options=[]",
    "generator_steps=1",
  ]
  first = run(*options, f"output_dir={tmp_path / 'first'}")
  assert first.returncode == 0, first.stderr
  second = run(*options, f"start_from={tmp_path / 'first'}", f"output_dir={tmp_path / 'second'}")
  assert second.returncode == 0, second.stderr
  assert not (tmp_path / "second" / "generator.npz").exists()
  with (
    np.load(tmp_path / "first" / "victim_0.npz") as one,
    np.load(tmp_path / "second" / "victim_0.npz") as other,
  ):
    np.testing.assert_array_equal(one["found"], other["found"])
  (steps,) = pd.read_csv(tmp_path / "first" / "scores.csv")["steps"]
  assert 20 < steps <= 40  # Evaluations, of which a generation has 18.
  # With another seed, the server's images might be a client's.
  refused = run(*options, "seed=1", f"start_from={tmp_path / 'first'}")
  assert refused.returncode == 2
  assert "has seed=0, not 1" in refused.stderr


@pytest.fixture(scope="module")
def federated():
  one = config(mode="federated", rounds=1, learning_rate=1e-4, learning_rate_decay=0.5)
  setup = leakage_setup.prepare(one)
  clients = [setup.federation.initial_client(0, i) for i in range(3)]
  with in_process.in_process():
    server = setup.federation.process.initialize()
    yield one, setup, setup.federation.process.next(server, clients, setup.data)


def test_what_is_observed_does_not_depend_on_who_else_takes_part(federated):
  one, setup, (server, clients, _) = federated
  alone = leakage_setup.observe(one, setup, server, clients[1], setup.data[1])
  watched = [c._replace(observed=np.bool_(i == 1)) for i, c in enumerate(clients)]
  *_, measurements = setup.observing.process.next(server, watched, setup.data)
  expected = tf.nest.flatten(measurements["observed"])
  for found, part in zip(tf.nest.flatten(alone.update), expected, strict=True):
    np.testing.assert_allclose(found, part, atol=1e-7)


def test_the_learning_rate_decays_from_round_to_round(federated):
  one, setup, (server, clients, _) = federated
  slower = leakage_setup.observe(one, setup, server, clients[0], setup.data[0])
  assert slower.learning_rate == pytest.approx(5e-5)
  # The client's own state counts the steps: one that starts anew has the first rate.
  fresh = setup.federation.initial_client(0, 0)
  faster = leakage_setup.observe(one, setup, server, fresh, setup.data[0])
  norms = [tf.linalg.global_norm(tf.nest.flatten(seen.update)).numpy() for seen in (slower, faster)]
  assert norms[1] / norms[0] == pytest.approx(2, rel=0.02)


def test_the_server_sees_none_of_the_clients_images(federated):
  one, setup, (server, clients, _) = federated
  observation = leakage_setup.observe(one, setup, server, clients[0], setup.data[0])
  own = {image.tobytes() for client in setup.data for image in client.images}
  seen = {image.tobytes() for image in observation.auxiliary.images}
  assert not own & seen
  shapes = {np.shape(part)[1:] for part in tf.nest.flatten(observation._replace(auxiliary=()))}
  assert setup.dataset.image_shape not in shapes
  # What the server learned of its own images serves federations that are split otherwise.
  other = leakage_setup.prepare(config(partition="dirichlet", samples_per_client=30))
  assert seen == {image.tobytes() for image in other.auxiliary.images}


def test_dirichlet_clients_are_equally_large():
  largest = []
  for seed in range(3):
    one = config(partition="dirichlet", alpha=0.1, samples_per_client=33, seed=seed)
    setup = leakage_setup.prepare(one)
    assert [len(client.labels) for client in setup.data] == [33] * 3
    largest += [np.bincount(client.labels, minlength=10).max() for client in setup.data]
  # Equal shares would be 3.3 images of each class.
  assert np.mean(largest) > 10


@pytest.mark.slow
def test_a_search_that_would_take_too_long_is_given_up(tmp_path):
  folder = tmp_path / "run"
  result = run(*SHORT[:-1], "steps=100000000", "max_minutes=1", f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  assert "Not run: it would take" in result.stdout
  summary = json.loads((folder / "summary.json").read_text())
  assert int(summary["not_run"].split()[-2]) > 1  # Minutes.
  assert "psnr" not in summary


def test_an_image_folder_of_a_users_own(tmp_path):
  rng = np.random.default_rng(0)
  for label in range(2):
    (tmp_path / f"class{label}").mkdir()
    for i in range(20):
      pixels = rng.integers(0, 256, [70, 64, 3], np.uint8)
      Image.fromarray(pixels).save(tmp_path / f"class{label}" / f"{i}.png")
  one = config(dataset="image_folder", image_size=64, auxiliary_images=0)
  setup = leakage_setup.prepare(dataclasses.replace(one, data_dir=str(tmp_path)))
  assert setup.data[0].images.shape == (8, 64, 64, 3)
  assert setup.model_fn().output_shape == (None, 2)
  with pytest.raises(ConfigError, match="data_dir: image_folder needs one"):
    leakage_setup.prepare(one)


@pytest.mark.parametrize(
  ("options", "better"),
  [
    (["attack=robbing_the_fed", "imprint_bins=100", "model=mlp"], 50),
    pytest.param(["attack=grnn", "steps=150"], 5, marks=pytest.mark.slow),
    pytest.param(["attack=inverting_gradients", "steps=300"], 5, marks=pytest.mark.slow),
  ],
  ids=["robbing_the_fed", "grnn", "inverting_gradients"],
)
def test_single_images_of_tiny_imagenet_layout(options, better, tmp_path):
  """64x64 JPEGs in train/<class>/images, as that data set has them."""
  rng = np.random.default_rng(0)
  for label in range(2):
    folder = tmp_path / "train" / f"n{label:08d}" / "images"
    folder.mkdir(parents=True)
    for i in range(10):
      coarse = Image.fromarray(rng.integers(0, 256, [4, 4, 3], np.uint8))
      coarse.resize((64, 64), Image.BICUBIC).save(folder / f"n{label:08d}_{i}.JPEG")
  result = run(
    "dataset=image_folder", f"data_dir={tmp_path / 'train'}", "image_size=64", "num_clients=1",
    "samples_per_client=8", "batch_size=1", "auxiliary_images=0", *options,
    f"output_dir={tmp_path / 'run'}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  (score,) = pd.read_csv(tmp_path / "run" / "scores.csv").to_dict("records")
  assert score["psnr"] > max(score["guess_psnr"], score["mean_psnr"]) + better
  assert score["identified"] == 1


def test_without_victims_the_federation_is_only_trained(tmp_path):
  folder = tmp_path / "run"
  result = run(*SHORT, "victims=0", "rounds=2", f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  assert "Test accuracy after 2 rounds: " in result.stdout
  metrics = pd.read_csv(folder / "metrics.csv")
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["test_accuracy"] == pytest.approx(metrics["test_accuracy"].iloc[-1])


def test_a_client_that_diverged_is_reported(tmp_path):
  folder = tmp_path / "run"
  options = ["mode=federated", "learning_rate=1e20", "attack_options=[]", f"output_dir={folder}"]
  result = run(*SHORT, *options)
  assert result.returncode == 0, result.stderr
  assert "Failed: update: holds numbers that are not finite" in result.stdout
  assert "psnr" not in json.loads((folder / "summary.json").read_text())


def test_an_attack_that_cannot_run_is_no_failure_of_a_client(tmp_path, monkeypatch):
  monkeypatch.setattr(leakage, "mean_gradient", lambda observation: np.zeros(2) @ np.zeros(3))
  result = run(*SHORT, f"output_dir={tmp_path / 'run'}")
  assert result.returncode == 1
  assert "mismatch in its core dimension" in result.stderr


@pytest.mark.parametrize(
  ("phases", "given_up"),
  [
    ([(600, 1.0)], False),
    ([(600, 3.0)], True),
    # Half an hour, of which the first steps say nothing.
    ([(2000, 0.01), (600, 3.0)], True),
  ],
)
def test_a_search_is_given_up_for_its_speed_of_late(phases, given_up, monkeypatch):
  now = 0.0
  monkeypatch.setattr(leakage_run, "time", types.SimpleNamespace(monotonic=lambda: now))
  seconds = [length for steps, length in phases for _ in range(steps)]
  image = np.zeros([1, 8, 8, 1], np.float32)
  with tqdm.tqdm(total=len(seconds), disable=True) as bar:
    watch = leakage_run._watch(bar, image, [], max_minutes=20, any_scale=False)
    expected = pytest.raises(leakage_run._TooLongError, match="it would take 3")
    with expected if given_up else contextlib.nullcontext():
      for step, length in enumerate(seconds, 1):
        now += length
        watch(step, 0.0, lambda: image)
  assert (now < 60) == given_up
