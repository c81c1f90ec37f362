import numpy as np
import pytest

from experiments import crpa_setup
from experiments.crpa_config import CRPAConfig, check
from experiments.options import ConfigError
from tests.tff_attacks.data import test_datasets
from tff_attacks.data import partition


def config(**changes):
  return CRPAConfig(**{"images_per_class": 20} | changes)


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
    ({"seed": 2**32}, r"seed: must be below 2\*\*32"),
    ({"start_accuracy": 1.0}, "start_accuracy: must be below 1"),
    ({"free_rider": True}, "generator_steps: must be given with free_rider"),
    ({"adversary": "original", "num_clients": 3}, "num_clients: adversary=original needs"),
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
    ({"partition": "iid"}, "partition: no client lacks both G and T in 1 draw"),
    (
      {"alpha": 1000.0, "max_draws": 5, "images_per_class": 100},
      "no client lacks both G and T in 5 draw",
    ),
    ({"adversary": "4"}, "partition: client 4 does not lack both G and T"),
    ({"adversary": "4", "adversary_lacks": "reconstruct"}, "client 4 does not lack G"),
    ({"num_clients": 5}, "poison: no client holds class 9 in this partition"),
    ({"num_clients": 11, "images_per_class": 1}, "images_per_class: 1 leaves client 0 without"),
  ],
)
def test_refuses_what_the_data_or_the_models_rule_out(changes, message):
  check(config(**changes))
  with pytest.raises(ConfigError, match=message):
    crpa_setup.prepare(config(**changes))


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
  quality = {"recognised": recognised, "correlation": 0.8, "other_correlation": 0.5, "diversity": 1}
  summary = dict.fromkeys(names, 0.9) | {
    "attack_started": started,
    "reconstruction": quality,
  }
  split = partition.Split(table, adversaries=[2], draws=1)
  assert crpa_run.sentence(config(**changes), split, summary).startswith(expected)


def test_shards_have_a_fit_adversary():
  split, data = distribute(partition="shards")
  assert set(data[split.adversary].labels) == {0, 1}
