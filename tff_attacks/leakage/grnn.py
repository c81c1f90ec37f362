"""GRNN: images and labels as outputs of a network that is trained on the gradient's difference.

Other than in the source's code, the smoothness prior takes absolute differences of pixels in
[-1, 1] (there twice their squares, of pixels in [0, 1], at the same weight), and RMSprop's epsilon
is that of Keras.
Source: https://arxiv.org/abs/2105.00529, and Algorithm 4 of "Privacy attack in federated learning
is not easy".
"""

from collections.abc import Callable

import tensorflow as tf

from tff_attacks import generation, keras_state
from tff_attacks.leakage import functional, gradient_matching, leakage, search
from tff_attacks.leakage.leakage import Reconstruction

_DECAY = 0.99
_MOMENTUM = 0.99


def grnn(
  model_fn: keras_state.ModelFn,
  generator_fn: Callable[[], tf.keras.Model],
  steps: int = 1000,
  learning_rate: float = 1e-4,
  total_variation: float = 1e-3,
) -> leakage.Reconstruct:
  """Builds GRNN.

  Args:
    model_fn: Builds the global model.
    generator_fn: Builds a network from noise to images in [-1, 1] and logits, as
      `models.grnn.generator`.
    steps: Of RMSprop.
    learning_rate: Of RMSprop, which has momentum and decay 0.99.
    total_variation: Weight of the smoothness prior.

  Returns:
    The attack. Its noise stays as it is; the network is trained from its initial weights.
  """

  def reconstruct(observation, seed, watch=search.unwatched):
    model, target = gradient_matching.prepare(model_fn, observation)
    start = keras_state.initial_weights(generator_fn, seed)
    generator = keras_state.build(generator_fn, start)
    noise = tf.random.stateless_normal(
      [observation.num_samples, generator.input_shape[-1]], [seed, 0]
    )

    def generate(weights):
      with functional.weights_as(generator, weights):
        # Its normalisations are over this batch, the only one there is.
        return generator(noise, training=True)

    def loss_fn(weights):
      images, logits = generate(weights)
      found = functional.gradients(model, images, tf.nn.softmax(logits))
      difference = gradient_matching.squared_difference(found, target)
      # The source adds a Wasserstein distance, which is this root in its code.
      distance = tf.sqrt(difference + 1e-20)
      return difference + distance + total_variation * generation.mean_total_variation(images)

    rmsprop = tf.keras.optimizers.legacy.RMSprop(learning_rate, rho=_DECAY, momentum=_MOMENTUM)
    values, losses = search.descend(
      loss_fn, start.trainable, steps, rmsprop,
      watch=watch, show=lambda values: generate(_tensors(values))[0].numpy(),
    )  # fmt: skip
    images, logits = generate(_tensors(values))
    labels = tf.argmax(logits, axis=1, output_type=tf.int32)
    return Reconstruction(images.numpy(), labels.numpy(), losses)

  return reconstruct


def _tensors(values):
  return [tf.constant(value) for value in values]
