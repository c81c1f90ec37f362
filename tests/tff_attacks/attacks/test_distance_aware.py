import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.tiny import poison
from tff_attacks import keras_state
from tff_attacks.attacks import distance_aware, label_flipping, scaling
from tff_attacks.data.datasets import Images
from tff_attacks.learning import aggregation, process


def features_of_five():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 5, 40).astype(np.int32)
  return rng.normal(size=[40, 6]).astype(np.float32), labels


def test_distances_are_those_of_the_class_means():
  features, labels = features_of_five()
  found = distance_aware.attacking_distances(features, labels, 5).numpy()
  means = [features[labels == c].mean(axis=0) for c in range(5)]
  for i in range(5):
    for j in range(5):
      expected = np.inf if i == j else np.linalg.norm(means[i] - means[j])
      assert found[i, j] == pytest.approx(expected, rel=1e-5)


def test_a_class_without_images_is_infinitely_far():
  features, labels = features_of_five()
  found = distance_aware.attacking_distances(features, np.where(labels == 3, 2, labels), 5).numpy()
  assert np.isinf(found[3]).all()
  assert np.isinf(found[:, 3]).all()
  assert np.isfinite(found[0, [1, 2, 4]]).all()


@pytest.mark.parametrize("outputs_beyond", [0, 1])
def test_gradient_norms_are_those_of_the_gradient_tape(outputs_beyond):
  """Also of a model with an output for generated images, which is no label to assume."""
  model = tf.keras.Sequential(
    [tf.keras.layers.Input([6]), tf.keras.layers.Dense(5 + outputs_beyond)]
  )
  features, labels = features_of_five()
  found = distance_aware.gradient_norms(features, tf.nn.softmax(model(features)), labels, 5)
  for source in range(5):
    for assumed in range(5):
      with tf.GradientTape() as tape:
        outputs = model(features[labels == source])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
          tf.fill([len(outputs)], assumed), outputs
        )
        loss = tf.reduce_sum(losses)
      expected = tf.norm(tape.gradient(loss, model.layers[-1].kernel))
      if source == assumed:
        expected = np.inf
      assert float(found[source, assumed]) == pytest.approx(float(expected), rel=1e-4)


def test_gradient_norms_of_a_class_without_images_are_infinite():
  features, labels = features_of_five()
  probabilities = np.full([len(labels), 5], 0.2, np.float32)
  found = distance_aware.gradient_norms(
    features, probabilities, np.where(labels == 3, 2, labels), 5
  )
  assert np.isinf(found[3]).all()
  assert np.isfinite(np.delete(found[0], 0)).all()


PIXELS = np.array([-0.9, 0.2, 0.5], np.float32)


def brightness_model(from_logits=True):
  """Its only feature is the brightness; class 1 is nearer to class 2 than to class 0."""
  layers = tf.keras.layers
  return tf.keras.Sequential(
    [
      layers.Input(tiny.IMAGE_SHAPE),
      layers.GlobalAveragePooling2D(),
      layers.Dense(2, activation="linear"),
      layers.Dense(3, activation=None if from_logits else "softmax"),
    ]
  )


def bright_images():
  labels = (np.arange(12) % 3).astype(np.int32)
  return Images(
    PIXELS[labels][:, None, None, None] * np.ones([1, *tiny.IMAGE_SHAPE], np.float32), labels
  )


WEIGHTS = keras_state.ModelWeights(
  [np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32),
   np.array([[-6.0, 1.0, 2.0], [6.0, -1.0, -2.0]], np.float32),
   np.array([0.0, 0.5, -0.2], np.float32)],
  [],
)  # fmt: skip


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("full_knowledge", [True, False])
def test_chooses_the_nearest_class(full_knowledge, from_logits):
  """And flips the labels to it, whatever target is given."""
  sources, targets = label_flipping.one_target(3, [1], 0)
  parameters = label_flipping.Parameters(sources, targets)
  made = distance_aware.distance_aware(parameters, full_knowledge, from_logits)
  state, data = poison(
    made, bright_images(), weights=WEIGHTS, model_fn=lambda: brightness_model(from_logits)
  )
  assert state.targets.numpy().tolist() == [0, 2, 2]
  assert np.asarray(data.labels)[:4].tolist() == [2] * 4


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("name", ["attacking_distances", "gradient_norms"])
def test_what_is_measured(name, from_logits, monkeypatch):
  """The last hidden layer, and the probabilities whatever the model returns."""
  seen, real = [], getattr(distance_aware, name)
  monkeypatch.setattr(distance_aware, name, lambda *args: seen.append(args) or real(*args))
  given = label_flipping.Parameters(*label_flipping.one_target(3, [1], 0))
  images, (kernel, _, last_kernel, last_bias) = bright_images(), WEIGHTS.trainable
  poison(
    distance_aware.distance_aware(given, name == "attacking_distances", from_logits), images,
    weights=WEIGHTS, model_fn=lambda: brightness_model(from_logits),
  )  # fmt: skip
  hidden = images.images.mean(axis=(1, 2, 3))[:, np.newaxis] @ kernel
  ((features, *others),) = seen
  np.testing.assert_allclose(features, hidden, atol=1e-5)
  if name == "gradient_norms":
    expected = tf.nn.softmax(hidden @ last_kernel + last_bias)
    np.testing.assert_allclose(others[0], expected, atol=1e-5)


