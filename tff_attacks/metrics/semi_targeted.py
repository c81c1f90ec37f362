"""How far images of a source class are taken for others, from a confusion matrix.

A confusion matrix is int `[outputs, outputs]`, row = true class, column = prediction. ts-ATA
(Eq. 4) is `classification.attack_accuracy`.
Source: Semi-Targeted Model Poisoning Attack on Federated Learning via Backward Error
Analysis, III.C and IV.B.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from tff_attacks.metrics import classification


def main_task_accuracy(confusion: np.ndarray, sources: Collection[int]) -> float:
  """MTA: accuracy on the images of all classes but the sources (Eq. 3)."""
  others = [label for label in range(len(confusion)) if label not in sources]
  return classification.share(np.diag(confusion)[others].sum(), confusion[others].sum())


def adversary_task_accuracies(
  confusions: Iterable[np.ndarray], targets: Mapping[int, int]
) -> np.ndarray:
  """ts-ATA of each round, mean over the sources (Eq. 4).

  Args:
    confusions: A matrix a round.
    targets: Target by source.

  Returns:
    float `[rounds]`.
  """
  return np.array(
    [
      np.mean([classification.attack_accuracy(matrix, *pair) for pair in targets.items()])
      for matrix in confusions
    ]
  )


def max_adversary_task_accuracy(
  confusion: np.ndarray, source: int, num_classes: int
) -> tuple[float, int]:
  """max-ATA: the highest ts-ATA over all other classes, and its class (Eq. 8).

  Args:
    confusion: int `[outputs, outputs]`, row = true class, column = prediction.
    source: The class that is attacked.
    num_classes: C; an output beyond them is no class of the data, and no target.
  """
  counts = confusion[source, :num_classes].copy()
  counts[source] = -1
  target = int(counts.argmax())
  return classification.attack_accuracy(confusion, source, target), target
