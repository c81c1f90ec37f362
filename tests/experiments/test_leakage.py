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

from experiments import leakage_attacks, leakage_config, leakage_run, leakage_setup, program
from experiments.leakage_config import ATTACKS, LeakageConfig, check, sought_images
from experiments.options import ConfigError
from tests import programs
from tff_attacks import keras_state
from tff_attacks.leakage import labels, leakage
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


def probabilities(image_shape, num_classes):
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [layers.Input(image_shape), layers.Flatten(), layers.Dense(num_classes), layers.Softmax()]
  )


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
  setup = leakage_setup.prepare(program.load_config(LeakageConfig, str(folder)))
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
  # With another seed, the server's images might be a client's.
  refused = run(*options, "seed=1", f"start_from={tmp_path / 'first'}")
  assert refused.returncode == 2
  assert "has seed=0, not 1" in refused.stderr


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["attack=idlg"], "images: idlg looks for a single one, give images=1"),
    (["labels=idlg"], "images: idlg looks for a single one, give images=1"),
    (["images=5"], "images: the client trains on 4"),
    (["labels=given", "images=2"], "images: labels=given has 4 labels, leave it out"),
    (["victims=11"], "victims: there are 10 clients"),
    (["attack=robbing_the_fed"], "imprint_bins: robbing_the_fed needs an imprint block"),
    (["imprint_weights=small"], "imprint_weights: there is no imprint block"),
    (["imprint_bins=1"], "imprint_bins: must be 0, or 2 or more"),
    (["attack_options=[steps]"], "attack_options: 'steps' is not allowed; allowed: <name>:<value>"),
    (["attack=ggl", "images=1", "auxiliary_images=63"], "auxiliary_images: ggl needs 64"),
    (["start_from=results"], "start_from: inverting_gradients takes no generator"),
    (["batch_size=50"], "batch_size: must be samples_per_client or less"),
  ],
)
def test_bad_input_is_refused_by_name(options, message):
  result = run(*options)
  assert result.returncode == 2
  assert message in result.stderr


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"samples_per_client": 1000}, "3 clients need 3000 images, the training set has 937 beside"),
    ({"auxiliary_images": 1430}, "3 clients need 24 images, the training set has 7 beside"),
    (
      {"samples_per_client": 300, "partition": "dirichlet"},
      "3 clients of equal size and whole classes have .* images, not 300",
    ),
    ({"labels": "rlu", "auxiliary_images": 0}, "labels=rlu needs images of every class"),
    (
      {"labels": "yin", "batch_size": 8, "mode": "federated", "samples_per_client": 11},
      "yin takes",
    ),
    ({"test_images": 400}, "test_images: there are 360, not 400"),
    (
      {
        "attack": "cocktail_party",
        "mode": "federated",
        "samples_per_client": 300,
        "images": 300,
      },
      "images: 256 units of 784 features cannot tell 300 apart, give images=256",
    ),
    ({"attack": "cocktail_party", "model": "cnn"}, "needs a fully connected first layer"),
    ({"attack": "robbing_the_fed", "model": "cnn"}, "needs an imprint block at its beginning"),
    ({"model": "tests.tiny:IMAGE_SHAPE"}, "model: 'tests.tiny:IMAGE_SHAPE' is no function"),
    ({"dataset": "cifar10", "attack": "grnn", "model": "mlp"}, "data_dir: nowhere/cifar10.npz"),
    ({"attack": "dlg", "labels": "irlg"}, "labels: dlg has its own way"),
    ({"model": f"{__name__}:probabilities"}, "model: needs a Dense last layer"),
    ({"model": "crpa", "labels": "rlu"}, "labels: rlu needs a model without a class for gene"),
    ({"attack_options": ["std:0"]}, "inverting_gradients has no 'std'"),
    ({"attack_options": ["foo:1"]}, "inverting_gradients has no 'foo'; allowed: learning_rate:0.1"),
    ({"attack_options": ["unroll:maybe"]}, "unroll must be true or false, not 'maybe'"),
    ({"attack_options": ["unroll:["]}, "unroll must be true or false"),
    ({"attack_options": ["learning_rate:fast"]}, "learning_rate must be a number, 0 or more"),
    ({"attack_options": ["learning_rate:NaN"]}, "learning_rate must be a number, 0 or more"),
    ({"attack_options": ["learning_rate:-1"]}, "learning_rate must be a number, 0 or more"),
    ({"attack": "ggl", "images": 1, "start_from": "nowhere"}, "start_from: nowhere/config.yaml"),
  ],
)
def test_bad_input_that_only_the_data_shows(changes, message):
  with pytest.raises(ConfigError, match=message):
    leakage_setup.prepare(config(data_dir="nowhere", **changes))


