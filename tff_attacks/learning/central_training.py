"""Central training of a classifier, that can be interrupted and goes on."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_attacks import keras_state
from tff_attacks.learning.local_training import LossFn
from tff_attacks.simulation import checkpoints

_WARM_UP = 0.1
_WEIGHT_DECAY = 0.01
_SHIFT = 0.125
_IMAGE, _DROPOUT = range(3), 3
"""What a step's seed is folded with: three draws of the augmentation, one of Dropout."""


def train(
  model: tf.keras.Model,
  loss_fn: LossFn,
  images: np.ndarray,
  labels: np.ndarray,
  steps: int,
  seed: int,
  batch_size: int = 128,
  learning_rate: float = 2e-3,
  augment: bool = False,
  folder: str | None = None,
  checkpoint_every: int = 50,
  watch: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
  """Trains in place by AdamW, its learning rate warmed up and brought to 0 along a cosine.

  Each image is drawn, shifted and mirrored as its number and the seed say, and Dropout draws as
  the step does, so that a training that was interrupted goes on as if it had not been.

  Args:
    model: Of `keras_state.build`, its weights assigned: images -> outputs `[n, C]`.
    loss_fn: (labels, outputs) -> mean loss; regularisation of the model is added to it.
    images: float32 `[n, height, width, channels]` in [-1, 1].
    labels: int32 `[n]`.
    steps: Minibatches in all.
    seed: Of the images and of Dropout.
    batch_size: Images in one.
    learning_rate: The highest.
    augment: Whether images are shifted by up to an eighth of their size, and half of them mirrored.
    folder: Of checkpoints to go on from; None keeps none.
    checkpoint_every: Steps between two of them.
    watch: (step, its loss), called after every step.

  Raises:
    UnreadableError: If the checkpoint cannot be read.
  """
  warm_up = max(int(_WARM_UP * steps), 1)
  schedule = tf.keras.optimizers.schedules.CosineDecay(
    0.0, max(steps - warm_up, 1), warmup_target=learning_rate, warmup_steps=warm_up
  )
  # Compiled by XLA as on a CPU: not at all.
  optimizer = tf.keras.optimizers.AdamW(schedule, weight_decay=_WEIGHT_DECAY, jit_compile=False)
  optimizer.build(model.trainable_variables)
  checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
  manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1) if folder else None
  if manager:
    checkpoints.restore_variables(manager)

  @tf.function
  def take_step(inputs, targets, step):
    own = keras_state.fold_in(tf.stack([tf.constant(seed, tf.int64), step]), _DROPOUT)
    with tf.GradientTape() as tape:
      loss = loss_fn(targets, keras_state.call(model, inputs, own))
      loss += tf.add_n([0.0, *model.losses])
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss

  done = int(optimizer.iterations)
  numbers = range(done * batch_size, steps * batch_size)
  batches = _examples(images, labels, numbers, seed, augment).batch(batch_size).prefetch(2)
  for step, (inputs, targets) in enumerate(batches, done + 1):
    loss = take_step(inputs, targets, tf.constant(step, tf.int64))
    if manager and (step % checkpoint_every == 0 or step == steps):
      manager.save()
    watch(step, float(loss))


def _examples(
  images: np.ndarray, labels: np.ndarray, numbers: range, seed: int, augment: bool
) -> tf.data.Dataset:
  """The images with these numbers, and their labels."""
  images, labels = tf.constant(images), tf.constant(labels)

  def example(number):
    own = tf.stack([tf.constant(seed, tf.int64), number])
    drawn, cropped, flipped = (keras_state.fold_in(own, i) for i in _IMAGE)
    index = tf.random.stateless_uniform([], drawn, 0, tf.size(labels), tf.int32)
    image = images[index]
    if augment:
      shifts = [round(_SHIFT * side) for side in image.shape[:2]]
      padded = tf.pad(image, [*([shift, shift] for shift in shifts), [0, 0]], "REFLECT")
      image = tf.image.stateless_random_crop(padded, image.shape, cropped)
      image = tf.image.stateless_random_flip_left_right(image, flipped)
    return image, labels[index]

  return tf.data.Dataset.range(numbers.start, numbers.stop).map(example, tf.data.AUTOTUNE)
