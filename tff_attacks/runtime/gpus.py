"""What a process settles about its GPUs before TensorFlow starts."""

import logging

import tensorflow as tf


def default_device() -> str:
  """Where TensorFlow computes if it is not told: on the first GPU, if it finds one."""
  return "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"


def prepare(repeatable: bool = True) -> None:
  """Lets memory grow as needed, and makes GPUs compute as a CPU does, each time the same.

  Args:
    repeatable: Whether TensorFlow refuses kernels whose results differ from one run to the next.
      Not at a worker: the operations that it gets were chosen elsewhere, perhaps for a CPU.
  """
  # TensorFloat-32 has 10 bits for what attacks find in small gradients, and for the norms
  # that privacy bounds.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  gpus = tf.config.list_physical_devices("GPU")
  try:
    for gpu in gpus:
      tf.config.experimental.set_memory_growth(gpu, True)
  except RuntimeError:
    logging.warning("TensorFlow runs already: it has taken the memory of the GPUs.")
  if gpus and repeatable:
    tf.config.experimental.enable_op_determinism()
