"""A sweep of semi-targeted attacks as tables, beside the published ones."""

import json
import pathlib

import pandas as pd

from experiments.published import markdown

_REFERENCE = pathlib.Path(__file__).parent / "reference" / "semi_targeted.csv"


def describe(summary: pd.DataFrame, sources: list[int]) -> list[str]:
  """The tables as lines of Markdown.

  Args:
    summary: A row a run, see `semi_targeted_sweep.row`.
    sources: Source classes.
  """
  attacked = summary[summary["attack"] != "none"]
  nothing = summary[summary["attack"] == "none"]
  lines = [f"# Semi-targeted attacks on {summary['dataset'].iloc[0]}, source {sources}", ""]
  for aggregator, runs in attacked.groupby("aggregator", sort=False):
    lines += [f"## {aggregator}: highest ATA and its MTA", "", *_frequencies(runs, sources), ""]
    agreement = chosen_and_best(runs)
    if not agreement.empty:
      lines += ["ADA's target beside the one with the highest ATA:", "", *_agreement(agreement), ""]
  lines += ["## Without any attack", "", *_nothing(nothing), ""]
  if attacked["aggregator"].nunique() > 1:
    lines += ["## Attack against defence: highest ATA / MTA there", "", *_matrix(attacked), ""]
  return lines


def _over_targets(runs: pd.DataFrame) -> pd.DataFrame:
  """Mean over the targets of each attack, frequency and seed, and the best target's."""
  groups = runs.groupby(["attack", "frequency", "seed"], sort=False)
  return groups.agg(
    targets=("best_ata", "size"), ata=("best_ata", "mean"), mta=("its_mta", "mean"),
    best=("best_ata", "max"),
  )  # fmt: skip


def _frequencies(runs: pd.DataFrame, sources: list[int]) -> list[str]:
  published = pd.read_csv(_REFERENCE).set_index(["dataset", "attack", "frequency"])
  rows = []
  for (attack, frequency), seeds in _over_targets(runs).groupby(
    level=["attack", "frequency"], sort=False
  ):
    key = (runs["dataset"].iloc[0], attack, frequency)
    theirs = published.loc[key] if key in published.index and sources == [2] else None
    rows.append(
      (
        attack.replace("_", " "),
        f"{frequency:g}",
        seeds["targets"].iloc[0],
        len(seeds),
        _spread(seeds["ata"]),
        _spread(seeds["best"]),
        _spread(seeds["mta"]),
        *("" if theirs is None else f"{theirs[name]:.3f}" for name in ("ata", "mta")),
      )
    )
  head = ("attack", "frequency", "targets", "seeds", "ATA, mean of the targets",
          "ATA, best target", "MTA", "published ATA", "published MTA")  # fmt: skip
  return markdown(head, rows)


def chosen_and_best(runs: pd.DataFrame) -> pd.DataFrame:
  """For each run of ADA its targets, and the one that train-and-scale did best with.

  Args:
    runs: With one source class and one aggregator; train-and-scale with several targets.

  Returns:
    Columns attack, frequency, seed, chosen (list), best; empty if that cannot be told.
  """
  fixed = runs[runs["attack"] == "train_and_scale"]
  rows = []
  for one in runs[runs["attack"].str.startswith("ada")].to_dict("records"):
    same = fixed[(fixed["frequency"] == one["frequency"]) & (fixed["seed"] == one["seed"])]
    chosen = json.loads(one["targets_chosen"])
    if len(same) > 1 and len(chosen) == 1:
      best = int(same.loc[same["best_ata"].idxmax(), "target"])
      names = {name: one[name] for name in ("attack", "frequency", "seed")}
      rows.append(names | {"chosen": chosen[0], "best": best})
  return pd.DataFrame(rows)


def _agreement(agreement: pd.DataFrame) -> list[str]:
  rows = [
    (
      one["attack"].replace("_", " "), f"{one['frequency']:g}", one["seed"],
      ", ".join(map(str, one["chosen"])) or "never drawn", one["best"],
      "yes" if one["chosen"] == [one["best"]] else "no",
    )
    for one in agreement.to_dict("records")
  ]  # fmt: skip
  agreed = sum(row[-1] == "yes" for row in rows)
  head = ("attack", "frequency", "seed", "chosen", "best", "the same")
  return [*markdown(head, rows), "", f"The same in {agreed} of {len(rows)} runs."]


def _nothing(runs: pd.DataFrame) -> list[str]:
  rows = [
    (aggregator, _spread(seeds["best_max_ata"]), _spread(seeds["test_accuracy"]))
    for aggregator, seeds in runs.groupby("aggregator", sort=False)
  ]
  return markdown(("aggregator", "highest max-ATA", "test accuracy at the end"), rows)


def _matrix(attacked: pd.DataFrame) -> list[str]:
  """At the highest frequency, the best target of each attack."""
  runs = attacked[attacked["frequency"] == attacked["frequency"].max()]
  best = runs.loc[runs.groupby(["attack", "aggregator", "seed"])["best_ata"].idxmax().dropna()]
  cells = best.groupby(["attack", "aggregator"])[["best_ata", "its_mta"]].mean()
  aggregators = list(dict.fromkeys(attacked["aggregator"]))
  cells = cells.reindex(pd.MultiIndex.from_product([attacked["attack"].unique(), aggregators]))
  rows = []
  for attack in dict.fromkeys(attacked["attack"]):
    found = [
      cells.loc[attack, name] if (attack, name) in cells.index else None for name in aggregators
    ]
    rows.append(
      [attack.replace("_", " ")]
      + ["" if c is None else f"{c['best_ata']:.2f} / {c['its_mta']:.2f}" for c in found]
    )
  return markdown(("attack", *aggregators), rows)


def _spread(values: pd.Series) -> str:
  if len(values) < 2:
    return f"{values.mean():.3f}"
  return f"{values.mean():.3f} +/- {values.std():.3f}"
