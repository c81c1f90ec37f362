import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from experiments import crpa_setup, privacy_options
from experiments.crpa_config import CRPAConfig, check
from experiments.options import ConfigError
from tests.tff_attacks.data import test_datasets
from tff_attacks import keras_state
from tff_attacks.data import partition
from tff_attacks.privacy import accounting
from tff_attacks.runtime import in_process


def config(**changes):
  return CRPAConfig(**{"images_per_class": 20} | changes)


RECORDS = {"privacy": "records", "noise_multiplier": 1.0}
CLIENTS = {"privacy": "clients", "noise_multiplier": 1.0}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"reconstruct": 9}, "poison: must differ from reconstruct, both are 9"),
    ({"reconstruct": 10}, "reconstruct: 10 is not a class of digits; allowed: 0 to 9"),
    ({"poison": -1}, "poison: -1 is not allowed; allowed: 0 or more"),
    ({"adversary": "10"}, "adversary: '10' is not allowed; allowed: clean, original, or 0 to 9"),
    ({"adversary": "-1"}, "adversary: '-1' is not allowed"),
    ({"dataset": "imagenet"}, "dataset: 'imagenet' is not allowed; allowed: digits, mnist"),
    ({"partition": "random"}, "partition: 'random' is not allowed; allowed: one_class, shards"),
    ({"alpha": -0.1}, "alpha: -0.1 is not allowed; allowed: 0 or more"),
    ({"alpha": 1.0, "partition": "iid"}, "alpha: only for partition=dirichlet"),
    ({"batch_size": 0}, "batch_size: 0 is not allowed; allowed: 1 or more"),
    ({"learning_rate": 0.0}, "learning_rate: 0.0 is not allowed; allowed: above 0"),
    ({"attack": "other"}, "attack: 'other' is not allowed; allowed: crpa, none"),
    ({"start_round": 60}, "start_round: 60 is never reached; allowed: 0 to 59"),
    ({"seed": 2**32}, "seed: 4294967296 is not allowed; allowed: 0 or more, below 4294967296"),
    ({"start_accuracy": 1.0}, "start_accuracy: 1.0 is not allowed; allowed: -1 or more, below 1"),
    ({"free_rider": True}, "generator_steps: must be given with free_rider"),
    (
      {"adversary": "original", "adversary_lacks": "reconstruct"},
      "adversary_lacks: adversary=original has its own way",
    ),
    ({"adversary": "original", "num_clients": 3}, "num_clients: adversary=original needs"),
    ({"noise_multiplier": 1.0}, "noise_multiplier, target_epsilon: only with privacy=records"),
    ({"privacy": "records"}, "noise_multiplier: give it or target_epsilon, and one of them only"),
    ({**RECORDS, "target_epsilon": 1.0}, "noise_multiplier: give it or target_epsilon, and one"),
    ({**RECORDS, "noise_multiplier": -1.0}, "noise_multiplier: -1.0 is not allowed; allowed: 0 or"),
    (
      {**RECORDS, "noise_multiplier": 1e-7},
      "noise_multiplier: 1e-07 is not allowed; allowed: 0, or from 1e-06",
    ),
    ({**RECORDS, "l2_norm_clip": 0.0}, "l2_norm_clip: 0.0 is not allowed; allowed: above 0"),
    ({**RECORDS, "l2_norm_clip": float("inf")}, "l2_norm_clip: inf is not allowed"),
    ({**RECORDS, "delta": 1.0}, "delta: 1 is not allowed; allowed: below 1 / 1"),
    ({**RECORDS, "microbatches": 5}, "microbatches: only with privacy=microbatches"),
    ({**RECORDS, "clipping": "adaptive"}, "clipping: adaptive only with privacy=clients"),
    ({"clipping": "adaptive"}, "clipping: adaptive only with privacy=clients"),
    ({"microbatches": 5}, "microbatches: only with privacy=microbatches"),
    ({**RECORDS, "accounting": "poisson"}, "accounting: poisson is for target_epsilon"),
    (
      {"privacy": "clients", "target_epsilon": 1.0, "accounting": "poisson"},
      "accounting: poisson is for records",
    ),
    (
      {"privacy": "microbatches", "noise_multiplier": 1.0, "microbatches": 7},
      "microbatches: 7 does not divide batch_size, 25",
    ),
    ({**CLIENTS, "delta": 0.1}, "delta: 0.1 is not allowed; allowed: below 1 / 10"),
    ({**CLIENTS, "adversary_noise": False}, "adversary_noise: only with privacy=records or micro"),
    ({"attack": "noise", "keep_discriminator": True}, "keep_discriminator: attack=noise has none"),
    ({"attack": "noise", "poison_images": 0}, "poison_images: must be 1 or more with attack=noise"),
    ({**CLIENTS, "aggregator": "examples_weighted_mean"}, "aggregator: must be mean with privacy"),
    ({"aggregator": "norm_filter"}, "norm_bound: aggregator=norm_filter needs one"),
    ({"aggregator": "krum", "byzantine": 11}, "byzantine: only 10 clients take part in a round"),
  ],
)
def test_refuses_before_anything_is_loaded(changes, message):
  with pytest.raises(ConfigError, match=message):
    check(config(**changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": "other"}, "model: unknown 'other'"),
    (
      {"model": "models.judge:classifier", "dataset": "digits"},
      "discriminator_learning_rate: must",
    ),
    ({"model": "models.judge:train"}, "model: .* cannot be built"),
    ({"generator": "other"}, "generator: unknown 'other'"),
    ({"images_per_class": 1000}, "images_per_class: 1000 images of class 0 are needed"),
    ({"aggregator": "krum", "byzantine": 4}, "aggregator: krum needs 11 clients in a round if 4"),
    ({"partition": "iid"}, "partition: no client lacks both G and T in 1 draw"),
    (
      {"alpha": 1000.0, "max_draws": 5, "images_per_class": 100},
      "no client lacks both G and T in 5 draw",
    ),
    ({"adversary": "4"}, "partition: client 4 does not lack both G and T"),
    ({"adversary": "4", "adversary_lacks": "reconstruct"}, "client 4 does not lack G"),
    ({"num_clients": 5}, "poison: no client holds class 9 in this partition"),
    ({"num_clients": 11, "images_per_class": 1}, "images_per_class: 1 leaves client 0 without"),
    ({**RECORDS, "delta": 0.05}, "delta: 0.05 is not allowed; allowed: below 1 / 20"),
    (
      {**RECORDS, "images_per_class": 100, "size_sigma": 1.0, "delta": 0.03},
      "delta: 0.03 is not allowed; allowed: below 1 / ",
    ),
    (
      {**RECORDS, "model": f"{__name__}:batch_norm"},
      r"privacy: records does not go with this model: layer bn \(BatchNormalization\) mixes",
    ),
    (
      {"privacy": "clients", "noise_multiplier": 1.0, "model": f"{__name__}:batch_norm"},
      r"model: layer bn \(BatchNormalization\) has a moving variance",
    ),
    (
      {**RECORDS, "model": f"{__name__}:depthwise"},
      r"layer depth \(DepthwiseConv2D\) has no fast gradient norm; privacy=microbatches with",
    ),
    (
      {"privacy": "records", "target_epsilon": 1e9},
      "target_epsilon: no noise multiplier from 0.01 to 1000 has epsilon = 1e.09",
    ),
  ],
)
def test_refuses_what_the_data_or_the_models_rule_out(changes, message):
  check(config(**changes))
  with pytest.raises(ConfigError, match=message):
    crpa_setup.prepare(config(**changes))


