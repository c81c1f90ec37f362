"""Models by name: ours, or a user's own as `package.module:function`."""

import functools
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models import applications, attacking_distance, crpa, information_stealing, leakage, resnet

GLOBAL_MODELS: dict[str, Callable[..., tf.keras.Model]] = {
  "attacking_distance": attacking_distance.classifier,
  "attacking_distance_unpooled": attacking_distance.unpooled,
  "cnn": leakage.cnn,
  "crpa": crpa.discriminator,
  "densenet121": applications.densenet121,
  "densenet121_pooled": applications.densenet121_pooled,
  "dlf_cnn": leakage.dlf_cnn,
  "inception_resnet": applications.inception_resnet,
  "information_stealing": information_stealing.discriminator,
  "lenet": leakage.lenet,
  "mlp": leakage.mlp,
  "resnet18": resnet.resnet18,
  "resnet18_pooled": resnet.resnet18_pooled,
  "resnet8": resnet.resnet8,
  "resnet50": applications.resnet50,
  "se_resnet50": resnet.se_resnet50,
  "vgg16": applications.vgg16,
}
"""Each is (image shape, number of classes C) -> Keras model with C or C + 1 outputs."""

_NO_LOGITS = ("hard_sigmoid", "relu", "sigmoid", "softplus", "tanh")

GENERATORS: dict[str, Callable[..., tf.keras.Model]] = {
  "crpa": crpa.generator,
  "information_stealing": information_stealing.generator,
}
"""Each is (image shape) -> Keras model from noise to images in [-1, 1]."""

KNOWN = {"model": GLOBAL_MODELS, "generator": GENERATORS}
"""By the option that names one."""


class Contract(NamedTuple):
  """What the federation needs to know of a global model.

  Attributes:
    num_outputs: C, or C + 1 with a class for generated images.
    from_logits: Whether the outputs are logits rather than probabilities.
  """

  num_outputs: int
  from_logits: bool


class GlobalModel(NamedTuple):
  """A global model that fits the data.

  Attributes:
    model_fn: Builds it.
    model: One of them.
    contract: What it offers.
  """

  model_fn: Callable[[], tf.keras.Model]
  model: tf.keras.Model
  contract: Contract


class Generator(NamedTuple):
  """A generator that fits the data.

  Attributes:
    model_fn: Builds it.
    model: One of them.
    noise_size: Dimension of its noise.
  """

  model_fn: Callable[[], tf.keras.Model]
  model: tf.keras.Model
  noise_size: int


def generator(name: str, image_shape: tuple[int, int, int]) -> Generator:
  """Finds, builds and checks a generator.

  Args:
    name: Its name, or `package.module:function`.
    image_shape: Height, width and channels of the data.

  Raises:
    ValueError: If it is not found or does not fit.
  """
  model_fn = functools.partial(find("generator", name, GENERATORS), image_shape)
  model = build("generator", name, model_fn)
  return Generator(model_fn, model, check_generator(model, image_shape))


def global_model(
  name: str,
  image_shape: tuple[int, int, int],
  num_classes: int,
  option: str = "model",
  wrap: Callable[[Callable[[], tf.keras.Model]], Callable[[], tf.keras.Model]] | None = None,
) -> GlobalModel:
  """Finds, builds and checks a global model.

  Args:
    name: Its name, or `package.module:function`.
    image_shape: Height, width and channels of the data.
    num_classes: C.
    option: The option that names it, for messages.
    wrap: Makes another function of the one that builds it.

  Raises:
    ValueError: If it is not found or does not fit.
  """
  function = find(option, name, GLOBAL_MODELS)
  model_fn: Callable[[], tf.keras.Model] = functools.partial(function, image_shape, num_classes)
  if wrap:
    model_fn = wrap(model_fn)
  model = build(option, name, model_fn)
  return GlobalModel(model_fn, model, check_global_model(model, image_shape, num_classes, option))


