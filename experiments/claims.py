"""The CRPA study's claims, each held against a sweep of ours."""

from typing import NamedTuple

import pandas as pd
from scipy import stats

from tff_attacks.metrics import reconstruction
from tff_attacks.metrics import study as metrics
from tff_attacks.plots import study

_CLEAR = 0.05
"""What an attack must add to AAA so that there is something to stop."""

_KINDS = {
  "microbatches": "privacy as published",
  "microbatches_disobeyed": "privacy as published, disobeyed by the adversary,",
  "records": "privacy of each record",
  "records_disobeyed": "privacy of each record, disobeyed by the adversary,",
  "clients": "privacy of each client",
}


_MEASURES = {"AAA": study.AAA, "what the attack adds": study.ADDED}
"""What the study judges by, and what of it is not there without attack."""


class Claim(NamedTuple):
  """One of the study's claims.

  Attributes:
    text: The claim.
    held: Whether it held here; None if that was not tested, or too little to decide it.
    figures: What was measured.
  """

  text: str
  held: bool | None
  figures: str


def class_matters(summary: pd.DataFrame) -> list[Claim]:
  """Pairs differ by more than seeds."""
  attacked = study.with_added(summary[summary["attack"] == "crpa"])
  return [
    _pairs_differ(f"the choice of classes matters ({measure})", attacked, column)
    for measure, column in _MEASURES.items()
  ]


def _pairs_differ(text: str, attacked: pd.DataFrame, column: str) -> Claim:
  values = attacked.pivot_table(index=study.PAIR, columns="seed", values=column)
  values = values.loc[:, values.notna().mean() > 0.5].dropna()  # A seed may have just begun.
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
  """Neither G alone nor T alone tells how far a pair is poisoned."""
  means = study.by_pair(summary)
  claims = []
  for measure, column in _MEASURES.items():
    ours = means[column].dropna()
    for level, name in (("reconstruct", "row (G)"), ("poison", "column (T)")):
      text = f"{measure} follows no {name}"
      if len(ours) < 20:
        claims.append(Claim(text, None, "needs at least 20 pairs"))
        continue
      found, published = (metrics.pattern(v, level) for v in (ours, published_aaa))
      if pd.isna(found.share):
        claims.append(Claim(text, None, "it is the same for all pairs"))
        continue
      figures = f"explains {found.share:.0%} of the variance (p = {found.p_value:.4f})"
      if column == study.AAA:
        figures += f"; of the published {published.share:.0%} (p = {published.p_value:.4f})"
      claims.append(Claim(text, found.p_value > 0.05, figures))
  return claims


def balance(summary: pd.DataFrame) -> list[Claim]:
  """From the lowest alpha to the highest, of the most vulnerable pair."""
  weakens = {
    column: f"balanced classes weaken the poisoning ({measure} by a factor of 5)"
    for measure, column in _MEASURES.items()
  }
  keeps = "but not the reconstruction"
  attacked = study.with_added(summary[summary["attack"] == "crpa"])
  means = attacked.groupby([*study.PAIR, "alpha"]).mean(numeric_only=True).unstack("alpha")
  alphas = sorted(attacked["alpha"].unique())
  untested = [Claim(text, None, "needs two values of alpha") for text in (*weakens.values(), keeps)]
  if len(alphas) < 2:
    return untested
  ends = [(study.AAA, alpha) for alpha in (alphas[0], alphas[-1])]
  measured = means.dropna(subset=ends)
  if measured.empty:
    return untested
  pair = measured[ends[0]].idxmax()
  skewed, balanced = (measured.loc[pair].xs(alpha, level="alpha") for _, alpha in ends)
  gained = balanced["correlation"] - skewed["correlation"]
  between = f"{study.pair_name(pair)}, from alpha = {alphas[0]:g} to {alphas[-1]:g}"

  def change(name, form):
    return f"{skewed[name]:{form}} to {balanced[name]:{form}}"

  return [
    *(
      Claim(
        text,
        bool(balanced[column] < skewed[column] / 5) if skewed[column] > 0 else None,
        f"{between}: {change(column, '.3f')}",
      )
      for column, text in weakens.items()
    ),
    Claim(
      keeps,
      None if pd.isna(gained) else bool(gained >= 0),
      f"{between}: correlation {change('correlation', '.2f')}, recognised "
      f"{change('recognised', '.0%')}",
    ),
  ]


