"""What the options of the semi-targeted attacks become, and what a run measures."""

import functools
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from experiments import (
  semi_targeted_config,
  semi_targeted_run,
  semi_targeted_setup,
)
from experiments.options import ConfigError
from experiments.semi_targeted_config import SemiTargetedConfig, check
from tff_attacks import keras_state
from tff_attacks.attacks import distance_aware, label_flipping, scaling
from tff_attacks.learning import process
from tff_attacks.simulation import loop


def config(**changes):
  options = {"num_clients": 6, "samples_per_client": 60, "clients_per_round": 4}
  return SemiTargetedConfig(**options | {"attacking_frequency": 0.5} | changes)


@pytest.mark.parametrize(
  ("mta", "honest_sources", "said"),
  [(0.9, True, "After 31 rounds, 3 of 6"),
   (0.12, True, "After 31 rounds (it has learned next to nothing), 3 of 6"),
   (0.9, False, "The model forgets the class by itself, too")],
)  # fmt: skip
def test_the_sentence(mta, honest_sources, said, monkeypatch):
  observer = object.__new__(semi_targeted_run.Observer)
  observer._config = config(honest_sources=honest_sources)
  observer._setup = types.SimpleNamespace(adversaries=[0, 1, 2])
  monkeypatch.setattr(semi_targeted_run.Observer, "_num_classes", 10)
  summary = {
    "rounds_before_attack": 31, "converged": True, "before_attack": {"ata": 0.09, "mta": mta},
    "its_targets": {"2": 3}, "malicious_clients_in_all": 5, "best_ata": 0.03, "its_mta": 0.8,
  }  # fmt: skip
  sentence = observer.sentence(summary)
  assert said in sentence
  assert "2 called 3 (ATA) was 0.09 before and at most 0.03 then" in sentence
  assert ("forgets" in sentence) != honest_sources


def test_attacks_are_what_their_names_say(monkeypatch):
  monkeypatch.setattr(distance_aware, "distance_aware", lambda parameters, **given: given)
  monkeypatch.setattr(label_flipping, "label_flipping", lambda parameters, **given: given)
  monkeypatch.setattr(scaling, "model_replacement", lambda factor: factor)

  def made(name, boost=None):
    shapes = types.SimpleNamespace(attack=name, boost=boost, clients_per_round=4)
    return semi_targeted_setup._attack(shapes, None, from_logits=False)

  assert made("ada_full") == {"from_logits": False, "full_knowledge": True}
  assert made("ada_partial") == {"from_logits": False, "full_knowledge": False}
  assert made("label_flipping") == {}
  assert made("train_and_scale") == {"poison_update": scaling.train_and_scale}
  assert made("model_replacement") == {"poison_update": 4}
  assert made("model_replacement", 3.0) == {"poison_update": 3}


def test_parameters_are_the_asked_for():
  fixed, chosen = (
    semi_targeted_setup.prepare(config(attack=name, target=7, injection_rate=0.3)).parameters
    for name in ("label_flipping", "ada_full")
  )
  for found, target in ((fixed, 7), (chosen, -1)):
    assert np.flatnonzero(found.sources).tolist() == [2]
    assert found.targets[2] == target
    assert found.injection_rate == 0.3


@pytest.mark.parametrize(
  ("losses", "expected"),
  [([], False), ([1.0], False), ([1.0, 0.9, 0.95], False), ([1.0, 0.9, 0.95, 0.92], True),
   ([1.0, 1.0, 1.0], True), ([1.0, 1.1, 0.9], False)],
)  # fmt: skip
def test_has_converged(losses, expected):
  assert semi_targeted_run.has_converged(losses, patience=2) is expected


def test_the_target_of_a_round_is_that_of_most_adversaries():
  assert semi_targeted_run.most_frequent(np.array([3, 7, 7, -1]), 5) == 7
  assert semi_targeted_run.most_frequent(np.array([7, 3]), 5) == 3
  assert semi_targeted_run.most_frequent(np.array([-1, -1]), 5) == 5


