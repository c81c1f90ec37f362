"""What the study published, of all pairs and of a run like ours."""

import pytest

from experiments import published
from experiments.crpa_config import CRPAConfig


def test_the_study_that_was_published_is_read_as_printed():
  matrix = published.matrix("fashion_mnist")
  assert (matrix.loc[(7, 5)], matrix.loc[(6, 7)], len(matrix)) == (0.55, 0.07, 90)


PRIVATE = {
  "dataset": "mnist", "privacy": "microbatches", "optimizer": "sgd", "learning_rate": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"dataset": "mnist"}, 0.51),
    ({"dataset": "mnist", "alpha": 10.0}, 0.02),
    (PRIVATE | {"noise_multiplier": 0.3}, 0.053),
    (PRIVATE | {"noise_multiplier": 0.0}, None),
    (PRIVATE | {"noise_multiplier": 0.3, "optimizer": "adam"}, None),
    ({"dataset": "mnist", "num_adversaries": 3}, None),
    ({"dataset": "mnist", "free_rider": True}, None),
    ({"dataset": "mnist", "generated_label": "extra"}, None),
    ({"dataset": "mnist", "generator_learning_rate": 0.0}, None),
    ({"dataset": "mnist", "alpha": 0.3}, None),
    ({"dataset": "mnist", "attack": "noise"}, None),
    ({"dataset": "mnist", "partition": "iid"}, None),
    ({"dataset": "mnist", "privacy": "records"}, None),
    (PRIVATE | {"noise_multiplier": 0.3, "adversary_noise": False}, None),
    ({"dataset": "mnist", "optimizer": "sgd", "learning_rate": 0.25}, None),
    ({"dataset": "mnist", "aggregator": "examples_weighted_mean"}, None),
    ({"dataset": "mnist", "warm_up_epochs": 5}, None),
    ({"dataset": "mnist", "start_round": 59}, None),
    ({"dataset": "mnist", "start_accuracy": 0.8}, None),
    ({"dataset": "mnist", "generator_optimizer": "adam"}, None),
    ({"dataset": "mnist", "local_epochs": 2}, None),
    ({"dataset": "mnist", "poison_images": 0}, None),
    ({"dataset": "mnist", "keep_discriminator": True}, None),
    ({"dataset": "mnist", "adversary_lacks": "none"}, None),
    ({"dataset": "mnist", "adversary_lacks": "reconstruct"}, 0.51),
    ({"dataset": "digits"}, None),
  ],
)
def test_the_published_value_of_a_run(changes, expected):
  config = CRPAConfig(**{"reconstruct": 4, "poison": 9} | changes)
  assert published.average_attack_accuracy(config) == expected
