"""What launchers of sweeps are given."""

import re
import shutil

import pytest

from experiments import launching
from experiments.options import ConfigError


@pytest.mark.parametrize(
  ("launcher", "settings"),
  [
    ("joblib", ["n_jobs=3"]),
    ("submitit_slurm", ["array_parallelism=3"]),
    ("submitit_local", []),
  ],
)
def test_jobs_are_what_the_launcher_takes_for_them(launcher, settings, tmp_path):
  (tmp_path / "chunks_1.json").write_text('{"chunks": [["a"], ["b"]]}')
  config = launching.LaunchOptions(jobs=3, launcher=launcher, launcher_options=["timeout_min:9"])
  parts = launching.command(config, tmp_path, tmp_path / "chunks_1.json")
  assert f"hydra/launcher={launcher}" in parts
  assert "chunk=0,1" in parts
  given = [part for part in parts if part.startswith("hydra.launcher.")]
  expected = [f"hydra.launcher.{setting}" for setting in ("timeout_min=9", *settings)]
  assert sorted(given) == sorted(expected)


@pytest.mark.parametrize(
  "setting", ["submitit_folder:%j", "comment:a: b", "setup:[a,b]", "gres:gpu:1"]
)
def test_settings_of_a_launcher(setting, monkeypatch):
  monkeypatch.setattr(shutil, "which", lambda name: name)
  config = launching.LaunchOptions(launcher="submitit_slurm", launcher_options=[setting])
  launching.check(config)
  monkeypatch.setattr(shutil, "which", lambda name: None)
  with pytest.raises(ConfigError, match="submitit_slurm needs sbatch"):
    launching.check(config)


@pytest.mark.parametrize("setting", ["exclude:n1,n2", "exclude:n[1-3]", "timeout_min:x", "gpu:1"])
def test_settings_that_the_launcher_would_refuse(setting):
  config = launching.LaunchOptions(launcher="submitit_slurm", launcher_options=[setting])
  with pytest.raises(ConfigError, match=f"launcher_options: {re.escape(repr(setting))} is not"):
    launching.check(config)
