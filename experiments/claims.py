"""The CRPA study's claims, each held against a sweep of ours."""

from typing import NamedTuple

import pandas as pd
from scipy import stats

from tff_attacks.metrics import study as metrics
from tff_attacks.plots import study

_NEGLIGIBLE = 0.1
_CHANCE = 0.1
_KINDS = {
  "microbatches": "privacy as published",
  "records": "privacy of each record",
  "clients": "privacy of each client",
}
_BASES = {
  study.AAA: ("without attack", "no_attack"),
  "recognised": ("of noise", "recognised_noise"),
}


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


def class_matters(summary: pd.DataFrame) -> Claim:
  """AAA differs between pairs by more than between seeds."""
  text = "the choice of classes matters"
  attacked = summary[summary["attack"] == "crpa"]
  values = attacked.pivot_table(index=study.PAIR, columns="seed", values=study.AAA).dropna()
  if values.shape[1] < 2 or len(values) < 3:
    return Claim(text, None, "needs at least three pairs with two seeds each")
  p_value = stats.f_oneway(*values.to_numpy()).pvalue
  return Claim(
    text,
    bool(p_value < 0.05),
    f"{len(values)} pairs, {values.shape[1]} seeds: analysis of variance p = {p_value:.2g}, range "
    f"{metrics.spread_over_noise(values):.1f} x the pooled standard deviation over the seeds",
  )


def no_pattern(summary: pd.DataFrame, published_aaa: pd.Series) -> list[Claim]:
  """Neither G alone nor T alone tells AAA."""
  ours = study.by_pair(summary)[study.AAA]
  claims = []
  for level, name in (("reconstruct", "row (G)"), ("poison", "column (T)")):
    text = f"AAA follows no {name}"
    if len(ours) < 20:
      claims.append(Claim(text, None, "needs at least 20 pairs"))
      continue
    found, published = (metrics.pattern(v, level) for v in (ours, published_aaa))
    claims.append(
      Claim(
        text,
        found.p_value > 0.05,
        f"explains {found.share:.0%} of the variance (p = {found.p_value:.4f}); of the published "
        f"values {published.share:.0%} (p = {published.p_value:.4f})",
      )
    )
  return claims


def balance(summary: pd.DataFrame) -> list[Claim]:
  """From the lowest alpha to the highest, of the most vulnerable pair."""
  weakens, keeps = (
    "balanced classes weaken the poisoning (AAA by a factor of 5)",
    "but not the reconstruction",
  )
  attacked = summary[summary["attack"] == "crpa"]
  means = attacked.pivot_table(
    index=study.PAIR,
    columns="alpha",
    values=[study.AAA, "no_attack", "correlation", "recognised"],
  )
  alphas = sorted(attacked["alpha"].unique())
  ends = means.loc[:, (slice(None), [alphas[0], alphas[-1]])].dropna()
  if len(alphas) < 2 or ends.empty:
    return [Claim(text, None, "needs two values of alpha") for text in (weakens, keeps)]
  pair = ends[study.AAA, alphas[0]].idxmax()
  skewed, balanced = (ends.loc[pair].xs(alpha, level="alpha") for alpha in (alphas[0], alphas[-1]))
  between = f"{study.pair_name(pair)}, from alpha = {alphas[0]:g} to {alphas[-1]:g}"

  def change(name, form):
    return f"{skewed[name]:{form}} to {balanced[name]:{form}}"

  return [
    Claim(
      weakens,
      bool(balanced[study.AAA] < skewed[study.AAA] / 5),
      f"{between}: AAA {change(study.AAA, '.3f')}, without attack {change('no_attack', '.3f')}",
    ),
    Claim(
      keeps,
      bool(balanced["correlation"] >= skewed["correlation"]),
      f"{between}: correlation {change('correlation', '.2f')}, recognised "
      f"{change('recognised', '.0%')}",
    ),
  ]


def privacy_stops(summary: pd.DataFrame) -> list[Claim]:
  """For each kind of noise: AAA as low as the study's, and no reconstruction.

  Clipping alone, and no privacy, stand beside it: what they stop is not the noise's doing.
  """
  names = [study.AAA, "no_attack", "recognised", "recognised_noise", "correlation"]
  attacked = summary[summary["attack"] == "crpa"]
  cells = {
    setting: runs.groupby([*study.PAIR, "alpha"])[[*names, "other_correlation"]].mean().dropna()
    for setting, runs in attacked.groupby("setting")
  }
  claims = []
  for setting, kind in _KINDS.items():
    if setting not in cells or cells[setting].empty:
      continue
    own = cells[setting]
    seen = own["recognised"] > own["recognised_noise"].clip(lower=_CHANCE)
    seen &= own["correlation"] > own["other_correlation"]
    claims += [
      Claim(
        f"{kind} stops the poisoning (AAA below {_NEGLIGIBLE})",
        bool((own[study.AAA] < _NEGLIGIBLE).all()),
        f"AAA {_highest(cells, setting, study.AAA, '.3f')}",
      ),
      Claim(
        f"{kind} stops the reconstruction (recognised as noise is, or by chance, or more like "
        "another class)",
        not seen.any(),
        f"recognised {_highest(cells, setting, 'recognised', '.0%')}",
      ),
    ]
  nothing = Claim(f"{_KINDS['microbatches']} stops the attack", None, "needs runs under noise")
  return claims or [nothing]


def _highest(cells: dict[str, pd.DataFrame], setting: str, column: str, form: str) -> str:
  """The highest value under a kind of noise; that of the same cell under less, and its base's."""
  own = cells[setting]
  cell = own[column].idxmax()
  beside = [
    f"{name} {cells[other].loc[cell, column]:{form}}"
    for name, other in (("clipped alone", f"{setting}_clipped"), ("without privacy", "none"))
    if other in cells and cell in cells[other].index
  ]
  name, base = _BASES[column]
  beside.append(f"{name} {own.loc[cell, base]:{form}}")
  return f"at most {own.loc[cell, column]:{form}} ({_cell(cell)}; {', '.join(beside)})"


def _cell(index: tuple[int, int, float]) -> str:
  reconstruct, poison, alpha = index
  return f"{study.pair_name((reconstruct, poison))}, alpha = {alpha:g}"
