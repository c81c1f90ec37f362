"""What adversarial images out of a leaked gradient show, as tables beside the paper's values."""

import pathlib

import numpy as np
import pandas as pd

from experiments.adversarial_leakage_config import AdversarialLeakageConfig
from experiments.published import markdown
from tff_attacks.metrics import adversarial as metrics

_REFERENCE = pathlib.Path(__file__).parent / "reference" / "adversarial_leakage.csv"
_SETTING = ["stack", "total_variation", "tensors"]


def settings(scores: pd.DataFrame) -> pd.DataFrame:
  """A row for each label and setting.

  Args:
    scores: A row an attempt, as in scores.csv.

  Returns:
    Columns: labels, stack, total_variation, tensors, how many images; the shares of
    `metrics.Rates` with the bounds of their intervals, the share of copies after they are cut off
    at [-1, 1], what as much noise reaches, and means of confidence, likeness and seconds.
  """
  rows = []
  for key, found in scores.groupby(["labels", *_SETTING], sort=False):
    stack = key[1]
    rates = metrics.rates(found["hits"].to_numpy(), stack)
    rows.append(
      {
        **dict(zip(["labels", *_SETTING], key, strict=True)),
        "num_images": len(found),
        "copies": rates.copies,
        "copies_low": rates.copies_interval[0],
        "copies_high": rates.copies_interval[1],
        "copies_in_range": found["hits_in_range"].sum() / (stack * len(found)),
        "copies_noise": found["noise"].mean(),
        "images": rates.images,
        "images_low": rates.images_interval[0],
        "images_high": rates.images_interval[1],
        "images_independent": rates.independent,
        "images_noise": (1 - (1 - found["noise"]) ** stack).mean(),
        **found[["confidence", "psnr", "ssim", "identified", "seconds"]].mean().to_dict(),
      }
    )
  return pd.DataFrame(rows)


def describe(
  config: AdversarialLeakageConfig, scores: pd.DataFrame, accuracy: dict[str, float]
) -> list[str]:
  """The report as lines of Markdown.

  Args:
    config: Of the run.
    scores: A row an attempt.
    accuracy: Of each model on the test set.
  """
  table = settings(scores)
  lines = [
    "# Adversarial images out of a leaked gradient",
    "",
    f"Target: {config.model} on {config.dataset}, test accuracy {accuracy[config.model]:.3f}. "
    f"{scores['image'].nunique()} test images that it calls "
    f"{'rightly' if config.choose == 'correct' else 'wrongly'}, {config.steps} steps, seed "
    f"{config.seed}.",
    "",
    *_shares(config, table),
    "",
    "(a): share of the reconstructions that the target calls by the label whose gradient was "
    "inverted; (b): share of the images with at least one such; 95% intervals, for (a) as if "
    "copies of one image were independent. In range: (a) after pixels are cut off at black and "
    "white. Noise: where the search starts, without any step. Independent: 1 - (1 - a)^B. "
    "Confidence: in the label, of those that are called so. PSNR and SSIM: to the image. "
    "Identified: nearer to it than to any other test image of its class.",
    "",
    *_trends(table),
    *_control(scores),
  ]
  if config.transfer:
    lines += ["", *_transfer(config, scores, accuracy)]
  return lines


def _shares(config, table: pd.DataFrame) -> list[str]:
  published = pd.read_csv(_REFERENCE).set_index(["dataset", "model", "stack"])
  rows = []
  for row in table.itertuples():
    key = (config.dataset, config.model, row.stack)
    theirs = published.loc[key] if row.labels == "right" and key in published.index else None
    rows.append(
      (
        row.labels,
        str(row.stack),
        f"{row.total_variation:g}",
        row.tensors,
        f"{row.copies:.0%} ({row.copies_low:.0%} to {row.copies_high:.0%})",
        f"{row.copies_in_range:.0%}",
        f"{row.copies_noise:.0%}",
        f"{row.images:.0%} ({row.images_low:.0%} to {row.images_high:.0%})",
        f"{row.images_independent:.0%}",
        f"{row.images_noise:.0%}",
        "" if np.isnan(row.confidence) else f"{row.confidence:.2f}",
        f"{row.psnr:.1f}",
        f"{row.ssim:.2f}",
        f"{row.identified:.0%}",
        f"{row.seconds:.0f}",
        "" if theirs is None else f"{theirs['copies']:.0%}, {theirs['images']:.0%}",
      )
    )
  head = (
    "label", "stack", "TV", "tensors", "(a)", "in range", "noise", "(b)", "independent", "noise",
    "confidence", "PSNR", "SSIM", "identified", "seconds", "the paper's (a), (b)",
  )  # fmt: skip
  return markdown(head, rows)


def _trends(table: pd.DataFrame) -> list[str]:
  """Whether the shares rise with the stack, as the paper finds."""
  lines = []
  true = table[table["labels"] == "right"]
  for (variation, tensors), rows in true.groupby(["total_variation", "tensors"], sort=False):
    if len(rows) < 2:
      continue
    rows = rows.sort_values("stack")
    held = {name: rows[name].is_monotonic_increasing for name in ("copies", "images")}
    lines.append(
      f"- From stack {rows['stack'].iloc[0]} to {rows['stack'].iloc[-1]} (TV {variation:g}, "
      f"{tensors}): (a) {'rises' if held['copies'] else 'does not rise'} at every step, "
      f"(b) {'rises' if held['images'] else 'does not rise'}; "
      f"(b) above independent copies in {(rows['images'] > rows['images_independent']).sum()} of "
      f"{len(rows)}."
    )
  return lines


def _control(scores: pd.DataFrame) -> list[str]:
  """The share with the true label beside that with a wrong one, of the same images."""
  lines = []
  for (stack, variation, tensors), rows in scores.groupby(_SETTING, sort=False):
    pairs = rows.pivot(index="image", columns="labels", values="hits").dropna() / stack
    if not {"right", "wrong"} <= set(pairs):
      continue
    p = metrics.paired_p_value(pairs["right"].to_numpy(), pairs["wrong"].to_numpy())
    lines.append(
      f"- Stack {stack} (TV {variation:g}, {tensors}): (a) {pairs['right'].mean():.0%} with the "
      f"true label, {pairs['wrong'].mean():.0%} with a wrong one"
      + ("." if np.isnan(p) else f", paired permutation test p = {p:.2g}.")
    )
  return lines


def _transfer(config, scores: pd.DataFrame, accuracy: dict[str, float]) -> list[str]:
  """What other models call the same reconstructions."""
  true = scores[scores["labels"] == "right"]
  stacks = list(dict.fromkeys(true["stack"]))
  rows = []
  for name in config.transfer:
    of_stack = [true[true["stack"] == stack] for stack in stacks]
    rows.append(
      (
        name,
        f"{accuracy[name]:.3f}",
        f"{true.groupby('image')[f'{name}_image'].first().mean():.0%}",
        *(f"{found[f'{name}_hits'].sum() / found['stack'].sum():.0%}" for found in of_stack),
      )
    )
  head = ("other model", "test accuracy", "the image", *(f"stack {stack}" for stack in stacks))
  return [
    *markdown(head, rows),
    "",
    "Share that other models call by the true label: of the images themselves, and of their "
    "reconstructions. The paper, with faces: 5% (FaceNet), 0% (ResNet-50), 0% (SE-ResNet-50).",
  ]