def test_an_adversary_may_leave_out_the_noise():
  changes = {**RECORDS, "noise_multiplier": 100.0, "optimizer": "sgd", "attack": "none"}
  setup = crpa_setup.prepare(config(**changes, adversary_noise=False))
  compiled = setup.compiled
  weights = keras_state.initial_weights(compiled.model_fn, 0)
  model = keras_state.build(compiled.model_fn)

  def norm(training):
    state, seed = training.initialize(weights), tf.constant([0, 1])
    trained = training.train(model, weights, state, setup.data[0], seed)
    return float(tf.linalg.global_norm(trained.update.trainable))

  assert norm(compiled.training) > 100 * norm(compiled.attack.training) > 0
  assert crpa_setup.prepare(config(**changes)).compiled.attack.training is None


@pytest.mark.parametrize("clipping", ["fixed", "adaptive"])
def test_the_mean_of_clipped_updates_takes_what_is_not_finite_for_zero(clipping):
  one = {"privacy": "clients", "noise_multiplier": 0.0, "clipping": clipping, "optimizer": "sgd"}
  setup = crpa_setup.prepare(config(**one, attack="none"))
  federation = setup.compiled.federation
  setup.data[3].images[0] = np.nan
  with in_process.in_process():
    server = federation.initial_server(keras_state.initial_weights(setup.compiled.model_fn, 0))
    clients = [federation.initial_client(0, i) for i in range(10)]
    server, clients, _ = federation.process.next(server, clients, setup.data)
  assert np.isnan([client.update_norm for client in clients]).tolist() == [
    i == 3 for i in range(10)
  ]
  assert np.isfinite(np.concatenate([np.ravel(w) for w in server.weights.trainable])).all()


def protected(one):
  """The partition of a config, and what protects its clients."""
  split, _ = crpa_setup.distribute(one, crpa_setup.datasets.load("digits"))
  return split, crpa_setup.protection(one, split)


