"""What adversarial images out of a leaked gradient show, as tables beside the paper's values."""

import pathlib
from typing import Any

import numpy as np
import pandas as pd

from experiments.adversarial_leakage_config import CALLS, AdversarialLeakageConfig
from experiments.tables import markdown, number
from tff_attacks.metrics import adversarial as metrics
from tff_attacks.metrics import significance

_REFERENCE = pathlib.Path(__file__).parent / "reference" / "adversarial_leakage.csv"
_LEVEL = 0.05
_LEGEND = (
  "(a): share of the reconstructions that the target calls by the label whose gradient was "
  "inverted; (b): share of the images with at least one such; 95% intervals, for (a) as if copies "
  "of one image were one. All but one: (a), if one copy had the whole gradient and the others were "
  "called by the label with certainty, which makes theirs vanish; their gradients: the share that "
  "those called so have in the sum of the norms of all copies' gradients. In range: (a) after "
  "pixels are cut off at black and white. True: share of the reconstructions that it calls by the "
  "true label. Of noise: what images like those where the search starts reach. Independent: 1 - (1 "
  "- a)^B, of copies that are independent and called so as often for one image as for another. "
  "Confidence: in the label, of those called so, mean over the images. PSNR: to the image, of "
  "those called so and of the others. SSIM: of all. Identified: nearer to it than to any other "
  "test image of its class. The paper's: read off its Figure 6; its "
  "notebooks and, by now, its program take 1,200 steps."
)


def describe(
  config: AdversarialLeakageConfig, scores: pd.DataFrame, accuracy: dict[str, float]
) -> list[str]:
  """The report as lines of Markdown.

  Args:
    config: Of the run.
    scores: A row an attempt, as in scores.csv.
    accuracy: Of each model on the test set.
  """
  failed = scores["hits"].isna().sum()
  scores = scores.dropna(subset="hits")
  table = metrics.settings(scores)
  return [
    "# Adversarial images out of a leaked gradient",
    "",
    f"Target: {config.model} on {config.dataset}, test accuracy {accuracy[config.model]:.3f}. "
    f"{scores['image'].nunique()} test images that it calls {CALLS[config.choose]}, "
    f"{config.steps} steps, seed {config.seed}."
    + (f" {failed} attempts could not be run, see scores.csv." if failed else ""),
    "",
    *_shares(config, table),
    "",
    _LEGEND,
    "",
    *_trends(table, scores),
    *_variants(scores),
    *_control(scores),
    *(["", *_transfer(config, scores, accuracy)] if config.transfer else []),
  ]


def _shares(config: AdversarialLeakageConfig, table: pd.DataFrame) -> list[str]:
  published = pd.read_csv(_REFERENCE).set_index(["dataset", "model", "stack"])
  rows = [
    (
      row.gradient.replace("_", " "),
      str(row.stack),
      f"{row.total_variation:g}",
      row.tensors,
      _interval(row.copies, row.copies_low, row.copies_high),
      f"{1 - 1 / row.stack:.0%}",
      f"{row.hits_norm:.0%}",
      f"{row.copies_in_range:.0%}",
      f"{row.copies_true:.0%}",
      f"{row.copies_noise:.0%}",
      _interval(row.images, row.images_low, row.images_high),
      f"{row.images_independent:.0%}",
      f"{row.images_noise:.0%}",
      number(row.confidence, ".2f"),
      number(row.hits_psnr, ".1f"),
      number(row.others_psnr, ".1f"),
      f"{row.ssim:.2f}",
      f"{row.identified:.0%}",
      f"{row.seconds:.0f}",
      _published(config, published, row),
    )
    for row in table.itertuples()
  ]
  head = (
    "gradient of", "stack", "TV", "tensors", "(a)", "all but one", "their gradients", "in range",
    "true", "(a) of noise", "(b)", "independent", "(b) of noise", "confidence", "PSNR", "of others",
    "SSIM", "identified", "seconds", "the paper's (a), (b)",
  )  # fmt: skip
  return markdown(head, rows)


def _interval(share: float, low: float, high: float) -> str:
  return f"{share:.0%} ({low:.0%} to {high:.0%})"


def _published(config: AdversarialLeakageConfig, published: pd.DataFrame, row: Any) -> str:
  """The paper's values in its own setting."""
  its_own = (row.gradient, row.total_variation, row.tensors) == ("true_label", 0.1, "all")
  key = (config.dataset, config.model, row.stack)
  if config.choose != "misclassified" or config.box or not its_own or key not in published.index:
    return ""
  return f"{published.loc[key, 'copies']:.0%}, {published.loc[key, 'images']:.0%}"


