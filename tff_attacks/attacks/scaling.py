"""What a malicious client makes of its update: two `poison_update` functions."""

import tensorflow as tf

from tff_attacks.attacks import attack


def train_and_scale(workspace, state, context, data, train, update, seed):
  """Scales the update to the norm of an honest one, which it trains to know.

  So it passes a server that drops long updates, and a short one grows (gamma = Q / norm may
  exceed 1). Source: https://arxiv.org/abs/1807.00459, and Eq. 5 of the ADA paper, where
  several compromised clients estimate Q together; here each uses its own. It is longer than the
  others' honest updates where its data are of another kind, and where the optimizer's state
  that it keeps is that of its poisoned rounds.
  """
  del workspace, context, seed
  honest_norm, norm = (tf.linalg.global_norm(tf.nest.flatten(one)) for one in (train(data), update))
  gamma = tf.math.divide_no_nan(honest_norm, norm)
  return state, scale(update, gamma)


def model_replacement(factor: float) -> attack.PoisonUpdate:
  """Multiplies the update, so that it outweighs the others in a mean of `factor` clients.

  Source: https://arxiv.org/abs/1807.00459, Eq. 3.
  """

  def poison_update(workspace, state, context, data, train, update, seed):
    del workspace, context, data, train, seed
    return state, scale(update, factor)

  return poison_update


def scale(update, factor):
  """Multiplies every weight."""
  return tf.nest.map_structure(lambda weights: factor * weights, update)
