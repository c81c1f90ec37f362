"""The study's claims, judged by runs."""

import itertools

import numpy as np
import pandas as pd
import pytest

from experiments import claims
from tff_attacks.plots import study


def pairs_of(aaa, seeds=1):
  """Runs of all 90 pairs, whose AAA is `aaa(g, t)` with a little noise."""
  rng = np.random.default_rng(0)
  return pd.DataFrame(
    {"attack": "crpa", "reconstruct": g, "poison": t, "seed": seed, "no_attack": 0.0,
     "mean_test_accuracy": 0.5, "average_attack_accuracy": aaa(g, t) + rng.normal(0, 0.01)}
    for g, t in itertools.permutations(range(10), 2) for seed in range(seeds)
  )  # fmt: skip


@pytest.mark.parametrize(
  ("aaa", "no_attack", "held"),
  [(lambda g, t: t / 10, 0.0, [True, False] * 2), (lambda g, t: g / 10, 0.0, [False, True] * 2),
   (lambda g, t: 0.3, 0.0, [True, True] * 2),
   # All of it is there without attack.
   (lambda g, t: t / 10, lambda runs: runs["poison"] / 10, [True, False, True, True])],
)  # fmt: skip
def test_a_pattern_of_rows_or_columns_is_found(aaa, no_attack, held):
  runs = pairs_of(aaa).assign(no_attack=no_attack)
  published_aaa = study.by_pair(runs)["average_attack_accuracy"]
  assert [claim.held for claim in claims.no_pattern(runs, published_aaa)] == held
  runs.loc[0, "average_attack_accuracy"] = np.nan  # It diverged.
  assert [claim.held for claim in claims.no_pattern(runs, published_aaa)] == held


def test_of_equal_pairs_no_pattern_is_asked():
  runs = pairs_of(lambda g, t: 0.3).assign(average_attack_accuracy=0.25)
  published_aaa = study.by_pair(pairs_of(lambda g, t: t / 10))["average_attack_accuracy"]
  assert [claim.held for claim in claims.no_pattern(runs, published_aaa)] == [None] * 4


@pytest.mark.parametrize(
  ("aaa", "no_attack", "held"),
  [(lambda g, t: t / 10, 0.0, [True, True]), (lambda g, t: 0.3, 0.0, [False, False]),
   (lambda g, t: t / 10, lambda runs: runs["poison"] / 10, [True, False])],
)  # fmt: skip
def test_pairs_differ_by_more_than_seeds(aaa, no_attack, held):
  runs = pairs_of(aaa, seeds=3).assign(no_attack=no_attack)
  assert [claim.held for claim in claims.class_matters(runs)] == held


def test_what_is_added_is_of_runs_whose_control_is_there():
  runs = pairs_of(lambda g, t: 0.3, seeds=2).assign(no_attack=0.1)
  runs.loc[runs["seed"] == 1, ["average_attack_accuracy", "no_attack"]] = [0.9, np.nan]
  assert study.by_pair(runs)["added"].to_numpy() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(
  ("aaa", "no_attack", "correlation", "held"),
  [
    (0.05, 0.0, 0.5, [True, True, True]),
    (0.2, 0.0, 0.3, [False, False, False]),
    (0.2, 0.15, 0.5, [False, True, True]),
    (0.2, 0.5, 0.5, [False, None, True]),
  ],
)
def test_balance_is_judged_from_the_skewed_to_the_balanced_end(aaa, no_attack, correlation, held):
  base = {"attack": "crpa", "reconstruct": 4, "poison": 9, "seed": 0, "no_attack": no_attack,
          "recognised": 0.5}  # fmt: skip
  rows = [
    base | {"alpha": 0.0, "average_attack_accuracy": 0.5, "correlation": 0.4},
    base | {"alpha": 10.0, "average_attack_accuracy": aaa, "correlation": correlation},
  ]
  assert [claim.held for claim in claims.balance(pd.DataFrame(rows))] == held


