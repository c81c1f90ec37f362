"""Our sweeps beside the values that the CRPA study published."""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from experiments.options import ConfigError
from tff_attacks.metrics import study
from tff_attacks.plots import study as plots

_FOLDER = pathlib.Path(__file__).parent / "reference"
_AAA = "average_attack_accuracy"
_PAIR = ["reconstruct", "poison"]
# The published code gives these pairs an adversary that holds G or T, or the wrong data.
_SPOILED = {(3, 0), (0, 1)}


class Claim(NamedTuple):
  """One of the study's claims.

  Attributes:
    text: The claim.
    held: Whether it held here; None if that was not tested.
    figures: What was measured.
  """

  text: str
  held: bool | None
  figures: str


def read(experiment: str, folder: str) -> pd.DataFrame:
  """Reads the summary of a sweep over a dataset that the study used.

  Raises:
    ConfigError: If it is not there, of another experiment, or of another dataset.
  """
  try:
    found = (pathlib.Path(folder) / "experiment.txt").read_text()
    summary = plots.read(pathlib.Path(folder))
  except (OSError, ValueError) as error:
    raise ConfigError(f"{experiment}: {folder} holds no sweep with runs: {error}") from error
  if found != experiment:
    raise ConfigError(f"{experiment}: {folder} is of experiments.{found}")
  dataset = summary["dataset"].iloc[0]
  if not _reference(dataset).is_file():
    raise ConfigError(f"{experiment}: the study has no values for {dataset}")
  if not (summary["attack"] == "crpa").any():
    raise ConfigError(f"{experiment}: no run with the attack is finished in {folder}")
  return summary


def compare(
  combinations: pd.DataFrame | None = None,
  distributions: pd.DataFrame | None = None,
  controls: pd.DataFrame | None = None,
) -> list[str]:
  """Describes sweeps, see `read`, as lines of Markdown."""
  lines, claims = [], []
  if combinations is not None:
    lines += _combinations(combinations)
    claims += _no_pattern(combinations)
  if distributions is not None:
    lines += _distributions(distributions)
    claims += _balance(distributions)
  if controls is not None:
    lines += _controls(controls)
  repeated = controls if controls is not None else combinations
  if repeated is not None:
    claims.insert(0, _class_matters(repeated))
  claims.append(Claim("differential privacy stops the attack", None, "not part of these sweeps"))
  words = {True: "held", False: "**not held**", None: "not tested"}
  rows = [(claim.text, words[claim.held], claim.figures) for claim in claims]
  return [*lines, "## The study's claims", "", *markdown(("claim", "here", "figures"), rows), ""]


def matrix(dataset: str) -> pd.Series:
  """Published AAA of every pair of a dataset, indexed by (G, T)."""
  table = pd.read_csv(_reference(dataset), index_col="reconstructed")
  table.columns = table.columns.astype(int)
  values = table.rename_axis(index="reconstruct", columns="poison").stack()
  return values[values.index.get_level_values(0) != values.index.get_level_values(1)]


def _reference(dataset: str) -> pathlib.Path:
  return _FOLDER / f"crpa_{dataset}_aaa.csv"


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
  """A table in Markdown."""
  head = list(head)
  lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
  return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _combinations(summary: pd.DataFrame) -> list[str]:
  dataset = summary["dataset"].iloc[0]
  ours, theirs = plots.by_pair(summary)[_AAA], matrix(dataset)
  clean = ours[[pair[1] != 0 and pair not in _SPOILED for pair in ours.index]]
  rows = []
  for name, values in (("ours", ours), ("published", theirs[theirs.index.isin(ours.index)])):
    rows.append(
      (
        name,
        len(values),
        f"{values.mean():.3f}",
        f"{values.std():.3f}",
        f"{values.min():.3f} ({plots.pair_name(values.idxmin())})",
        f"{values.max():.3f} ({plots.pair_name(values.idxmax())})",
        f"{(values > 0.2).mean():.0%}",
      )
    )
  head = ("AAA", "pairs", "mean", "standard deviation", "lowest", "highest", "above 0.2")
  agreements = [
    (name, a.pairs, f"{a.spearman:.2f}", f"{a.pearson:.2f}", f"{a.mean_absolute_difference:.3f}")
    for name, a in (
      ("all pairs", study.agreement(ours, theirs)),
      ("without T = 0, (3, 0) and (0, 1)", study.agreement(clean, theirs)),
      ("AAA without attack and published", study.agreement(_no_attack(summary), theirs)),
      ("AAA without attack and ours", study.agreement(_no_attack(summary), ours)),
    )
  ]
  agreement_head = ("over", "pairs", "rank correlation", "correlation", "mean |difference|")
  return [
    f"## All pairs, {dataset}",
    "",
    *markdown(head, rows),
    "",
    *markdown(agreement_head, agreements),
    "",
  ]


