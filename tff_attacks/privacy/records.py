"""Record-level DP-SGD: every record's gradient is clipped, their sum gets noise.

The norms come from the layers' inputs and output gradients alone ("ghost norms"), and so
do the clipped gradients: one forward and one backward pass serve both ("book-keeping",
https://arxiv.org/abs/2210.00038). TF Privacy's `compute_clipped_gradients_and_outputs`
makes two forward passes, the first without Dropout: its norms are not those of the
gradients that it then clips.
"""

from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow_privacy.privacy.fast_gradient_clipping import clip_grads, layer_registry
from tensorflow_privacy.privacy.fast_gradient_clipping import gradient_clipping_utils as utils
from tensorflow_privacy.privacy.fast_gradient_clipping.registry_functions import dense

from tff_attacks import keras_state
from tff_attacks.data.datasets import Images
from tff_attacks.learning import local_training
from tff_attacks.privacy import conv2d, noise


def registry() -> layer_registry.LayerRegistry:
  """The layers with fast gradient norms.

  Not TF Privacy's `Embedding`: what it returns in the place of outputs has no row for each record.
  """
  layers = layer_registry.LayerRegistry()
  layers.insert(tf.keras.layers.Dense, dense.dense_layer_computation)
  layers.insert(tf.keras.layers.Conv2D, conv2d.conv2d_layer_computation)
  return layers


def check_model(model: tf.keras.Model) -> None:
  """Checks that every trainable layer of a model has a fast gradient norm.

  Raises:
    ValueError: If one has none, or it or a weight of it is used twice, or a model in it has a
      `training` of its own.
  """
  known = registry()
  if not utils.has_internal_compute_graph(model):
    raise ValueError("it is no functional or Sequential model")
  calls = list(_calls(model))
  for layer in calls:
    if not layer.trainable_variables:
      continue
    name = f"layer {layer.name} ({type(layer).__name__})"
    if not known.is_elem(layer):
      raise ValueError(f"{name} has no fast gradient norm")
    if isinstance(layer, tf.keras.layers.Conv2D):
      try:
        conv2d.check_layer(layer)
      except NotImplementedError as error:
        raise ValueError(f"{name}: {error}") from error
    if sum(other is layer for other in calls) > 1:
      raise ValueError(f"{name} is used twice, and has no fast gradient norm then")
  weights = [v.ref() for layer in calls for v in layer.trainable_variables]
  if len(set(weights)) < len(weights):
    raise ValueError("layers share a weight, which has no fast gradient norm then")


def _calls(model: tf.keras.Model) -> Iterator[tf.keras.layers.Layer]:
  """The layers of a functional model, of models in it, too, once for each use."""
  for nodes in model._nodes_by_depth.values():
    for node in nodes:
      if utils.has_internal_compute_graph(node.layer):
        if node.call_kwargs.get("training") is not None:
          raise ValueError(f"model {node.layer.name} in it is called with training=, leave it out")
        yield from _calls(node.layer)
      elif not node.is_input:
        yield node.layer


def gradient(
  loss_fn: local_training.PerExampleLossFn, l2_norm_clip: float, noise_multiplier: float
) -> local_training.GradientFn:
  """Clips the gradient of every record, adds noise to their sum and divides by their number.

  It must be finite: no scale bounds what is not.

  Args:
    loss_fn: Loss of each record.
    l2_norm_clip: Largest norm of a record's gradient.
    noise_multiplier: Standard deviation of the noise of the sum, over `l2_norm_clip`.

  Returns:
    A `local_training.GradientFn`, for models that pass `check_model`.
  """
  known = registry()

  @tf.autograph.experimental.do_not_convert
  def compute(
    model: tf.keras.Model, batch: Images, seed: tf.Tensor
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    keras_state.seed_layers(model, keras_state.fold_in(seed, 0))
    with tf.GradientTape(persistent=True) as tape:
      outputs, layers = utils.model_forward_pass(model, batch.images, _recorded(known, tape))
      losses = loss_fn(batch.labels, outputs)
    layers = [layer for layer in layers if layer is not None]
    output_gradients = tape.gradient(losses, [outputs for outputs, _, _ in layers])
    sqr_norms = [sqr_norm(g) for (_, sqr_norm, _), g in zip(layers, output_gradients, strict=True)]
    scales = clip_grads.compute_clip_weights(l2_norm_clip, tf.sqrt(tf.add_n(sqr_norms)))
    clipped = {}
    for (outputs, _, variables), g in zip(layers, output_gradients, strict=True):
      scaled = g * tf.reshape(scales, [-1] + [1] * (len(g.shape) - 1))
      for variable, value in zip(
        variables, tape.gradient(outputs, variables, output_gradients=scaled), strict=True
      ):
        clipped[variable.ref()] = tf.convert_to_tensor(value)
    summed = [clipped[variable.ref()] for variable in model.trainable_variables]
    stddev = l2_norm_clip * noise_multiplier
    noised = noise.add_noise(summed, stddev, keras_state.fold_in(seed, 1))
    count = tf.cast(tf.size(batch.labels), tf.float32)
    return tf.reduce_mean(losses), [g / count for g in noised]

  return compute


def _recorded(
  known: layer_registry.LayerRegistry, tape: tf.GradientTape
) -> Callable[..., tuple[tf.Tensor, tuple | None]]:
  """Calls a layer in training mode; trainable ones leave what their norms need."""

  def call(layer, args, kwargs):
    if layer._expects_training_arg and kwargs.get("training") is None:
      kwargs = {**kwargs, "training": True}
    if not layer.trainable_variables:
      return layer(*args, **kwargs), None
    outputs, activated, sqr_norm = known.lookup(layer)(layer, args, kwargs, tape, None)
    return activated, (outputs, sqr_norm, layer.trainable_variables)

  return call
