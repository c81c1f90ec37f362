"""The script as a user runs it, and what its tables say of its files."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tqdm
from PIL import Image

from experiments import adversarial_leakage_run as adversarial_run
from experiments.adversarial_leakage_config import AdversarialLeakageConfig
from models import registry
from tests import programs
from tff_attacks.data import datasets
from tff_attacks.leakage import functional, gradient_matching, labels, leakage

SHORT = [
  "model=mlp", "transfer=[lenet]", "training_steps=20", "images=3", "stacks=[1,3]", "steps=100",
]  # fmt: skip


def run(*arguments, **options):
  return programs.run_here("adversarial_leakage", *arguments, **options)


def soft(image_shape, num_classes):
  """A model whose last layer is no Dense one."""
  layers = tf.keras.layers
  body = [layers.Input(image_shape), layers.Flatten(), layers.Dense(num_classes)]
  return tf.keras.Sequential([*body, layers.Activation("softmax")])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  result = programs.run("adversarial_leakage", *SHORT, f"output_dir={folder}")
  assert result.returncode == 0, result.stderr
  return folder, result


def test_leaves_a_complete_results_folder(finished):
  folder, result = finished
  scores = pd.read_csv(folder / "scores.csv")
  assert len(scores) == 3 * 2 * 2
  assert (scores["hits"] <= scores["stack"]).all()
  summary = json.loads((folder / "summary.json").read_text())
  assert len(summary["settings"]) == 4
  assert set(summary["accuracy"]) == {"mlp", "lenet"}
  for name in ("rates", "reconstructions_true_label", "reconstructions_wrong_label", "copies"):
    Image.open(folder / "images" / f"{name}.png").verify()
  text = (folder / "report.md").read_text()
  assert text in result.stdout
  assert "Independent: 1 - (1 - a)^B" in (folder / "report.html").read_text()
  assert "| lenet |" in text
  assert "training mlp" in result.stderr
  assert "1200/1200" in result.stderr


def target(folder):
  digits = datasets.load("digits")
  model = registry.GLOBAL_MODELS["mlp"](digits.image_shape, 10)
  with np.load(folder / "model_mlp.npz") as arrays:
    model.set_weights([arrays[name] for name in sorted(arrays)])
  return model, digits.test


def norm(model, image, label):
  with tf.GradientTape() as tape:
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
      [label], model(image[np.newaxis])
    )
  gradients = tape.gradient(loss, model.trainable_variables)
  return np.sqrt(sum((g.numpy() ** 2).sum() for g in gradients))


def test_scores_say_what_the_models_say(finished):
  folder, _ = finished
  model, test = target(folder)
  calls = model.predict(test.images, verbose=0).argmax(axis=1)
  pixels = datasets.load("digits").train.images
  scores = pd.read_csv(folder / "scores.csv")
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["accuracy"]["mlp"] == pytest.approx(np.mean(calls == test.labels))
  assert 0 < scores["hits"].sum() < scores["stack"].sum()  # Or the rest compares nothing.
  for row in scores.itertuples():
    assert row.true == test.labels[row.image]
    assert row.called == calls[row.image] != row.true
    assert (row.label == row.true) == (row.gradient == "true_label")
    assert row.label != row.called
    with np.load(folder / f"found_{row.round}.npz") as arrays:
      found = arrays["found"]
    assert found.shape == (row.stack, 28, 28, 1)
    outputs = tf.nn.softmax(model(found)).numpy()
    hit = outputs.argmax(axis=1) == row.label
    assert hit.sum() == row.hits
    in_range = tf.nn.softmax(model(np.clip(found, -1, 1))).numpy().argmax(axis=1)
    assert (in_range == row.label).sum() == row.hits_in_range
    assert (outputs.argmax(axis=1) == row.true).sum() == row.true_hits
    norms = np.array([norm(model, image, row.label) for image in found])
    assert row.hits_norm == pytest.approx(norms[hit].sum() / norms.sum(), rel=1e-4)
    true_image = (test.images[row.image] + 1) / 2
    errors = ((np.clip(found, -1, 1) + 1) / 2 - true_image) ** 2
    psnr = -10 * np.log10(errors.mean(axis=(1, 2, 3)))
    for copies, value in ((hit, row.hits_psnr), (~hit, row.others_psnr)):
      expected = psnr[copies].mean() if copies.any() else np.nan
      assert value == pytest.approx(expected, abs=1e-3, nan_ok=True)
    noise = np.random.default_rng(0).standard_normal([1000, 28, 28, 1]).astype(np.float32)
    noise = noise * pixels.std() + pixels.mean()
    called = model.predict(noise, verbose=0).argmax(axis=1)
    assert row.noise == np.mean(called == row.label)
    if hit.any():
      assert outputs[hit, row.label].mean() == pytest.approx(row.confidence, rel=1e-4)
  for row in summary["settings"]:
    own = scores[(scores["gradient"] == row["gradient"]) & (scores["stack"] == row["stack"])]
    assert row["copies"] == pytest.approx(own["hits"].sum() / (3 * row["stack"]))
    assert row["images"] == pytest.approx(np.mean(own["hits"] > 0))


def test_a_row_is_the_attack_on_the_stacked_images_gradient(finished, tmp_path):
  """The same, put together by hand: the gradient of one image is that of its stack."""
  # Not many steps: they are signs, which roundings may change.
  short = [*SHORT[:-1], "steps=4", f"start_from={finished[0]}", f"output_dir={tmp_path}"]
  result = run(*short)
  assert result.returncode == 0, result.stderr
  model, test = target(finished[0])
  row = pd.read_csv(tmp_path / "scores.csv").iloc[1]
  assert row["stack"] == 3
  batch = test.take([row["image"]])
  _, gradients = functional.inference_gradient(model, batch, None)
  observation = leakage.Observation(
    weights=leakage.ModelWeights(model.trainable_variables, []),
    update=leakage.ModelWeights([-g.numpy() for g in gradients], []),
    num_samples=3, batch_size=3, epochs=1, learning_rate=1.0, labels=np.repeat(row["true"], 3),
  )  # fmt: skip
  pixels = datasets.load("digits").train.images
  attack = gradient_matching.inverting_gradients(
    lambda: registry.GLOBAL_MODELS["mlp"]((28, 28, 1), 10),
    labels.given, steps=4, total_variation=0.1, box=False, mean=pixels.mean(), std=pixels.std(),
  )  # fmt: skip
  seed = int(np.random.SeedSequence([0, int(row["image"])]).generate_state(1)[0])
  with np.load(tmp_path / "found_1.npz") as arrays:
    np.testing.assert_allclose(attack(observation, seed).images, arrays["found"], atol=1e-3)


def test_a_killed_run_goes_on_to_the_same_numbers(finished, tmp_path):
  folder = tmp_path / "run"
  with programs.started("adversarial_leakage", *SHORT, f"output_dir={folder}") as process:
    programs.wait_until((folder / "scores.csv").exists, process)
    process.kill()
    process.wait()
  assert not (folder / "summary.json").exists()
  result = run(f"resume={folder}")
  assert result.returncode == 0, result.stderr
  assert "training" not in result.stderr
  one, other = (
    pd.read_csv(path / "scores.csv").drop(columns="seconds") for path in (finished[0], folder)
  )
  pd.testing.assert_frame_equal(one, other)


@pytest.mark.slow
def test_trained_models_serve_another_run(finished, tmp_path):
  folder, _ = finished
  options = [
    *SHORT, "choose=correct", "control=false", "stacks=[2]", "total_variations=[0.05,0.15]",
    "tensors=[alike,largest]", f"start_from={folder}", f"output_dir={tmp_path / 'run'}",
  ]  # fmt: skip
  result = run(*options)
  assert result.returncode == 0, result.stderr
  assert "training" not in result.stderr
  scores = pd.read_csv(tmp_path / "run" / "scores.csv")
  assert (scores["true"] == scores["called"]).all()
  assert len(scores) == 3 * 2 * 2
  assert not list((tmp_path / "run").glob("model_*"))
  text = (tmp_path / "run" / "report.md").read_text()
  assert "calls rightly" in text
  assert "0.05 | alike" in text
  other = run(*options[:-1], "seed=1", f"output_dir={tmp_path / 'other'}")
  assert other.returncode == 2
  assert "has seed=0, not 1" in other.stderr
  assert not (tmp_path / "other").exists()


def test_images_are_added_to_a_run_and_not_taken_away(finished, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(finished[0], folder)
  before = pd.read_csv(folder / "scores.csv")
  added = run(f"resume={folder}", "images=4")
  assert added.returncode == 0, added.stderr
  after = pd.read_csv(folder / "scores.csv")
  pd.testing.assert_frame_equal(after[: len(before)], before)
  assert after["image"].nunique() == 4
  assert "images: 4\n" in (folder / "config.yaml").read_text()
  refused = run(f"resume={folder}", "images=3")
  assert refused.returncode == 2
  assert "error: images: 4 are begun; give more, or leave it out" in refused.stderr


def test_a_run_does_not_go_on_with_other_images(finished, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(finished[0], folder)
  scores = pd.read_csv(folder / "scores.csv")
  scores.assign(image=scores["image"] + 1).to_csv(folder / "scores.csv", index=False)
  result = run(f"resume={folder}", "images=4")
  assert result.returncode == 2
  assert "error: resume: here the target calls other images wrongly" in result.stderr
  kept = (folder / "config.yaml").read_text()
  assert kept == (finished[0] / "config.yaml").read_text()


def test_a_folder_of_images(tmp_path):
  rng = np.random.default_rng(0)
  for name, mean in (("anna", 60), ("berta", 190)):
    (tmp_path / "faces" / name).mkdir(parents=True)
    for i in range(20):
      pixels = np.clip(rng.normal(mean, 70, [20, 20, 3]), 0, 255).astype(np.uint8)
      Image.fromarray(pixels).save(tmp_path / "faces" / name / f"{i}.png")
  result = run(
    "dataset=image_folder", f"data_dir={tmp_path / 'faces'}", "image_size=16", "model=lenet",
    "transfer=[mlp]", "training_steps=3", "batch_size=4", "images=1", "stacks=[2]", "steps=2",
    "choose=correct", "control=false", "augment=true", f"output_dir={tmp_path / 'run'}",
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  with np.load(tmp_path / "run" / "found_0.npz") as arrays:
    assert arrays["found"].shape == (2, 16, 16, 3)


def test_two_classes_have_no_wrong_label_beside_the_targets(tmp_path):
  for name in ("anna", "berta"):
    (tmp_path / name).mkdir()
    for i in range(5):
      Image.fromarray(np.full([8, 8, 3], i, np.uint8)).save(tmp_path / name / f"{i}.png")
  result = run("dataset=image_folder", f"data_dir={tmp_path}", "image_size=8")
  assert result.returncode == 2
  assert "control: a wrong label needs 3 classes or more, there are 2" in result.stderr


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (["stacks=[0]"], "stacks: [0] is not allowed; allowed: one or more, each 1 or more"),
    (["stacks=[2,2]"], "stacks: a value is named twice"),
    (["tensors=[some]"], "tensors: ['some'] is not allowed"),
    (["model=nothing"], "model: unknown 'nothing'"),
    (["transfer=[nothing]"], "transfer: unknown 'nothing'"),
    (["transfer=[mlp,mlp]"], "transfer: a model is named twice"),
    (["model=attacking_distance:x"], "model: 'attacking_distance:x' cannot be imported"),
    (["model=tests.experiments.test_adversarial_leakage:soft"], "needs a Dense last layer"),
    (["start_from=/nowhere"], "start_from: /nowhere/config.yaml cannot be read"),
    (["dataset=image_folder"], "data_dir: image_folder needs one"),
    (["seed=-1"], "seed: -1 is not allowed"),
    (["rounds=3"], "rounds: there is no such option"),
  ],
)
def test_bad_input(tmp_path, options, message):
  folder = tmp_path / "run"
  result = run(*options, f"output_dir={folder}")
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert not folder.exists()


def test_damaged_weights_are_refused(finished, tmp_path):
  folder = tmp_path / "damaged"
  shutil.copytree(finished[0], folder)
  (folder / "model_mlp.npz").write_bytes(b"no weights")
  result = run(*SHORT, f"start_from={folder}", f"output_dir={tmp_path / 'run'}")
  assert result.returncode == 2
  assert "model_mlp.npz cannot be read" in result.stderr


def test_a_training_whose_checkpoint_is_damaged_does_not_go_on(finished, tmp_path):
  folder = tmp_path / "damaged"
  shutil.copytree(finished[0], folder)
  (folder / "model_mlp.npz").unlink()
  (checkpoint,) = folder.glob("checkpoints/model_mlp/*.data*")
  checkpoint.write_bytes(b"no weights")
  result = run(f"resume={folder}")
  assert result.returncode == 2
  (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
  assert line.endswith("remove its folder to train anew")
  assert "Traceback" not in result.stderr


def test_an_attempt_that_cannot_be_run_says_why():
  digits = datasets.load("digits")
  model = registry.GLOBAL_MODELS["mlp"](digits.image_shape, 10)
  calls = np.zeros(len(digits.test.labels), np.int64)
  asked = adversarial_run.Asked({"mlp": model}, "mlp", {"mlp": calls}, {"mlp": np.full([10], 0.1)})
  attempt = adversarial_run.Attempt(1, "true_label", 2, 0.1, "all")

  def attack_with(error):
    def attack(observation, seed, watch):
      raise error

    return attack

  config = AdversarialLeakageConfig()
  unusable = attack_with(leakage.UnusableError("update: is zero; there is nothing to see"))
  with tqdm.tqdm(disable=True) as bar:
    row, arrays = adversarial_run._invert(config, digits, asked, attempt, unusable, bar)
    assert row["failed"] == "update: is zero; there is nothing to see"
    assert "hits" not in row
    assert not arrays
    # Any other error is none of the target's, and no result.
    wrong = attack_with(ValueError("shapes"))
    with pytest.raises(ValueError, match="shapes"):
      adversarial_run._invert(config, digits, asked, attempt, wrong, bar)


@pytest.mark.slow
def test_stacks_are_called_by_their_label_far_more_often_than_noise(tmp_path):
  """The source's finding, in small; that more images are is so of independent copies, too.

  In the mean of three targets: one may call noise by a label that is sought, and which target a
  seed trains differs between processors.
  """
  tables = []
  for seed in range(3):
    result = run(f"seed={seed}", "control=false", f"output_dir={tmp_path / str(seed)}")
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / str(seed) / "summary.json").read_text())
    tables.append(pd.DataFrame(summary["settings"]))
  by_stack = pd.concat(tables).groupby("stack")[["images", "images_noise"]].mean()
  assert by_stack.loc[4, "images"] > by_stack.loc[4, "images_noise"] + 0.3
  assert by_stack.loc[4, "images"] > by_stack.loc[1, "images"]
