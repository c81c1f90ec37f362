import json
import os
import pathlib
import re

import pandas as pd
import pytest
import tensorflow as tf

from tff_attacks import files
from tff_attacks.simulation import results as results_lib


def test_a_new_folder_holds_its_config(tmp_path):
  results = results_lib.create(tmp_path / "a" / "b", "seed: 1\n")
  assert (results.folder / "config.yaml").read_text() == "seed: 1\n"
  assert results.images.is_dir()


def test_an_empty_folder_is_taken(tmp_path):
  results_lib.create(tmp_path, "")


def test_a_used_folder_is_refused(tmp_path):
  (tmp_path / "something").touch()
  with pytest.raises(FileExistsError, match="already holds files"):
    results_lib.create(tmp_path, "")
  with pytest.raises(FileExistsError):
    results_lib.create(tmp_path / "something", "")


def test_rows_of_later_rounds_are_replaced_on_resume(tmp_path):
  results = results_lib.create(tmp_path, "")
  for round_number in range(4):
    results.release("metrics", {"loss": 0.1 * round_number}, round_number)
  resumed = results_lib.Results(tmp_path)
  resumed.release("metrics", {"loss": 9.0}, 2)
  table = pd.read_csv(tmp_path / "metrics.csv", float_precision="round_trip")
  assert table["round"].tolist() == [0, 1, 2]
  assert table["loss"].tolist() == [0.0, 0.1, 9.0]


@pytest.mark.parametrize(
  "left", [None, "", "round,loss\n0,1.0\n1,2.0", "round,loss\n0,1.0\n2,2.0\n"]
)
def test_a_table_that_lacks_rounds_of_the_checkpoint(left, tmp_path):
  results = results_lib.create(tmp_path, "")
  for round_number in range(3):
    results.release("metrics", {"loss": 0.1}, round_number)
  for rounds in range(4):
    results.check("metrics", rounds)
  (tmp_path / "metrics.csv").unlink()
  if left is not None:
    (tmp_path / "metrics.csv").write_text(left)
  results.check("metrics", 0)
  with pytest.raises(files.UnreadableError, match=r"metrics\.csv"):
    results.check("metrics", 2)


def test_metrics_are_tensorboard_events_too(tmp_path):
  results = results_lib.create(tmp_path, "")
  results.release("metrics", {"test_accuracy": 0.75}, 3)
  results.release("other", {"x": 1}, 3)
  (path,) = (tmp_path / "events").iterdir()
  values = {
    value.tag: (event.step, float(tf.make_ndarray(value.tensor)))
    for event in tf.compat.v1.train.summary_iterator(os.fspath(path))
    for value in event.summary.value
  }
  assert values == {"test_accuracy": (3, 0.75)}


def test_json_and_environment(tmp_path):
  results = results_lib.create(tmp_path, "")
  results.write_json("summary", results_lib.environment([os.getpid()]))
  summary = json.loads((tmp_path / "summary.json").read_text())
  assert summary["versions"]["tensorflow-federated"] == "0.87.0"
  if pathlib.Path(__file__).parents[3].joinpath(".git").exists():
    assert re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", summary["commit"])
  assert 100 < summary["peak_memory_mb"] < 100_000
