"""A table of reconstructions by a client's GAN, beside what the paper says of them."""

import pandas as pd

from experiments.leakage_report import published
from experiments.tables import markdown, number
from tff_attacks.metrics import reconstruction

_MEANS = (
  "succeeded_rounds", "judged", "recognised", "recognised_noise", "correlation",
  "other_correlation", "psnr", "guess_psnr", "mean_psnr", "ssim", "guess_ssim", "mean_ssim",
  "identified", "guess_identified", "mean_identified", "test_accuracy",
)  # fmt: skip


def describe(summary: pd.DataFrame, agreement: bool = True) -> list[str]:
  """The table of a client's GAN as lines of Markdown.

  Args:
    summary: A row a run, see `dmgan.row`.
    agreement: Whether it is said if the paper found the same.
  """
  head = (
    "setting", "clients", "data", "runs", "succeeded", "from round", "in rounds", "recognised",
    "of noise", "correlation", "with others", "PSNR", "of a guess", "SSIM", "of a guess",
    "identified", "of a guess", "accuracy", "the paper", "agreed",
  )  # fmt: skip
  rows = [
    _cell(setting, clients, dataset, runs, agreement)
    for (setting, clients, dataset), runs in summary.groupby(
      ["setting", "num_clients", "dataset"], sort=False
    )
  ]
  return [
    "# Reconstructions by a curious client",
    "",
    *markdown(head, rows),
    "",
    "Means over seeds, after the last round. Succeeded: runs whose images an independent "
    f"classifier recognises ({reconstruction.RECOGNISED:.0%} or more) and whose mean correlates "
    f"with that of the class by {reconstruction.CORRELATED:g} or more, and by more than with any "
    "other; from round: the first one after which that was so, "
    "the median of the runs in which it ever was; in rounds: after how many it was so. Identified: "
    "share of images that are nearer to the client's image they were matched with than to any "
    "other of the class. A guess is the better one of a random image of the class and the mean "
    "image."
    + (" Agreed: most runs succeeded where the paper recognises the class." if agreement else ""),
  ]


def _cell(
  setting: str, clients: int, dataset: str, runs: pd.DataFrame, agreement: bool
) -> tuple[str, ...]:
  finding, recognisable, _ = published("dmgan", setting)
  agreed = "yes" if (runs["succeeded"].mean() > 0.5) == recognisable else "no"
  # Of runs that diverged there are no scores.
  mean = runs.reindex(columns=_MEANS).astype(float).mean()
  first = runs["first_round"].dropna()

  def said(form, *names):
    return number(mean[[*names]].max(), form)

  return (
    setting.replace("_", " "),
    str(clients),
    dataset,
    str(len(runs)),
    f"{runs['succeeded'].sum()} of {len(runs)}",
    "" if first.empty else f"{first.median() + 1:g}",
    f"{mean['succeeded_rounds']:.0f} of {mean['judged']:.0f}",
    said(".0%", "recognised"),
    said(".0%", "recognised_noise"),
    said(".2f", "correlation"),
    said(".2f", "other_correlation"),
    said(".1f", "psnr"),
    said(".1f", "guess_psnr", "mean_psnr"),
    said(".2f", "ssim"),
    said(".2f", "guess_ssim", "mean_ssim"),
    said(".0%", "identified"),
    said(".0%", "guess_identified", "mean_identified"),
    said(".2f", "test_accuracy"),
    finding,
    agreed if agreement else "",
  )