def test_features_that_are_fewer_than_the_images_cannot_be_told_apart():
  """VGG16 has 4,096 units, but 512 features of small images."""
  layers = tf.keras.layers

  def model_fn():
    return tf.keras.Sequential(
      [
        layers.Input([8, 8, 1]),
        layers.Conv2D(3, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(50),
        layers.Dense(10),
      ]
    )

  asked = config(attack="feature_inversion", batch_size=4)
  with pytest.raises(ValueError, match="50 units of 3 features cannot tell 4 apart, give images=3"):
    leakage_attacks.build(asked, model_fn, None)


@pytest.mark.parametrize("attack", ATTACKS)
def test_settings_reach_the_attack(attack):
  one = config(attack=attack, steps=7)
  found = leakage_attacks.settings(one)
  if attack == "robbing_the_fed":
    assert found == {}
    return
  assert found["evaluations" if attack == "ggl" else "steps"] == 7
  published = leakage_attacks.settings(config(attack=attack, search="published"))
  assert published == {}


@pytest.mark.parametrize("weights", ["published", "small"])
def test_the_imprint_block_is_the_asked_for(weights):
  asked = config(attack="robbing_the_fed", imprint_bins=5, imprint_weights=weights)
  _, _, second, *_ = leakage_setup.prepare(asked).model_fn().get_weights()
  assert (np.ptp(second) == 0) == (weights == "published")


def test_an_imprint_block_is_sent_anew_to_the_victims():
  one = config(
    attack="robbing_the_fed", mode="federated", imprint_bins=5, imprint_weights="small", rounds=1
  )
  setup = leakage_setup.prepare(one)
  initial = keras_state.initial_weights(setup.model_fn, one.seed)
  clients = [setup.federation.initial_client(0, i) for i in range(3)]
  with in_process.in_process():
    server, clients, _ = setup.federation.process.next(
      setup.federation.initial_server(initial, one.seed), clients, setup.data
    )
    seen = leakage_setup.observe(one, setup, server, clients[0], setup.data[0]).weights.trainable
  trained = server.weights.trainable
  unmoved = [np.array_equal(*pair) for pair in zip(trained, initial.trainable, strict=True)]
  assert not any(unmoved)
  for part, block in zip(seen[:4], initial.trainable[:4], strict=True):
    np.testing.assert_array_equal(part, block)
  for part, own in zip(seen[4:], trained[4:], strict=True):
    np.testing.assert_array_equal(part, own)


def test_attacks_published_for_one_gradient_take_an_update_for_a_batchs():
  sought = {
    name: sought_images(config(attack=name, mode="federated", batch_size=3)) for name in ATTACKS
  }
  assert {name for name, count in sought.items() if count is not None} == {
    "dlg", "grnn", "cocktail_party", "feature_inversion",
  }  # fmt: skip
  assert set(sought.values()) == {None, 3}
  assert sought_images(config(attack="dlg", mode="federated", batch_size=500)) == 8
  assert sought_images(config(attack="dlg", mode="federated", images=2)) == 2
  assert sought_images(config(attack="dlg", mode="gradient")) is None


def test_numbers_are_read_as_the_attack_wants_them():
  found = leakage_attacks.settings(
    config(attack_options=["learning_rate:1", "total_variation:1e-4", "unroll:false"])
  )
  assert found == {"learning_rate": 1.0, "total_variation": 1e-4, "unroll": False, "steps": 600}
  assert isinstance(found["learning_rate"], float)


def test_every_label_inference_can_be_asked_for():
  assert {*leakage_config.LABELS, "given"} == set(labels.METHODS)


def test_every_attack_is_checked():
  for attack in ATTACKS:
    check(config(attack=attack, images=1, imprint_bins=10))


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
