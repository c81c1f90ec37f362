"""Figures of a server's reconstructions, from its result files alone."""

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from tff_attacks.metrics import leakage as metrics
from tff_attacks.plots import common

_COLUMNS = 10
_ROWS = 4
_UPRIGHT = {"rotation": 0, "ha": "right", "va": "center"}


def reconstructions(folder: pathlib.Path, victim: int) -> None:
  """True images above their reconstructions, with the PSNR of each, best ones first.

  Args:
    folder: The results folder.
    victim: Which of the victims.
  """
  found, true, fitted = _read(folder / f"victim_{victim}.npz")
  psnr = metrics.psnr_of_each(found, true)
  order = np.argsort(-psnr, kind="stable")[: _COLUMNS * _ROWS]
  columns = min(len(order), _COLUMNS)
  rows = -(-len(order) // columns)
  figure, axes = common.panels(2 * rows, columns, (1.1 * columns + 0.6, 2.5 * rows + 0.5))
  for row in range(rows):
    axes[2 * row, 0].set_ylabel("true")
    axes[2 * row + 1, 0].set_ylabel("found")
  for place, i in enumerate(order):
    row, column = divmod(place, columns)
    for axis, image in zip(axes[2 * row : 2 * row + 2, column], (true[i], found[i]), strict=True):
      axis.imshow((image + 1) / 2, cmap="gray", vmin=0, vmax=1)
    axis.set_xlabel(f"PSNR {psnr[i]:.1f} dB", fontsize=8)
  kept = f" (the best {len(order)} of {len(found)})" if len(order) < len(found) else ""
  fit = ",\nsign, contrast and brightness fitted" if fitted else ""
  figure.suptitle(f"Reconstructions{kept}{fit}", fontsize=10)
  common.save(figure, folder, f"victim_{victim}")


def table(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """Attack by setting: the best and the median reconstruction, below the true images.

  Of the first seed, partition and client. Settings of a single attack are left out.

  Args:
    summary: A row a run, with its `attack`, `setting` and `seed`.
    folder: The sweep's results folder.
  """
  first = summary.sort_values("seed", kind="stable").drop_duplicates(["attack", "setting"])
  of_one = first.groupby("setting")["attack"].transform("size") == 1
  first = first[~of_one] if not of_one.all() else first
  attacks, settings = (list(dict.fromkeys(first[name])) for name in ("attack", "setting"))
  size = (1.6 + 1.2 * len(settings), 0.8 + 1.4 * len(attacks))
  figure, axes = _panels(attacks, settings, size)
  note = ""
  for one in first.to_dict("records"):
    run, attack, setting = (one[name] for name in ("run", "attack", "setting"))
    axis = axes[attacks.index(attack), settings.index(setting)]
    victims = sorted((folder / "runs" / run).glob("victim_*.npz"))
    if not victims:
      reasons = [name for name in ("not_run", "failed") if pd.notna(one.get(name))]
      text = reasons[0].replace("_", " ") if reasons else "none"
      axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)
      continue
    found, true, fitted = _read(victims[0])
    if fitted:
      axes[attacks.index(attack), 0].set_ylabel(_label(attack) + " *", **_UPRIGHT)
      note = "\n(*: sign, contrast and brightness\nfitted to the true images)"
    psnr = metrics.psnr_of_each(found, true)
    order = np.argsort(-psnr, kind="stable")[sorted({0, len(psnr) // 2})]
    both = common.grid(np.concatenate([true[order], found[order]]), columns=len(order))
    axis.imshow(both, cmap="gray", vmin=0, vmax=1)
    axis.set_xlabel(", ".join(f"{psnr[i]:.1f}" for i in order) + " dB", fontsize=8)
  figure.suptitle(
    f"The best and the median reconstruction of a client,\nbelow the true images: PSNR{note}",
    fontsize=9,
  )
  common.save(figure, folder, "attacks_by_settings")


def dmgan(summary: pd.DataFrame, folder: pathlib.Path) -> None:
  """What a client's GAN made of each setting and seed, beside real images of the class.

  Args:
    summary: A row a run, with its `setting` and `seed`.
    folder: The sweep's results folder.
  """
  settings, seeds = (list(dict.fromkeys(summary[name])) for name in ("setting", "seed"))
  columns = [*(f"seed {seed}" for seed in seeds), "real"]
  size = (3.2 + 1.6 * len(seeds), 0.8 + 1.6 * len(settings))
  figure, axes = _panels(settings, columns, size)
  for run, setting, seed in summary[["run", "setting", "seed"]].itertuples(index=False):
    row = settings.index(setting)
    common.show(axes[row, seeds.index(seed)], folder / "runs" / run)
    common.show(axes[row, -1], folder / "runs" / run, "real")
  figure.suptitle(
    "What a client made of a class that it has never seen, and real ones", fontsize=10
  )
  common.save(figure, folder, "settings")


def _panels(
  rows: list[str], columns: list[str], size: tuple[float, float]
) -> tuple[plt.Figure, np.ndarray]:
  """A figure and its axes `[rows, columns]` for images, with the names of both."""
  figure, axes = common.panels(len(rows), len(columns), size)
  for axis, name in zip(axes[:, 0], rows, strict=True):
    axis.set_ylabel(_label(name), **_UPRIGHT)
  for axis, name in zip(axes[0], columns, strict=True):
    axis.set_title(_label(name), fontsize=10)
  return figure, axes


def _label(name: str) -> str:
  return name.replace("_", "\n")


def _read(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, bool]:
  """What was found, the true images, and whether the former was fitted to the latter."""
  with np.load(path) as arrays:
    found, true = (np.clip(arrays[name], -1, 1) for name in ("found", "true"))
    return found, true, bool(arrays["any_scale"])