def privacy_stops(summary: pd.DataFrame) -> list[Claim]:
  """For each kind of noise: what the attack still adds to AAA, and how often it reconstructs.

  The first in the cells where it adds something without privacy: elsewhere there is nothing to
  stop. Clipping alone stands beside it: what that stops is not the noise's doing. A run that
  diverged shows neither.
  """
  runs = summary[summary["attack"] == "crpa"].set_index([*study.PAIR, "alpha", "seed"])
  runs = study.with_added(runs).assign(
    reconstructed=reconstruction.succeeded(
      runs["recognised"], runs["correlation"], runs["other_correlation"]
    ),
  )
  settings = dict(list(runs.groupby("setting")))
  claims = []
  for kind, text in _KINDS.items():
    if kind in settings:
      named = {
        "with it": kind,
        "clipping alone": f"{kind.partition('_')[0]}_clipped",
        "without privacy": "none",
      }
      levels = {name: settings[s] for name, s in named.items() if s in settings}
      claims += [_stops_poisoning(text, levels), _stops_reconstruction(text, levels)]
  nothing = Claim(f"{_KINDS['microbatches']} stops the attack", None, "needs runs under noise")
  return claims or [nothing]


def _stops_poisoning(kind: str, levels: dict[str, pd.DataFrame]) -> Claim:
  text = f"{kind} stops the poisoning (it adds less than {_CLEAR} to AAA)"
  if "without privacy" not in levels:
    return Claim(text, None, "needs runs without privacy")
  same = levels["with it"][study.ADDED].dropna().index  # Not every setting has every seed.
  cells = {
    name: _of_cells(runs[study.ADDED][runs.index.isin(same)]) for name, runs in levels.items()
  }
  free = cells["without privacy"]
  poisoned = free.index[free >= _CLEAR]
  left = cells["with it"].reindex(poisoned).dropna()
  diverged = _diverged(levels["with it"])
  if left.empty:
    return Claim(
      text, None, f"nothing is added without privacy, or runs are missing or diverged{diverged}"
    )
  means = ", ".join(
    f"{name} {values.reindex(left.index).mean():.3f}" for name, values in cells.items()
  )
  return Claim(
    text,
    bool((left < _CLEAR).all()),
    f"added {means}; with it at most {left.max():.3f} ({_cell(left.idxmax())}); {len(left)} cells "
    f"of pair and alpha{diverged}",
  )


def _stops_reconstruction(kind: str, levels: dict[str, pd.DataFrame]) -> Claim:
  diverged = _diverged(levels["with it"])
  levels = {name: runs.dropna(subset=study.AAA) for name, runs in levels.items()}
  same = levels["with it"].index  # Not every setting has every alpha.
  levels = {name: runs[runs.index.isin(same)] for name, runs in levels.items()}
  counts = {name: int(runs["reconstructed"].sum()) for name, runs in levels.items()}
  told = ", ".join(f"{name} {count} of {len(levels[name])} runs" for name, count in counts.items())
  held = None
  if counts.get("without privacy"):
    table = [[counts[n], len(levels[n]) - counts[n]] for n in ("with it", "without privacy")]
    _, p_value = stats.fisher_exact(table, alternative="less")
    told += f" (Fisher's exact test: p = {p_value:.2g})"
    if counts["with it"]:
      held = False
    elif p_value < 0.05:  # None of few is no proof.
      held = True
  return Claim(
    f"{kind} stops the reconstruction (at the end recognised, and most like G)",
    held,
    f"reconstructed {told}{diverged}",
  )


def _of_cells(values: pd.Series) -> pd.Series:
  """Means over the seeds, by pair and alpha."""
  return values.groupby(level=[*study.PAIR, "alpha"]).mean()


def _diverged(runs: pd.DataFrame) -> str:
  count = runs[study.AAA].isna().sum()
  return f"; {count} of {len(runs)} runs diverged" if count else ""


def _cell(index: tuple[int, int, float]) -> str:
  reconstruct, poison, alpha = index
  return f"{study.pair_name((reconstruct, poison))}, alpha = {alpha:g}"