@pytest.mark.parametrize("kept", [True, False])
def test_a_client_gets_its_own_optimizer_back(kept, tmp_path):
  compiled = semi_targeted_setup.prepare(config(keep_optimizer_state=kept)).compiled
  new = [compiled.federation.initial_client(0, index) for index in range(6)]
  used = [
    client._replace(
      optimizer=tf.nest.map_structure(functools.partial(np.add, index), client.optimizer)
    )
    for index, client in enumerate(new)
  ]
  server = process.ServerState(keras_state.initial_weights(compiled.model_fn, 0), (), 3, 0.0)
  start = semi_targeted_setup.Converged.of(loop.Progress(server, used, 3), True)
  np.savez(tmp_path / "converged.npz", **start.arrays())
  read = semi_targeted_setup.Converged.read(tmp_path / "converged.npz")
  assert bool(read.optimizers) is kept
  for index, client in enumerate(new):
    expected, found = used[index].optimizer, read.resumed(client, index).optimizer
    tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"attacking_frequency": 1.5},
      "attacking_frequency: 1.5 is not allowed; allowed: above 0, 1 or less",
    ),
    ({"attacking_frequency": 0.0}, "attacking_frequency: 0.0 is not allowed"),
    ({"attacking_frequency": 0.2}, "attacking_frequency: 0.2 of 6 clients is no whole number"),
    ({"sources": [10]}, "sources: 10 is not a class of digits; allowed: 0 to 9"),
    ({"norm_bound": 1.0}, "norm_bound: aggregator=mean has none, leave it out"),
    ({"sources": [2, 2]}, "sources: a class is named twice"),
    ({"attack": "label_flipping", "target": 2}, "target: 2 is a source class"),
    ({"attack": "none", "target": 2}, "target: 2 is a source class"),
    ({"injection_rate": 1.2}, "injection_rate: 1.2 is not allowed; allowed: above 0, 1 or less"),
    ({"clients_per_round": 7}, "clients_per_round: there are 6 clients"),
    ({"byzantine": 5}, "byzantine: only 4 clients take part in a round"),
    ({"boost": 2.0}, "boost: only with attack=model_replacement"),
    ({"aggregator": "dp"}, "norm_bound: aggregator=dp needs one"),
    (
      {"aggregator": "dp", "norm_bound": 1.0, "noise_multiplier": 1.0, "delta": 0.2},
      "delta: must be below 1 / ",
    ),
    ({"attacking_frequency": 1e-9}, "attacking_frequency: 1e-09 of 6 clients is no whole number"),
    (
      {"noise_multiplier": 1.0},
      "noise_multiplier: dp and adaptive_dp need it, no other",
    ),
    (
      {"aggregator": "dp", "norm_bound": 1.0},
      "noise_multiplier: dp and adaptive_dp need it",
    ),
    ({"attack": "flip"}, "attack: 'flip' is not allowed"),
  ],
)
def test_bad_input_is_refused_by_name(changes, message):
  with pytest.raises(ConfigError, match=message):
    check(config(**changes))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"samples_per_client": 600}, "samples_per_client: 6 clients need 3600 images, the training"),
    ({"aggregator": "krum"}, "aggregator: krum needs 5 clients in a round if 1 may be malicious"),
    ({"sources": [2], "samples_per_client": 1, "attacking_frequency": 1 / 6},
     "sources: no compromised client holds class 2"),
    ({"start_from": "/nowhere"}, "start_from: /nowhere/converged.npz cannot be read"),
    ({"model": "none"}, "model: unknown 'none'; allowed: attacking_distance"),
    ({"model": "tests.experiments.test_crpa_config:batch_norm", "aggregator": "adaptive_dp",
      "norm_bound": 1.0, "noise_multiplier": 1.0},
     r"model: layer bn \(BatchNormalization\) has a moving variance"),
  ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_by_name(changes, message):
  with pytest.raises(ConfigError, match=message):
    semi_targeted_setup.prepare(config(**changes))


def test_the_best_round_is_one_of_the_attack():
  metrics = pd.DataFrame({"malicious_clients": [0, 1, 0], "ata": [0.9, 0.2, 0.5]})
  assert semi_targeted_run.best_round(metrics)["ata"] == 0.5
  assert semi_targeted_run.best_round(metrics.assign(malicious_clients=0))["ata"] == 0.9


def test_accuracies_of_several_sources():
  confusion = np.array([[6, 3, 1], [2, 8, 0], [5, 1, 4]])
  found = semi_targeted_run.accuracies(confusion, {0: 1, 2: 1}, 3)
  # Of class 1 alone; the mean of 3 in 10 and 1 in 10; of 3 in 10 and 5 in 10.
  assert (found["mta"], found["ata"], found["max_ata"]) == pytest.approx((0.8, 0.2, 0.4))
  assert np.isnan(semi_targeted_run.accuracies(confusion, {0: -1}, 3)["ata"])


def test_who_is_compromised():
  """As many as the frequency says; the same whatever the attack."""
  for frequency, count in ((0.5, 3), (1.0, 6)):
    assert semi_targeted_config.num_adversaries(config(attacking_frequency=frequency)) == count
  assert semi_targeted_config.num_adversaries(config(attack="none")) == 0
  setups = [
    semi_targeted_setup.prepare(config(attacking_frequency=0.5, attack=attack))
    for attack in ("ada_partial", "label_flipping")
  ]
  assert setups[0].adversaries == setups[1].adversaries
  np.testing.assert_array_equal(setups[0].data[3].images, setups[1].data[3].images)
  assert len({tuple(setups[0].sample(i)) for i in range(5)}) > 1
  assert setups[0].sample(3) == setups[1].sample(3)


def test_honest_clients_without_images_of_the_source():
  """In the attack alone; which does not change what the federation converges with."""
  before, after = (
    semi_targeted_setup.prepare(config(honest_sources=honest)) for honest in (True, False)
  )
  assert before.adversaries == after.adversaries
  for client in range(6):
    labels, own = after.attack_data.labels(client), before.data.labels(client)
    np.testing.assert_array_equal(after.data.labels(client), own)
    np.testing.assert_array_equal(before.attack_data.labels(client), own)
    expected = round(0.5 * labels.size) if client in after.adversaries else 0
    assert (labels == 2).sum() == expected
    assert labels.size == (own != 2).sum()