def _no_attack(summary):
  return plots.by_pair(summary)["no_attack"]


def _distributions(summary: pd.DataFrame) -> list[str]:
  published = pd.read_csv(_FOLDER / "crpa_distribution_aaa.csv")
  published = published[published["differential_privacy"] == "no"].rename(
    columns={"reconstructed": "reconstruct", "poisoned": "poison", "aaa": "published"}
  )
  published = published[published["dataset"] == summary["dataset"].iloc[0]]
  ours = plots.table(summary, [*_PAIR, "alpha"]).reset_index()
  rows = ours.merge(published[[*_PAIR, "alpha", "published"]], on=[*_PAIR, "alpha"], how="left")
  return ["## Distributions", "", *_markdown(rows), ""]


def _controls(summary: pd.DataFrame) -> list[str]:
  ours = plots.table(summary, [*_PAIR, "attack"]).reset_index()
  published = matrix(summary["dataset"].iloc[0])
  published = [published[pair] for pair in ours[_PAIR].itertuples(index=False, name=None)]
  rows = ours.assign(published=np.where(ours["attack"] == "crpa", published, np.nan))
  return ["## Controls", "", *_markdown(rows), ""]


def _markdown(table: pd.DataFrame) -> list[str]:
  rows = table.astype(object).where(table.notna(), "")
  return markdown(rows.columns, rows.to_numpy().tolist())


def _class_matters(summary: pd.DataFrame) -> Claim:
  text = "the choice of classes matters"
  attacked = summary[summary["attack"] == "crpa"]
  values = attacked.pivot_table(index=_PAIR, columns="seed", values=_AAA).dropna()
  if values.shape[1] < 2 or len(values) < 3:
    return Claim(text, None, "needs at least three pairs with two seeds each")
  p_value = stats.f_oneway(*values.to_numpy()).pvalue
  return Claim(
    text,
    bool(p_value < 0.05),
    f"{len(values)} pairs, {values.shape[1]} seeds: analysis of variance p = {p_value:.4f}, range "
    f"{study.spread_over_noise(values):.1f} x the pooled standard deviation over the seeds",
  )


def _no_pattern(summary: pd.DataFrame) -> list[Claim]:
  ours = plots.by_pair(summary)[_AAA]
  claims = []
  for level, name in (("reconstruct", "row (G)"), ("poison", "column (T)")):
    text = f"AAA follows no {name}"
    if len(ours) < 20:
      claims.append(Claim(text, None, "needs at least 20 pairs"))
      continue
    found, published = (study.pattern(v, level) for v in (ours, matrix(summary["dataset"].iloc[0])))
    claims.append(
      Claim(
        text,
        found.p_value > 0.05,
        f"explains {found.share:.0%} of the variance (p = {found.p_value:.4f}); of the published "
        f"values {published.share:.0%} (p = {published.p_value:.4f})",
      )
    )
  return claims


def _balance(summary: pd.DataFrame) -> list[Claim]:
  weakens, keeps = "balanced classes weaken the poisoning", "but not the reconstruction"
  attacked = summary[summary["attack"] == "crpa"]
  means = attacked.pivot_table(
    index=_PAIR, columns="alpha", values=[_AAA, "correlation", "recognised"]
  )
  alphas = sorted(attacked["alpha"].unique())
  ends = means.loc[:, (slice(None), [alphas[0], alphas[-1]])].dropna()
  if len(alphas) < 2 or ends.empty:
    return [Claim(text, None, "needs two values of alpha") for text in (weakens, keeps)]
  pair = ends[_AAA, alphas[0]].idxmax()
  (aaa, balanced_aaa), (correlation, balanced_correlation), (recognised, balanced_recognised) = (
    ends.loc[pair, name].loc[[alphas[0], alphas[-1]]]
    for name in (_AAA, "correlation", "recognised")
  )
  between = f"{plots.pair_name(pair)}, from alpha = {alphas[0]:g} to {alphas[-1]:g}"
  return [
    Claim(weakens, bool(balanced_aaa < aaa / 5), f"{between}: AAA {aaa:.3f} to {balanced_aaa:.3f}"),
    Claim(
      keeps,
      bool(balanced_correlation >= correlation),
      f"{between}: correlation {correlation:.2f} to {balanced_correlation:.2f}, recognised "
      f"{recognised:.0%} to {balanced_recognised:.0%}",
    ),
  ]