@pytest.mark.parametrize("mode", ["microbatches", "records", "clients"])
def test_the_noise_that_is_declared_is_added(mode):
  options = {
    "attack": "none", "optimizer": "sgd", "learning_rate": 0.5, "delta": 0.01, "l2_norm_clip": 2.5,
  }  # fmt: skip
  asked = config(privacy=mode, noise_multiplier=100.0, **options)

  def moved(noise):
    setup = crpa_setup.prepare(dataclasses.replace(asked, noise_multiplier=noise))
    federation = setup.compiled.federation
    start = keras_state.initial_weights(setup.compiled.model_fn, 0)
    with in_process.in_process():
      clients = [federation.initial_client(0, i) for i in range(10)]
      server = federation.initial_server(start)
      after, *_ = federation.process.next(server, clients, setup.data)
    parts = zip(after.weights.trainable, start.trainable, strict=True)
    return np.concatenate([np.ravel(a - b) for a, b in parts])

  # At the clients in their one step, at the server in their sum; the mean is of ten.
  assert asked.images_per_class <= asked.batch_size
  at_clients = 0.5 * np.sqrt(10)
  factor = {
    "microbatches": at_clients, "records": at_clients / asked.images_per_class, "clients": 1,
  }[mode]  # fmt: skip
  noise = moved(100.0) - moved(0.0)
  assert noise.std() == pytest.approx(2.5 * 100 * factor / 10, rel=0.02)


def test_a_batch_has_as_many_microbatches_as_the_options_say():
  for microbatches, size in ((1, 20), (5, 4), (20, 1)):
    options = {"privacy": "microbatches", "noise_multiplier": 1.0, "batch_size": 20}
    _, privacy = protected(config(**options, microbatches=microbatches))
    assert privacy.mechanism.microbatch_size == size


def _with(layer):
  import tensorflow as tf

  layers = tf.keras.layers
  return tf.keras.Sequential([layers.Input([28, 28, 1]), layer, layers.Flatten(), layers.Dense(11)])


def batch_norm(image_shape, num_classes):
  import tensorflow as tf

  return _with(tf.keras.layers.BatchNormalization(name="bn"))


def depthwise(image_shape, num_classes):
  import tensorflow as tf

  return _with(tf.keras.layers.DepthwiseConv2D(3, name="depth"))


@pytest.mark.parametrize("mode", ["records", "microbatches", "clients"])
def test_noise_for_an_epsilon_at_the_end(mode):
  delta = 0.01 if mode == "clients" else 1e-5
  changes = {"privacy": mode, "target_epsilon": 8.0, "delta": delta, "rounds": 30}
  _, privacy = protected(config(**changes))
  assert privacy.epsilon(30)["epsilon"] == pytest.approx(8, rel=1e-3)
  assert privacy.epsilon(31)["epsilon"] > 8 > privacy.epsilon(29)["epsilon"]
  assert "epsilon" in privacy.statement(30).lower()


@pytest.mark.parametrize(("changes", "rounds"), [(RECORDS, 20), (CLIENTS | {"delta": 0.01}, 10)])
def test_every_pass_over_the_records_counts(changes, rounds):
  once, twice = (protected(config(**changes, local_epochs=n))[1] for n in (1, 2))
  assert twice.epsilon(10)["epsilon"] == pytest.approx(once.epsilon(rounds)["epsilon"])


@pytest.mark.parametrize(
  ("changes", "reason"),
  [
    ({}, "none was asked for"),
    ({**RECORDS, "noise_multiplier": 0.0}, "get no noise"),
    ({**RECORDS, "warm_up_epochs": 1}, "warm_up_epochs trains on images"),
    ({**CLIENTS, "delta": 0.01, "warm_up_epochs": 1}, "warm_up_epochs trains on images"),
    ({**RECORDS, "attack": "real"}, "adversaries inject images that honest clients may hold"),
    ({**RECORDS, "attack": "other_class"}, "inject images that honest clients may hold"),
  ],
)
def test_a_void_guarantee_is_said_in_words(changes, reason):
  _, privacy = protected(config(**changes))
  assert privacy.epsilon(10) == {}
  statement = privacy.statement(10)
  assert statement.startswith("No guarantee of differential privacy:")
  assert reason in statement
  assert not any(character.isdigit() for character in statement)


