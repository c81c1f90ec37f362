"""How scripts start each other, and where they write."""

import pathlib
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments import crpa_config, program, saved_config
from tests.programs import run_here
from tff_attacks import files


def test_programs_that_start_in_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  folders = {files.new_folder("results/crpa/now") for _ in range(5)}
  assert len(folders) == 5
  assert all((tmp_path / folder).is_dir() for folder in folders)


@pytest.mark.parametrize(
  "value", ["/home/José/data", "a,b [c] {d}: $e", "", None, 1e-3, 7, True, ["x:1", "ü"]]
)
def test_another_script_gets_options_as_they_are(value):
  *_, option = program.command("crpa", {"name": value})
  assert OverridesParser.create().parse_override(option).value() == value


@pytest.mark.parametrize("folder", ["results/a", "my results", "[x] é 'y'", "1e3", "2024_05_01"])
def test_what_is_printed_can_be_pasted(folder):
  (option,) = shlex.split(program.argument("resume", pathlib.Path(folder)))
  assert OverridesParser.create().parse_override(option).value() == folder


def test_a_folder_that_reads_as_a_number_is_asked_for_in_quotes():
  result = run_here("crpa", "output_dir=2024_05_01", "rounds=0")
  assert result.returncode == 2
  assert "error: output_dir: 2024_05_01 is a number; quote it as output_dir='\"" in result.stderr
  result = run_here("crpa", "output_dir='2024_05_01'", "rounds=0")
  assert "error: rounds: 0 is not allowed" in result.stderr


def test_paths_are_kept_from_the_root(tmp_path, monkeypatch):
  """Whoever resumes elsewhere finds the same files."""
  monkeypatch.chdir(tmp_path)
  config = program._with_absolute_paths(crpa_config.CRPAConfig(data_dir="data"))
  assert config.data_dir == str(tmp_path / "data")
  assert program._with_absolute_paths(crpa_config.CRPAConfig()).data_dir is None


@pytest.mark.parametrize("name", ["run[1]", "back\\slash"])
def test_folders_that_tensorflow_cannot_read_again_are_refused(name, tmp_path, monkeypatch):
  with pytest.raises(OSError, match="TensorFlow cannot read what it saves"):
    files.check_new(tmp_path / name)
  (tmp_path / name).mkdir()
  monkeypatch.chdir(tmp_path / name)
  with pytest.raises(OSError, match="TensorFlow cannot read what it saves"):
    files.new_folder("results/crpa/now")


def test_a_link_to_nowhere_is_no_results_folder(tmp_path):
  (tmp_path / "results").symlink_to("/nowhere/results")
  with pytest.raises(OSError, match="results"):
    files.new_folder(tmp_path / "results" / "now")


def test_a_run_goes_on_with_data_that_was_moved(tmp_path, monkeypatch):
  folder = tmp_path / "run"
  folder.mkdir()
  config = crpa_config.CRPAConfig(dataset="mnist", data_dir="/there", output_dir=str(folder))
  (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
  for given, expected in (([], "/there"), (["data_dir=/here"], "/here")):
    monkeypatch.setattr(saved_config, "given", lambda given=given: given)
    found = saved_config.read("crpa", crpa_config.CRPAConfig, str(folder))
    assert found.data_dir == expected