def find(
  kind: str, name: str, known: dict[str, Callable[..., tf.keras.Model]]
) -> Callable[..., tf.keras.Model]:
  """Returns the function that builds a model.

  Args:
    kind: The option's name, for messages.
    name: A key of `known` or `package.module:function`.
    known: Functions by name.

  Raises:
    ValueError: If there is no such function.
  """
  if name in known:
    return known[name]
  if ":" not in name:
    raise ValueError(
      f"{kind}: unknown {name!r}; allowed: {', '.join(known)}, or package.module:function"
    )
  try:
    found = pkgutil.resolve_name(name)
  except Exception as error:  # Whatever a user's module raises.
    raise ValueError(f"{kind}: {name!r} cannot be imported: {error}") from error
  if not callable(found):
    raise ValueError(f"{kind}: {name!r} is no function")
  return found


def build(kind: str, name: str, model_fn: Callable[[], tf.keras.Model]) -> tf.keras.Model:
  """Builds a model that may be a user's own.

  Raises:
    ValueError: If it cannot be built or is no Keras model with one input and output.
  """
  try:
    model = model_fn()
    model.input_shape, model.output_shape  # noqa: B018 (Keras raises if there are several.)
  except Exception as error:  # Whatever a user's code raises.
    raise ValueError(f"{kind}: {name!r} cannot be built: {error}") from error
  return model


def check_global_model(
  model: tf.keras.Model, image_shape: tuple[int, int, int], num_classes: int, option: str = "model"
) -> Contract:
  """Checks that a model can be federated.

  Args:
    model: A built Keras model.
    image_shape: Height, width and channels of the data.
    num_classes: C.
    option: The option that names it, for messages.

  Returns:
    What it offers.

  Raises:
    ValueError: If its input or output does not fit.
  """
  if tuple(model.input_shape[1:]) != tuple(image_shape):
    raise ValueError(
      f"{option}: its input is {list(model.input_shape[1:])}, the images are {list(image_shape)}"
    )
  outputs = model.output_shape
  if len(outputs) != 2 or outputs[1] not in (num_classes, num_classes + 1):
    raise ValueError(
      f"{option}: its output is {list(outputs)}; allowed: [None, {num_classes}] or "
      f"[None, {num_classes + 1}]"
    )
  probe = np.random.default_rng(0).uniform(-1, 1, [8, *image_shape]).astype(np.float32)
  values = model(probe, training=False).numpy()
  if not np.isfinite(values).all():
    raise ValueError(f"{option}: its output is not finite on images in [-1, 1]")
  probabilities = (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3)
  if not probabilities and (last := _last_activation(model)) in _NO_LOGITS:
    raise ValueError(f"{option}: it ends with {last}; let it end with softmax, or with logits")
  return Contract(outputs[1], from_logits=not probabilities)


def _last_activation(model: tf.keras.Model) -> str:
  layer = model.layers[-1]
  if isinstance(layer, tf.keras.Model):
    return _last_activation(layer)
  if isinstance(layer, tf.keras.layers.ReLU):
    return "relu"
  return getattr(getattr(layer, "activation", None), "__name__", "linear")


def check_generator(model: tf.keras.Model, image_shape: tuple[int, int, int]) -> int:
  """Checks that a generator makes such images, and returns the size of its noise.

  Raises:
    ValueError: If its input or output does not fit.
  """
  if len(model.input_shape) != 2:
    raise ValueError(f"generator: its input is {list(model.input_shape)}; allowed: [None, noise]")
  if tuple(model.output_shape[1:]) != tuple(image_shape):
    raise ValueError(
      f"generator: it makes {list(model.output_shape[1:])}, the images are {list(image_shape)}"
    )
  noise = 10 * np.random.default_rng(0).normal(size=[8, model.input_shape[1]])
  if not (np.abs(model(noise.astype(np.float32), training=False)) <= 1).all():
    raise ValueError("generator: it makes images outside of [-1, 1], let it end with tanh")
  return model.input_shape[1]