def claims_of(*changes):
  """Of runs without privacy, and under noise for records with these changes, a seed each."""
  free = {
    "attack": "crpa", "reconstruct": 4, "poison": 9, "alpha": 0.0, "setting": "none",
    "average_attack_accuracy": 0.5, "no_attack": 0.1, "recognised": 0.9, "correlation": 0.5,
    "other_correlation": 0.4,
  }  # fmt: skip
  private = free | {"setting": "records", "average_attack_accuracy": 0.11, "recognised": 0.0}
  rows = [one | {"seed": seed} for seed, change in enumerate(changes) for one in (
    free | change.get("none", {}), private | change.get("records", {})
  )]  # fmt: skip
  return claims.privacy_stops(pd.DataFrame(rows))


def test_what_the_model_does_by_itself_is_no_poisoning():
  poisoning, _ = claims_of({"records": {"average_attack_accuracy": 0.4, "no_attack": 0.38}})
  assert poisoning.held
  assert "added with it 0.020, without privacy 0.400" in poisoning.figures


def test_where_nothing_is_to_be_stopped_nothing_is_held():
  poisoning, reconstruction = claims_of(
    {"none": {"average_attack_accuracy": 0.11, "recognised": 0.1}}
  )
  assert poisoning.held is reconstruction.held is None


def test_runs_that_diverged_are_counted_and_stop_nothing():
  gone = {"records": {"average_attack_accuracy": np.nan, "recognised": np.nan}}
  poisoning, reconstruction = claims_of(gone, {})
  assert poisoning.held
  assert poisoning.figures.endswith("1 of 2 runs diverged")
  assert "with it 0 of 1 runs, without privacy 1 of 1 runs" in reconstruction.figures
  assert reconstruction.figures.endswith("; 1 of 2 runs diverged")
  poisoning, reconstruction = claims_of(gone, gone)
  assert poisoning.held is reconstruction.held is None


def test_only_seeds_that_ran_under_the_noise_count():
  """Without privacy the other one adds nothing."""
  gone = {"average_attack_accuracy": np.nan, "recognised": np.nan}
  quiet = {"none": {"average_attack_accuracy": 0.11}, "records": gone}
  poisoning, _ = claims_of({}, quiet)
  assert "added with it 0.010, without privacy 0.400" in poisoning.figures


def test_a_reconstruction_must_be_recognised_and_alike_in_the_same_run():
  unlike, unseen = {"recognised": 0.5, "correlation": 0.2}, {"recognised": 0.1}
  _, stopped = claims_of(*[{"records": unlike}, {"records": unseen}] * 2)
  assert stopped.held
  assert "without privacy 4 of 4 runs (Fisher's exact test: p = 0.014)" in stopped.figures
  assert claims_of({"records": unlike})[1].held is None  # None of one is no proof.
  # A pattern that the classifier falls for.
  pattern = {"recognised": 0.65, "correlation": 0.042, "other_correlation": 0.041}
  assert claims_of(*[{"records": pattern}] * 4)[1].held
  _, once = claims_of({"records": {"recognised": 0.5}}, {})
  assert once.held is False
  assert "with it 1 of 2 runs" in once.figures


def test_a_seed_that_has_just_begun_does_not_count():
  runs = pairs_of(lambda g, t: 0.1 * g, seeds=3)
  begun = runs[(runs["seed"] < 2) | (runs.index == runs.index[-1])]
  for claim in claims.class_matters(begun):
    assert claim.figures.startswith("90 pairs, 2 seeds")


def test_balance_is_told_of_the_most_vulnerable_pair_without_controls_too():
  rows = pd.DataFrame(
    {"attack": "crpa", "reconstruct": g, "poison": 5, "alpha": alpha, "seed": 0,
     "average_attack_accuracy": aaa, "no_attack": np.nan if g == 0 else 0.1,
     "correlation": 0.2 + alpha / 100, "recognised": 0.5}
    for g, top in ((0, 0.5), (3, 0.3))
    for alpha, aaa in ((0.0, top), (10.0, 0.01))
  )  # fmt: skip
  weakens, added, keeps = claims.balance(rows)
  assert weakens.held
  assert weakens.figures.startswith("0 → 5")
  assert added.held is None  # Its runs without attack are missing.
  assert keeps.held
  assert claims.balance(rows.assign(correlation=np.nan))[-1].held is None
  assert claims.balance(rows.assign(average_attack_accuracy=np.nan))[0].held is None
