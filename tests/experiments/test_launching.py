"""What launchers of sweeps are given."""

import os
import re
import shutil
import types

import pytest

from experiments import launching, sweep
from experiments.options import ConfigError
from tests.experiments.test_sweep import SHORT
from tests.programs import run


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


@pytest.mark.slow
def test_the_script_for_slurm(tmp_path, monkeypatch):
  """A stand-in for `sbatch` keeps the script; the job then counts as failed."""
  tools = tmp_path / "bin"
  tools.mkdir()
  (tools / "sbatch").write_text(
    f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho Submitted batch job 7\n'
  )
  (tools / "sacct").write_text("#!/bin/sh\necho 'JobID|State|NodeList'\necho '7_0|FAILED|'\n")
  (tools / "srun").write_text("#!/bin/sh\n")
  for tool in tools.iterdir():
    tool.chmod(0o755)
  path = f"{tools}:{os.environ['PATH']}"
  folder = tmp_path / "sweep"
  result = run(
    "combinations", *SHORT, "pairs=[0-6]", "repetitions=1", "launcher=submitit_slurm", "jobs=3",
    "launcher_options=[partition:gpu,timeout_min:90]", f"output_dir={folder}",
    env={**os.environ, "PATH": path},
  )  # fmt: skip
  script = (tmp_path / "script").read_text()
  assert "#SBATCH --partition=gpu" in script
  assert "#SBATCH --time=90" in script
  assert "submitit.core._submit" in script
  assert result.returncode == 1
  assert "0 of 2 runs are complete" in result.stdout


def test_a_failed_launch_on_a_cluster_is_not_followed_by_another(tmp_path, monkeypatch):
  launches = []
  monkeypatch.setattr(sweep, "_launch", lambda *arguments: launches.append(arguments) or 1)
  monkeypatch.setattr(sweep, "_prepare", lambda *arguments: None)
  one = sweep.Run("one", "none", types.SimpleNamespace(rounds=9, seed=0))
  for launcher, expected in (("submitit_slurm", 1), ("joblib", 2)):
    launches.clear()
    config = launching.LaunchOptions(launcher=launcher)
    sweep._run_all(config, "crpa", tmp_path, [one], None)
    assert len(launches) == expected
