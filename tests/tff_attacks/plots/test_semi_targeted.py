"""Figures of a semi-targeted run, from result files made up here."""

import numpy as np
import pandas as pd

from tff_attacks.plots import semi_targeted


def test_accuracies_are_those_of_their_columns(axes_of, tmp_path):
  metrics = pd.DataFrame(
    {"round": [0, 1, 2], "ata": [0.1, 0.2, 0.3], "mta": [0.9, 0.8, 0.7],
     "max_ata": [0.4, 0.5, 0.6], "malicious_clients": [0, 2, 0]}
  )  # fmt: skip
  metrics.to_csv(tmp_path / "metrics.csv", index=False)
  (axes,) = axes_of(semi_targeted.accuracies, tmp_path)
  drawn = {line.get_label().split(":")[0]: line for line in axes.lines}
  for name, column in (("MTA", "mta"), ("ATA", "ata"), ("max-ATA", "max_ata")):
    expected = np.c_[[1, 2, 3], metrics[column]]
    np.testing.assert_allclose(drawn[name].get_xydata(), expected)
  marks = [line.get_xdata() for line in axes.lines if line.get_label().startswith("_")]
  assert marks == [[2, 2]]


def test_norms_are_those_of_their_clients(axes_of, tmp_path):
  pd.DataFrame(
    {"round": [0, 1], "malicious": ["[false, true]", "[false, false]"],
     "update_norm": ["[1.0, 9.0]", "[2.0, 3.0]"]}
  ).to_csv(tmp_path / "clients.csv", index=False)  # fmt: skip
  (axes,) = axes_of(semi_targeted.norms, tmp_path)
  drawn = {line.get_label(): line.get_xydata().astype(float).tolist() for line in axes.lines}
  assert drawn == {"honest": [[1, 1], [2, 2], [2, 3]], "compromised": [[1, 9]]}