def test_partial_knowledge_needs_images_of_the_source_only():
  sources, targets = label_flipping.one_target(3, [1], 0)
  parameters = label_flipping.Parameters(sources, targets)
  images = bright_images()
  of_source = Images(*(part[images.labels == 1] for part in images))
  state, _ = poison(
    distance_aware.distance_aware(parameters, False, True), of_source,
    weights=WEIGHTS, model_fn=brightness_model,
  )  # fmt: skip
  assert state.targets.numpy().tolist() == [0, 2, 2]


@pytest.mark.parametrize("full_knowledge", [True, False])
def test_several_sources_have_targets_of_their_own(full_knowledge):
  parameters = label_flipping.Parameters(
    np.array([True, False, True]), np.array([0, 1, 2], np.int32)
  )
  made = distance_aware.distance_aware(parameters, full_knowledge, True)
  state, data = poison(made, bright_images(), weights=WEIGHTS, model_fn=brightness_model)
  assert state.targets.numpy().tolist() == [1, 1, 1]
  assert set(np.asarray(data.labels).tolist()) == {1}


@pytest.mark.parametrize("full_knowledge", [True, False])
def test_without_images_of_the_source_nothing_is_chosen(full_knowledge):
  parameters = label_flipping.Parameters(*label_flipping.one_target(3, [1], -1))
  images = bright_images()
  others = Images(*(part[images.labels != 1] for part in images))
  made = distance_aware.distance_aware(parameters, full_knowledge, True)
  state, data = poison(made, others, weights=WEIGHTS, model_fn=brightness_model)
  assert state.targets.numpy().tolist() == [0, -1, 2]
  np.testing.assert_array_equal(data.labels, others.labels)


def test_a_last_layer_with_another_activation_is_refused():
  layers = tf.keras.layers
  model = tf.keras.Sequential([layers.Input([4]), layers.Dense(3, activation="sigmoid")])
  with pytest.raises(ValueError, match="linear or softmax, not sigmoid"):
    distance_aware.build(model)


def test_a_model_without_a_dense_end_is_refused():
  layers = tf.keras.layers
  model = tf.keras.Sequential([layers.Input([4]), layers.Dense(3), layers.ReLU()])
  with pytest.raises(ValueError, match=r"needs a Dense last layer with a bias, .* is a ReLU"):
    distance_aware.build(model)


@pytest.mark.parametrize("full_knowledge", [True, False])
def test_equals_train_and_scale_with_the_target_that_it_chooses(full_knowledge, tff_runtime):
  """So that a table may take one run for the other as long as the target stays."""
  del tff_runtime
  chosen = label_flipping.Parameters(*label_flipping.one_target(3, [1], 2))
  unknown = label_flipping.Parameters(*label_flipping.one_target(3, [1], -1))
  attacks = (
    label_flipping.label_flipping(chosen, poison_update=scaling.train_and_scale),
    distance_aware.distance_aware(unknown, full_knowledge, from_logits=True),
  )
  results = []
  for made in attacks:
    federation = process.build_federation(
      brightness_model, tiny.training(), made, aggregation.build_aggregator("mean")
    )
    server = federation.initial_server(WEIGHTS)
    clients = [
      federation.initial_client(0, i, made.parameters if i == 0 else None) for i in range(2)
    ]
    data = [bright_images(), tiny.images(1, 9)]
    for _ in range(3):
      server, clients, _ = federation.process.next(server, list(clients), data)
    assert np.asarray(clients[0].attack.targets)[0].tolist() == [0, 2, 2]
    results.append(server.weights)
  tf.nest.map_structure(np.testing.assert_array_equal, *results)


def test_whoever_holds_sources_alone_knows_no_target_and_flips_nothing():
  """With full knowledge: the means of other classes are not to be had."""
  sources, targets = label_flipping.one_target(3, [1], -1)
  parameters = label_flipping.Parameters(sources, targets)
  own = bright_images().take(np.array([1, 4, 7, 10]))
  made = distance_aware.distance_aware(parameters, full_knowledge=True, from_logits=True)
  state, data = poison(made, own, weights=WEIGHTS, model_fn=brightness_model)
  assert not state.flips
  assert state.targets.numpy().tolist() == [0, -1, 2]
  np.testing.assert_array_equal(data.labels, own.labels)
