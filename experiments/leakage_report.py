"""A table of reconstructions, beside what the paper says of them."""

import pathlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.leakage_config import ATTACKS, LeakageConfig
from experiments.tables import markdown, number

_REFERENCE = pathlib.Path(__file__).parent / "reference" / "leakage.csv"
_RECOVERED = 0.5
_MORE = 0.25
_AGREEMENT = (
  f" Images count as recognisable, to be compared with the paper's words, where {_RECOVERED:.0%} "
  f"of those found are identified, by {_MORE:.0%} more than of the guess, and the PSNR is above "
  "the guess's; those of clients whose update cannot be used count as not identified: the same as "
  "the paper in {} of {} cells, of which {} are of other data than the paper's (its words and "
  "these limits as we read and set them; partitions count separately)."
)


def describe(summary: pd.DataFrame, agreement: bool = True) -> list[str]:
  """The table as lines of Markdown.

  Args:
    summary: A row a run, see `leakage_table.row`.
    agreement: Whether it is said if the paper found the same.
  """
  from tff_attacks.metrics import leakage  # With TensorFlow, which takes seconds.

  groups = list(summary.groupby(["attack", "model", "setting", "partition"], sort=False))
  rows = [
    _cell(attack, model, setting, partition, runs, agreement)
    for (attack, model, setting, partition), runs in groups
  ]
  head = (
    "attack", "model", "setting", "partition", "runs", "images", "PSNR", "of a guess", "SSIM",
    "of a guess", "correlation", "of a guess", "identified", "of a guess", "copied",
    "labels right", "of a guess", "seconds", "the paper", "agreed",
  )  # fmt: skip
  agreed = [row[-1] for row in rows]
  compared = agreed.count("yes") + agreed.count("no")
  elsewhere = sum(
    bool(row[-1]) and (runs["dataset"] != published(attack, setting).data).any()
    for row, ((attack, _, setting, _), runs) in zip(rows, groups, strict=True)
  )
  return [
    "# Reconstructions by a curious server",
    "",
    *markdown(head, rows),
    "",
    "Means over clients and seeds, of PSNR with the standard deviation over seeds; "
    "images are those found of those that there are. A guess is the better one of a random image "
    "of the class and the mean image, matched and scored in the same way. Identified: share of "
    "those found that are nearer to their own image than to any other of its class, among the "
    "client's and the test images. Copied: share of all images there are that were found with more "
    f"than {leakage.COPY_DB} dB, but for clients whose update cannot be used; of a guess's at most "
    f"{_largest(summary, 'guess_copied', 'mean_copied'):.0%}. Labels right: of "
    "those found; a guess has equally many of each class, and where few are found almost any are "
    "right." + (_AGREEMENT.format(agreed.count("yes"), compared, elsewhere) if agreement else ""),
  ]


def _largest(summary: pd.DataFrame, *columns: str) -> float:
  """Of all runs; 0 if none has a score."""
  return summary.reindex(columns=columns).max().fillna(0).max()


def _cell(
  attack: str, model: str, setting: str, partition: str, runs: pd.DataFrame, agreement: bool
) -> tuple[str, ...]:
  finding, agreed = _paper(attack, setting, runs)
  agreed = agreed if agreement else ""
  done = runs.dropna(subset="psnr") if "psnr" in runs else runs[:0]
  head = (attack.replace("_", " "), model, setting.replace("_", " "), partition)
  if done.empty:
    failed = runs["failed"].dropna() if "failed" in runs else runs[:0]
    reason = f"not run: {runs['not_run'].iloc[0]}" if failed.empty else f"failed: {failed.iloc[0]}"
    return (*head, str(len(runs)), reason, *[""] * 12, finding, agreed)
  mean = done.select_dtypes("number").mean()
  spread = f" ± {done['psnr'].std():.1f}" if len(done) > 1 else ""
  labels = mean.reindex(["label_accuracy", "guess_label_accuracy"])

  def beside_guess(name, form):
    guess = max(mean[f"guess_{name}"], mean[f"mean_{name}"])
    return f"{mean[name]:{form}}", f"{guess:{form}}"

  psnr, guess_psnr = beside_guess("psnr", ".1f")
  return (
    *head,
    str(len(done)),
    f"{mean['reconstructed']:.0f} of {mean['images']:.0f}" + _left_out_clients(runs),
    psnr + spread,
    guess_psnr,
    *beside_guess("ssim", ".2f"),
    *beside_guess("correlation", ".2f"),
    *beside_guess("identified", ".0%"),
    f"{mean['copies'] / mean['images']:.0%}",
    *(number(share, ".0%") for share in labels),
    f"{mean['seconds']:.0f}",
    finding,
    agreed,
  )


def _left_out_clients(runs: pd.DataFrame) -> str:
  columns = ["failed_victims", "not_run_victims", "victims"]
  failed, not_run, victims = runs.reindex(columns=columns, fill_value=0).sum()
  told = f"; {failed:.0f} of {victims:.0f} clients failed" if failed else ""
  return told + (f"; {not_run:.0f} of {victims:.0f} clients not run" if not_run else "")


def _paper(attack: str, setting: str, runs: pd.DataFrame) -> tuple[str, str]:
  """What the paper found there, and whether we did, too; empty where it says nothing."""
  finding, expected, _ = published(attack, setting)
  nulls = ["guess_psnr", "mean_psnr", "guess_identified", "mean_identified"]
  names = ["identified", "psnr", *nulls, "failed", "failed_victims", "victims"]
  runs = runs.reindex(columns=names).dropna(subset=["identified", "failed"], how="all")
  if expected is None or runs.empty:
    return finding, ""
  mean = runs.drop(columns="failed").astype(float).mean()
  identified = mean["identified"] * (1 - mean["failed_victims"] / mean["victims"])
  recognisable = (  # Not if all of them failed.
    mean["psnr"] > max(mean["guess_psnr"], mean["mean_psnr"])
    and identified >= _RECOVERED
    and identified >= max(mean["guess_identified"], mean["mean_identified"]) + _MORE
  )
  return finding, "yes" if recognisable == expected else "no"


def of_run(config: LeakageConfig) -> dict[str, str]:
  """What the paper says of the same attack on one gradient, or on one of a hundred clients."""
  from experiments import leakage_table  # Which uses this module.

  setting = "one_image" if config.batch_size == 1 else "one_batch"
  usual = {"model": ATTACKS[config.attack].model} | leakage_table.OWN.get(config.attack, {})
  if config.mode == "gradient":
    usual |= leakage_table.ON_ONE_GRADIENT.get(config.attack, {})
  else:
    setting = "many_clients" if config.num_clients == 100 else ""
  paper = published(config.attack, setting)
  comparable = (
    config.preset == "paper"
    and config.dataset == paper.data
    and (config.model or ATTACKS[config.attack].model) == usual["model"]
  )
  return {"published_finding": paper.finding} if comparable and paper.finding else {}


class Published(NamedTuple):
  """What the paper says.

  Attributes:
    finding: In words; empty if nothing.
    recognisable: Whether it recognises the images; None if it does not say.
    data: The name of its data set; empty if it does not say.
  """

  finding: str
  recognisable: bool | None
  data: str


def published(attack: str, setting: str) -> Published:
  """What the paper says of an attack in a setting."""
  rows = pd.read_csv(_REFERENCE).set_index(["attack", "setting"])
  if (attack, setting) not in rows.index:
    return Published("", None, "")
  row = rows.loc[(attack, setting)]
  recognisable = None if np.isnan(row["recognisable"]) else bool(row["recognisable"])
  return Published(row["finding"], recognisable, "" if pd.isna(row["data"]) else row["data"])
