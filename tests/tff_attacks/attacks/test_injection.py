import numpy as np
import tensorflow as tf

from tests import tiny
from tests.tiny import poison
from tff_attacks import keras_state
from tff_attacks.attacks import injection
from tff_attacks.learning import aggregation, process


def attack(**options):
  return injection.injection(injection.Parameters(tiny.images(7, 5, label=2), **options))


def test_the_images_are_among_the_data_from_the_start_on():
  own, made = tiny.images(0, 6), attack(start_round=2, start_accuracy=0.4)
  state, data = poison(made, own, round_number=1, accuracy=0.9)
  np.testing.assert_array_equal(data.images, own.images)
  state, data = poison(made, own, round_number=2, accuracy=0.4, state=state)
  assert not state.started
  assert data.labels.shape[0] == 6
  state, data = poison(made, own, round_number=2, accuracy=0.5, state=state)
  injected = tiny.images(7, 5, label=2)
  np.testing.assert_array_equal(data.images, np.concatenate([own.images, injected.images]))
  np.testing.assert_array_equal(data.labels, np.concatenate([own.labels, injected.labels]))
  # Once started, it goes on.
  _, data = poison(made, own, round_number=3, accuracy=0.0, state=state)
  assert data.labels.shape[0] == 11


def test_in_a_federation_only_the_adversarys_training_changes(tff_runtime):
  del tff_runtime
  made = attack()
  federation = process.build_federation(
    tiny.global_model, tiny.training(), made, aggregation.build_aggregator("mean")
  )
  server = federation.initial_server(keras_state.initial_weights(tiny.global_model, 0))
  data = [tiny.images(0, 8), tiny.images(1, 8)]
  losses = []
  for adversary in (None, 0):
    clients = [
      federation.initial_client(0, i, made.parameters if i == adversary else None) for i in range(2)
    ]
    _, clients, _ = federation.process.next(server, clients, data)
    losses.append([float(client.loss) for client in clients])
  assert losses[0][0] != losses[1][0]
  assert losses[0][1] == losses[1][1]
  assert tf.nest.map_structure(np.shape, clients[0].attack).started == (1,)
