"""Our sweeps beside the values that the CRPA study published."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from experiments import claims, results_folder
from experiments.crpa_config import CRPAConfig
from experiments.options import ConfigError
from experiments.tables import markdown
from tff_attacks import files
from tff_attacks.metrics import significance, study
from tff_attacks.metrics.classification import LATE_ROUNDS
from tff_attacks.plots import study as plots

SWEEPS = ("combinations", "distributions", "controls", "differential_privacy")
"""Experiments with published values."""

_FOLDER = pathlib.Path(__file__).parent / "reference"
# The published code gives these pairs an adversary that holds G or T, or the wrong data.
_SPOILED = {(0, 1)}  # And all of T = 0.
_SPOILED_NAMES = "T = 0 and (0, 1)"
_STUDY: dict[str, Any] = {
  "attack": "crpa", "partition": "dirichlet", "num_clients": 10, "size_sigma": 0.0, "model": "crpa",
  "generator": "crpa", "num_adversaries": 1, "free_rider": False, "generated_label": "poison",
  "generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-4, "total_variation": 0.0,
  "generator_optimizer": "sgd", "aggregator": "mean", "local_epochs": 1, "warm_up_epochs": 0,
  "start_round": 0, "start_accuracy": 0.0, "adversary_noise": True, "keep_discriminator": False,
}  # fmt: skip
_NO_DP: dict[str, Any] = {"privacy": "none", "optimizer": "adam", "learning_rate": 1e-3}
_DP: dict[str, Any] = {
  "privacy": "microbatches", "microbatches": 1, "l2_norm_clip": 1.5, "noise_multiplier": 0.3,
  "optimizer": "sgd", "learning_rate": 0.25,
}  # fmt: skip
_SWEEPS: dict[str, dict[str, Any]] = {
  "combinations": {"alpha": 0.0},
  "controls": {"alpha": 0.0},
  "differential_privacy": {name: _DP[name] for name in ("microbatches", "l2_norm_clip")},
}
# Its section 6.3, of both datasets together.
_ACCURACIES = {"none": {0.0: 0.88, 10.0: 0.99}, "microbatches": {0.0: 0.45, 10.0: 0.89}}


def read(experiment: str, folder: str) -> pd.DataFrame:
  """Reads the summary of a sweep that does what the study did, with whatever amount of data.

  Raises:
    ConfigError: If it is not there, of another experiment or dataset, or another attack.
  """
  summary = results_folder.read_sweep(experiment, experiment, folder)
  dataset = summary["dataset"].iloc[0]
  if not _reference(dataset).is_file():
    raise ConfigError(f"{experiment}: the study has no values for {dataset}")
  if not (summary["attack"] == "crpa").any():
    raise ConfigError(f"{experiment}: no run with the attack is finished in {folder}")
  try:
    config = yaml.safe_load((pathlib.Path(folder) / "config.yaml").read_text())
  except (OSError, yaml.YAMLError) as error:
    raise ConfigError(f"{experiment}: {folder} holds no config: {error}") from error
  different = _different(config, _STUDY | _NO_DP | _SWEEPS.get(experiment, {}))
  if different:
    raise ConfigError(f"{experiment}: other than in the study, {folder} has {different}")
  return summary


def compare(
  combinations: pd.DataFrame | None = None,
  distributions: pd.DataFrame | None = None,
  controls: pd.DataFrame | None = None,
  differential_privacy: pd.DataFrame | None = None,
) -> list[str]:
  """Describes sweeps, see `read`, as lines of Markdown."""
  lines, found = [], []
  if combinations is not None:
    lines += _combinations(combinations)
    found += claims.no_pattern(combinations, matrix(combinations["dataset"].iloc[0]))
  if distributions is not None:
    lines += _distributions(distributions)
    found += claims.balance(distributions)
  if controls is not None:
    lines += _controls(controls)
  repeated = controls if controls is not None else combinations
  if repeated is not None:
    found = claims.class_matters(repeated) + found
  if differential_privacy is not None:
    lines += _differential_privacy(differential_privacy)
    found += claims.privacy_stops(differential_privacy)
  else:
    found.append(claims.Claim("privacy stops the attack", None, "needs differential_privacy="))
  words = {True: "held", False: "**not held**", None: "not decided"}
  rows = [(claim.text, words[claim.held], claim.figures) for claim in found]
  return [*lines, "## The study's claims", "", *markdown(("claim", "here", "figures"), rows), ""]


def write(folder: pathlib.Path) -> None:
  """Puts a sweep beside the published values in its `published.md`, if there are any."""
  experiment = (folder / results_folder.EXPERIMENT).read_text()
  if experiment not in SWEEPS:
    return
  try:
    summary = read(experiment, str(folder))
  except ConfigError:  # Not of what the study did, or without a finished attack.
    return
  lines = ["# Beside the CRPA study", "", *compare(**{experiment: summary})]
  files.write_text(folder / "published.md", "\n".join(lines))


def average_attack_accuracy(config: CRPAConfig) -> float | None:
  """The published AAA of a run's pair, distribution and privacy; None if there is none.

  Its amount of data and its rounds may be others; what attacks, and whom, may not.
  """
  chosen = dataclasses.asdict(config)
  if _different(chosen, _STUDY) or not _reference(config.dataset).is_file():
    return None
  if not _different(chosen, _NO_DP):
    privacy = "no"
  elif not _different(chosen, _DP):
    privacy = "yes"
  else:
    return None
  pair = (config.reconstruct, config.poison)
  if privacy == "no" and config.alpha == 0:
    return float(matrix(config.dataset)[pair])
  table = _over_alpha(config.dataset, privacy).set_index([*plots.PAIR, "alpha"])["published"]
  value = table.get((*pair, config.alpha))
  return None if value is None else float(value)


def _different(chosen: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
  """Options that are not as expected; an adversary that may hold the class, or poisons nothing."""
  different = {n: chosen.get(n) for n, value in expected.items() if chosen.get(n) != value}
  if chosen.get("adversary_lacks") == "none":
    different["adversary_lacks"] = "none"
  if chosen.get("poison_images") == 0:
    different["poison_images"] = 0
  return ", ".join(f"{name}={value}" for name, value in different.items())


def matrix(dataset: str) -> pd.Series:
  """Published AAA of every pair of a dataset, indexed by (G, T)."""
  table = pd.read_csv(_reference(dataset), index_col="reconstructed")
  table.columns = table.columns.astype(int)
  values = table.rename_axis(index="reconstruct", columns="poison").stack()
  return values[values.index.get_level_values(0) != values.index.get_level_values(1)]


def _reference(dataset: str) -> pathlib.Path:
  return _FOLDER / f"crpa_{dataset}_aaa.csv"


def _combinations(summary: pd.DataFrame) -> list[str]:
  dataset = summary["dataset"].iloc[0]
  means, theirs = plots.by_pair(summary), matrix(dataset)
  ours, no_attack, added = means[plots.AAA], means["no_attack"], means[plots.ADDED]
  spoiled = np.array([pair[1] == 0 or pair in _SPOILED for pair in ours.index])
  rows = []
  for name, all_values in (
    ("ours", ours),
    ("published", theirs[theirs.index.isin(ours.index)]),
    ("ours without attack", no_attack),
    ("what the attack adds", added),
  ):
    values = all_values.dropna()
    if values.empty:  # All runs diverged.
      continue
    reverse = study.agreement(values, values.swaplevel()).spearman
    rows.append(
      (
        name,
        len(values),
        f"{values.mean():.3f}",
        f"{values.std():.3f}",
        f"{values.min():.3f} ({plots.pair_name(values.idxmin())})",
        f"{values.max():.3f} ({plots.pair_name(values.idxmax())})",
        f"{(values > 0.2).mean():.0%}",
        "" if np.isnan(reverse) else f"{reverse:.2f}",
      )
    )
  head = ("AAA", "pairs", "mean", "standard deviation", "lowest", "highest", "above 0.2",
          "rank correlation with (T, G)")  # fmt: skip
  agreements = [
    (name, a.pairs, f"{a.spearman:.2f}", f"{a.pearson:.2f}", f"{a.mean_absolute_difference:.3f}")
    for name, a in (
      ("ours and published", study.agreement(ours, theirs)),
      (f"the same without {_SPOILED_NAMES}", study.agreement(ours[~spoiled], theirs)),
      (f"the same of {_SPOILED_NAMES}", study.agreement(ours[spoiled], theirs)),
      ("ours without attack and published", study.agreement(no_attack, theirs)),
      ("what the attack adds and published", study.agreement(added, theirs)),
      ("ours without attack and ours", study.agreement(no_attack, ours)),
    )
    if a.pairs > 2
  ]
  agreement_head = ("of", "pairs", "rank correlation", "correlation", "mean absolute difference")
  return [
    f"## All pairs, {dataset}",
    "",
    *markdown(head, rows),
    "",
    *markdown(agreement_head, agreements),
    "",
  ]


def _distributions(summary: pd.DataFrame) -> list[str]:
  ours = plots.table(summary, [*plots.PAIR, "alpha"]).reset_index()
  published = _over_alpha(summary["dataset"].iloc[0], "no")
  rows = _beside(ours, published)
  return ["## Distributions", "", *_markdown(rows), ""]


def _beside(ours: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
  """Our rows with what was published of them, and then what was published of other pairs."""
  some = published[published["alpha"].isin(ours["alpha"])]
  by = [name for name in published if name != "published"]
  # A left join keeps our order, an outer one does not.
  both = ours.merge(some, on=by, how="left")
  others = some[~some[by].apply(tuple, axis=1).isin(ours[by].apply(tuple, axis=1))]
  return pd.concat([both.astype(object), others.astype(object)], ignore_index=True)


def _over_alpha(dataset: str, privacy: str) -> pd.DataFrame:
  """Published AAA of each pair at each alpha, with differential privacy (`yes`) or `no`."""
  table = pd.read_csv(_FOLDER / "crpa_distribution_aaa.csv").rename(
    columns={"reconstructed": "reconstruct", "poisoned": "poison", "aaa": "published"}
  )
  table = table[(table["dataset"] == dataset) & (table["differential_privacy"] == privacy)]
  return table[[*plots.PAIR, "alpha", "published"]]


def _differential_privacy(summary: pd.DataFrame) -> list[str]:
  dataset = summary["dataset"].iloc[0]
  published = pd.concat(
    _over_alpha(dataset, privacy).assign(setting=setting)
    for setting, privacy in (("none", "no"), ("microbatches", "yes"))
  )
  by = [*plots.PAIR, "alpha", "setting"]
  ours = plots.table(summary, [*by, "epsilon"]).reset_index().round({"epsilon": 1})
  attacks = {"crpa": "alpha = {:g}", "none": "alpha = {:g}, no attack"}
  accuracies = summary[summary["attack"].isin(attacks)].pivot_table(
    index="setting", columns=["attack", "alpha"], values="late_test_accuracy", sort=False
  )
  accuracies.columns = [attacks[attack].format(alpha) for attack, alpha in accuracies.columns]
  accuracies = accuracies.sort_index(axis=1)
  for setting, published_accuracies in _ACCURACIES.items():
    for alpha, accuracy in published_accuracies.items():
      accuracies.loc[f"published, {setting}", attacks["crpa"].format(alpha)] = accuracy
  return [
    f"## Differential privacy, {dataset}",
    "",
    *_markdown(_beside(ours, published)),
    "",
    f"Test accuracy, mean of the last {LATE_ROUNDS} rounds and of all pairs, of runs that did not "
    "diverge; the study does not say of which rounds:",
    "",
    *_markdown(accuracies.round(3).reset_index(names="setting")),
    "",
  ]


def _controls(summary: pd.DataFrame) -> list[str]:
  ours = plots.table(summary, [*plots.PAIR, "attack"]).reset_index()
  published = matrix(summary["dataset"].iloc[0])
  published = [published[pair] for pair in ours[plots.PAIR].itertuples(index=False, name=None)]
  rows = ours.assign(published=np.where(ours["attack"] == "crpa", published, np.nan))
  return [
    f"## Controls, {summary['dataset'].iloc[0]}",
    "",
    *_markdown(rows),
    "",
    *_differences(summary),
    "",
    "Means over pairs and seeds; differences of runs that differ in the poison images alone; p: "
    "two-sided sign-flip test over these runs, as if they were independent. They share "
    "federations, and so are not quite.",
    "",
  ]


def _differences(summary: pd.DataFrame) -> list[str]:
  """What each attack adds to none, and CRPA to each."""
  runs = summary[summary["attack"] != "none"]
  by = [*plots.PAIR, "seed"]
  aaa = runs.groupby([*by, "attack"])[plots.AAA].mean().unstack("attack")
  aaa["no attack"] = runs.groupby(by)["no_attack"].first()
  aaa = aaa.sort_index(axis=1, key=aaa.mean().get)

  def difference(more, less):
    both = aaa.reindex(columns=[more, less]).dropna()  # Runs may be missing, or have diverged.
    if more == less or both.empty:
      return ""
    p_value = significance.paired_p_value(both[more].to_numpy(), both[less].to_numpy())
    told = "" if np.isnan(p_value) else f" (p = {p_value:.3f})"  # One pair tells nothing.
    return f"{(both[more] - both[less]).mean():.3f}{told}"

  rows = [
    (name, f"{values.mean():.3f}", difference(name, "no attack"), difference("crpa", name))
    for name, values in aaa.items()
  ]
  lines = markdown(("poison images", "AAA", "above no attack", "CRPA above it"), rows)
  counts = aaa.count()
  if counts.nunique() > 1:
    lines += ["", "Not all runs are there: " + ", ".join(f"{n} {c}" for n, c in counts.items())]
  return lines


def _markdown(table: pd.DataFrame) -> list[str]:
  rows = table.astype(object).where(table.notna(), "")
  return markdown(rows.columns, rows.to_numpy().tolist())