def _trends(table: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
  """Whether the shares rise with the stack, as the paper finds."""
  lines = []
  true = table[table["gradient"] == "true_label"].sort_values("stack", kind="stable")
  for (variation, tensors), rows in true.groupby(["total_variation", "tensors"], sort=False):
    if len(rows) < 2:
      continue
    first, last = rows["stack"].iloc[0], rows["stack"].iloc[-1]
    same = scores[
      (scores["gradient"] == "true_label")
      & (scores["total_variation"] == variation)
      & (scores["tensors"] == tensors)
    ].pivot(index="image", columns="stack", values="hits")
    shares = (same / same.columns).dropna()
    p = significance.paired_p_value(shares[last].to_numpy(), shares[first].to_numpy())
    lines.append(
      f"- From stack {first} to {last} (TV {variation:g}, {tensors}): (a) "
      f"{_trend(rows['copies'])}{_said(p)}, (b) {_trend(rows['images'])}."
    )
  return lines


def _variants(scores: pd.DataFrame) -> list[str]:
  """The other weights of smoothness, and ways to compare gradients, beside the first ones."""
  lines = []
  true = scores[scores["gradient"] == "true_label"]
  for stack, rows in true.groupby("stack", sort=False):
    by = ["total_variation", "tensors"]
    shares = (rows.pivot(index="image", columns=by, values="hits") / stack).dropna()
    if shares.empty:  # No image has all of them yet.
      continue
    first, *others = rows[by].drop_duplicates().itertuples(index=False, name=None)
    for other in others:
      p = significance.paired_p_value(shares[other].to_numpy(), shares[first].to_numpy())
      lines.append(
        f"- Stack {stack}: (a) is {shares[first].mean():.0%} with TV {first[0]:g} and {first[1]}, "
        f"{shares[other].mean():.0%} with TV {other[0]:g} and {other[1]}{_said(p)}."
      )
  return lines


def _trend(shares: pd.Series) -> str:
  if not shares.is_monotonic_increasing:
    return "does not rise at every step"
  return "rises" if shares.iloc[-1] > shares.iloc[0] else "stays the same"


def _said(p: float) -> str:
  return "" if np.isnan(p) else f" (paired permutation test p = {p:.2g})"


def _control(scores: pd.DataFrame) -> list[str]:
  """The shares with the true label's gradient beside those with a wrong one's, same images."""
  lines, above, below, settings = [], 0, 0, 0
  for (stack, variation, tensors), rows in scores.groupby(metrics.SETTING, sort=False):
    pairs = rows.pivot(index="image", columns="gradient", values=["hits", "true_hits"])
    pairs = pairs.dropna() / stack
    if not {"true_label", "wrong_label"} <= set(pairs["hits"]):
      continue
    true, wrong = pairs["hits", "true_label"], pairs["hits", "wrong_label"]
    by_image = pairs["true_hits", "wrong_label"]
    differ = int((true != wrong).sum())  # The others have no sign to flip.
    least = 2 / 2**differ
    p, p_image = (
      significance.paired_p_value(true.to_numpy(), other.to_numpy()) for other in (wrong, by_image)
    )
    lines.append(
      f"- Stack {stack} (TV {variation:g}, {tensors}): the true label's gradient is called by that "
      f"label in {true.mean():.0%}, a wrong label's by that wrong label in {wrong.mean():.0%}"
      f"{_said(p)}, and by the true label in {by_image.mean():.0%}{_said(p_image)}."
    )
    if least >= _LEVEL:
      lines[-1] += f" The two differ for {differ} of {len(pairs)} images, too few to tell"
      lines[-1] += f": p cannot be below {least:g}." if differ else "."
      continue
    settings += 1
    above += true.mean() > wrong.mean() and p < _LEVEL
    below += true.mean() < wrong.mean() and p < _LEVEL
  if not settings:
    return lines
  return [
    *lines,
    f"- The true label is reached more often than a wrong one, drawn at random (p < {_LEVEL:g}), "
    f"in {above} of {settings} settings, less often in {below}; in the others they are not told "
    "apart. More often: the image counts, too, or the true label is the easier one. If not: "
    "nothing shows that it is more than the gradient's label that the pictures are called by.",
  ]


def _transfer(
  config: AdversarialLeakageConfig, scores: pd.DataFrame, accuracy: dict[str, float]
) -> list[str]:
  """What other models call the same reconstructions."""
  rows = []
  for setting, both in scores.groupby(metrics.SETTING, sort=False):
    stack, variation, tensors = setting
    found = both[both["gradient"] == "true_label"]
    wrong = both[both["gradient"] == "wrong_label"]
    if found.empty:
      continue
    on_target = metrics.rates(found["hits"].to_numpy(), stack)
    for name in config.transfer:
      rates = metrics.rates(found[f"{name}_hits"].to_numpy(), stack)
      of_wrong = ""
      if not wrong.empty:
        of_wrong = f"{metrics.rates(wrong[f'{name}_hits'].to_numpy(), stack).copies:.0%}"
      rows.append(
        (
          name,
          f"{accuracy[name]:.3f}",
          str(stack),
          f"{variation:g}",
          tensors,
          f"{found[f'{name}_image'].mean():.0%}",
          f"{on_target.copies:.0%}",
          _interval(rates.copies, *rates.copies_interval),
          f"{found[f'{name}_noise'].mean():.0%}",
          of_wrong,
        )
      )
  head = (
    "other model", "test accuracy", "stack", "TV", "tensors", "the images", "target", "other model",
    "of noise", "wrong label",
  )  # fmt: skip
  return [
    *markdown(head, rows),
    "",
    "Share called by the true label: of the images by the other model, of their reconstructions by "
    "the target and by the other model. Of noise: what images like those where the search starts "
    "reach with the other model; wrong label: what reconstructions from that label's gradient "
    "reach with that label. The paper, with faces: 5% (FaceNet), 0% (ResNet-50), 0% "
    "(SE-ResNet-50).",
  ]