def test_the_worst_client_counts():
  """In the Poisson reading; whoever attacks in one run is honest in the one without attack."""
  # With seed 10 that is the client with the fewest records.
  changes = {"images_per_class": 100, "size_sigma": 1.0, "rounds": 60, "seed": 10}
  split, privacy = protected(config(**RECORDS, **changes))
  sizes = split.table.sum(axis=1)
  assert sizes.min() < sizes.max()
  assert sizes.argmin() == split.adversary
  each = [
    accounting.epsilon(accounting.Mechanism(1.0, 1, n, 25), 60, 1e-5, "poisson") for n in sizes
  ]
  assert privacy.epsilon(60)["epsilon_poisson"] == pytest.approx(max(each))
  assert f"{max(each):.3g}" in privacy.statement(60)
  said = f"the values are the largest, those of one with {sizes.min()}."
  assert said in " ".join(privacy.statement(60).split())
  _, unattacked = protected(config(**RECORDS, **changes, attack="none"))
  assert unattacked == privacy
  goal = {"privacy": "records", "target_epsilon": 8.0, "accounting": "poisson"}
  privacy = privacy_options.of(config(**goal, **changes), [sizes.min(), sizes.max()])
  assert privacy.epsilon(60)["epsilon_poisson"] == pytest.approx(8, rel=1e-3)


def test_refuses_bad_files(tmp_path):
  with pytest.raises(ConfigError, match=r"data_dir: .* does not exist"):
    crpa_setup.prepare(config(dataset="mnist", data_dir=str(tmp_path)))
  test_datasets.write(tmp_path, y_test=None)
  with pytest.raises(ConfigError, match="lacks y_test"):
    crpa_setup.prepare(config(dataset="mnist", data_dir=str(tmp_path)))


def distribute(**changes):
  dataset = crpa_setup.datasets.load("digits")
  return crpa_setup.distribute(config(**changes), dataset)


@pytest.mark.parametrize("reconstruct", [0, 4])
@pytest.mark.parametrize("poison", [1, 9])
def test_a_clean_adversary_has_seen_neither_class(reconstruct, poison):
  for alpha in (0.0, 0.1):
    split, data = distribute(reconstruct=reconstruct, poison=poison, alpha=alpha)
    assert not set(data[split.adversary].labels) & {reconstruct, poison}
    assert {images.labels.size for images in data} == {20}


def test_the_partition_follows_the_seed():
  first, again, other = (distribute(alpha=0.5, seed=seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first[0].table, again[0].table)
  np.testing.assert_array_equal(first[1][3].images, again[1][3].images)
  assert (first[0].table != other[0].table).any()


def test_the_images_follow_the_seed_where_the_table_does_not():
  (first, own), (other, others) = (distribute(seed=seed) for seed in (1, 2))
  np.testing.assert_array_equal(first.table, other.table)
  drawn = [
    {image.tobytes() for client in data for image in client.images} for data in (own, others)
  ]
  assert drawn[0] != drawn[1]


def test_a_class_that_nobody_holds_is_told(caplog):
  distribute()
  assert not caplog.text
  distribute(num_clients=9, poison=8)
  assert "No client holds class [9]" in caplog.text


def test_a_free_rider_has_no_data():
  split, data = distribute(free_rider=True)
  sizes = [images.labels.size for images in data]
  assert sizes.pop(split.adversary) == 0
  assert split.table[split.adversary].sum() == 0
  assert set(sizes) == {20}


@pytest.mark.parametrize(
  ("changes", "started", "recognised", "held", "expected"),
  [
    ({}, True, 0.9, 0, "Client 2, which never held any image of class 4, reconstructed it"),
    ({}, True, 0.9, 7, "Client 2, which held 7 images of class 4, reconstructed it"),
    ({}, True, 0.0, 0, "Client 2, which never held any image of class 4, tried to reconstruct it"),
    ({}, False, 0.0, 0, "The attack never started, and the global model called up to 90%"),
    ({"attack": "none"}, False, 0.0, 0, "Without any attack, the global model called up to 90%"),
  ],
)
def test_the_sentence_is_true(changes, started, recognised, held, expected):
  from experiments import crpa_run

  table = np.zeros([3, 10], int)
  table[2, 4] = held
  names = ("best_attack_accuracy", "average_attack_accuracy", "best_test_accuracy", "test_accuracy")
  quality = {"recognised": recognised, "correlation": 0.8, "other_correlation": 0.5, "diversity": 1,
             "recognised_noise": 0.1}  # fmt: skip
  summary = dict.fromkeys(names, 0.9) | {
    "attack_started": started,
    "reconstruction": quality,
    "diverged_round": None,
  }
  split = partition.Split(table, adversaries=[2], draws=1)
  assert crpa_run.sentence(config(**changes), split, summary).startswith(expected)
  diverged = crpa_run.sentence(config(**changes), split, summary | {"diverged_round": 6})
  assert diverged.startswith("The global model diverged in round 6")


def test_shards_have_a_fit_adversary():
  split, data = distribute(partition="shards")
  assert set(data[split.adversary].labels) == {0, 1}
