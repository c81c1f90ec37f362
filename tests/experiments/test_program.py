"""How scripts start each other, and where they write."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments import program
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
