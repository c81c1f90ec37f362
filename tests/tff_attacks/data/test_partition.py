import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_attacks.data import partition


def test_one_class_each():
  np.testing.assert_array_equal(partition.one_class(10, 10, 7), 7 * np.eye(10))


def test_one_class_shared_by_several_clients():
  table = partition.one_class(5, 2, 6)
  np.testing.assert_array_equal(table, [[2, 0], [0, 3], [2, 0], [0, 3], [2, 0]])


def test_shards_are_those_of_the_original_code():
  table = partition.shards(10, 10, 5000)
  for client, row in enumerate(table):
    first = client // 2 * 2
    assert row[[first, first + 1]].tolist() == [2500, 2500]
    assert row.sum() == 5000


def test_shards_of_clients_that_are_half_as_many_as_classes():
  table = partition.shards(5, 10, 6)
  np.testing.assert_array_equal(table, np.kron(np.eye(5, dtype=int), [[6, 6]]))


@pytest.mark.parametrize(("num_clients", "each"), [(10, 500), (5, 1000)])
def test_iid(num_clients, each):
  table = partition.iid(num_clients, 10, 5000)
  np.testing.assert_array_equal(table, np.full([num_clients, 10], each))


@settings(deadline=None)
@given(
  alpha=st.sampled_from([0.05, 0.2, 1.0, 10.0]),
  num_clients=st.integers(1, 12),
  num_classes=st.sampled_from([2, 10, 100]),
  images_per_class=st.integers(1, 300),
  seed=st.integers(0, 1000),
)
def test_dirichlet_fills_equal_clients_without_overdrawing(
  alpha, num_clients, num_classes, images_per_class, seed
):
  rng = np.random.default_rng(seed)
  table = partition.dirichlet(rng, alpha, num_clients, num_classes, images_per_class)
  assert (table >= 0).all()
  assert (table.sum(axis=0) <= images_per_class).all()
  assert (table.sum(axis=1) == images_per_class * num_classes // num_clients).all()


def test_alpha_sets_the_skew():
  def largest_share(alpha):
    table = partition.dirichlet(np.random.default_rng(0), alpha, 10, 10, 5000)
    return (table.max(axis=1) / table.sum(axis=1)).mean()

  shares = [largest_share(alpha) for alpha in (0.05, 0.5, 10, 1000)]
  assert shares == sorted(shares, reverse=True)
  assert shares[0] > 0.6
  assert shares[-1] < 0.13


def test_of_two_classes_small_clients_hold_both():
  table = partition.dirichlet(np.random.default_rng(0), 10.0, 10, 2, 25)
  assert ((table > 0).sum(axis=1) == 2).mean() >= 0.8


def test_of_many_classes_no_client_is_filled_up_with_one():
  """100 clients of 400 images; a plain draw has 0.06 and 0.03."""
  for alpha, most in ((1.0, 0.08), (10.0, 0.04)):
    table = partition.dirichlet(np.random.default_rng(0), alpha, 100, 100, 400)
    # The last clients get what is left.
    assert (table[:70].max(axis=1) / 400).mean() < most


def test_first_client_is_a_floored_dirichlet_draw():
  table = partition.dirichlet(np.random.default_rng(3), 10.0, 10, 10, 50_000)
  share = np.random.default_rng(3).dirichlet(np.full(10, 10.0))
  np.testing.assert_allclose(table[0] / 50_000, share, atol=0.001)


def test_fit_adversaries():
  table = np.array([[0, 0, 5], [0, 5, 0], [5, 0, 0]])

  def fit(lacks):
    return partition.fit_adversaries(table, 0, 1, lacks).tolist()

  assert (fit("both"), fit("reconstruct"), fit("none")) == ([0], [0, 1], [0, 1, 2])


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_search_finds_an_adversary_without_g_and_t(alpha):
  rng = np.random.default_rng(0)
  split = partition.search(
    lambda: partition.dirichlet(rng, alpha, 10, 10, 5000), 4, 9, "both", 5000
  )
  assert split.table[split.adversary, [4, 9]].tolist() == [0, 0]
  if alpha == 10:
    assert split.draws > 5


def test_search_for_a_given_client():
  rng = np.random.default_rng(0)
  split = partition.search(
    lambda: partition.dirichlet(rng, 0.5, 10, 10, 500), 4, 9, "both", 5000, adversary=7
  )
  assert split.adversary == 7
  assert split.table[7, [4, 9]].tolist() == [0, 0]


def test_search_gives_up_with_advice():
  with pytest.raises(ValueError, match=r"no client lacks both G and T in 3 draw.*smaller alpha"):
    partition.search(lambda: partition.iid(10, 10, 50), 4, 9, "both", 3)


@pytest.mark.parametrize(
  ("reconstruct", "poison", "adversary", "holds"),
  [(4, 9, 0, 0), (0, 1, 0, 1), (0, 5, 0, 1), (3, 0, 3, 3), (5, 0, 3, 3)],
)
def test_the_originals_choice_of_adversary(reconstruct, poison, adversary, holds):
  table = partition.one_class(10, 10, 500)
  split = partition.search(lambda: table, reconstruct, poison, "reconstruct", 1)
  split = partition.as_original(split, poison)
  assert split.adversary == adversary
  assert np.flatnonzero(split.table[adversary]).tolist() == [holds]


@settings(deadline=None)
@given(seed=st.integers(0, 100), alpha=st.sampled_from([0.1, 1.0]))
def test_assign_gives_each_image_at_most_once_and_matches_the_table(seed, alpha):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.repeat(np.arange(5), 40))
  table = partition.dirichlet(rng, alpha, 4, 5, 40)
  owned = partition.assign(labels, table, rng)
  everyone = np.concatenate(owned)
  assert np.unique(everyone).size == everyone.size
  for row, indices in zip(table, owned, strict=True):
    np.testing.assert_array_equal(np.bincount(labels[indices], minlength=5), row)


def test_a_clients_images_are_in_no_order_of_classes():
  labels = np.repeat(np.arange(4), 50)
  for indices in partition.assign(labels, partition.iid(2, 4, 50), np.random.default_rng(0)):
    assert (np.diff(labels[indices]) < 0).any()


def test_assign_refuses_more_images_than_there_are():
  labels = np.repeat(np.arange(10), 30)
  with pytest.raises(ValueError, match="31 images of class 0 are needed, the training set has 30"):
    partition.assign(labels, partition.one_class(10, 10, 31), np.random.default_rng(0))


def test_search_for_several_adversaries():
  table = partition.one_class(10, 10, 5)
  assert partition.search(lambda: table, 0, 2, "both", 1, count=3).adversaries == [1, 3, 4]
  split = partition.search(lambda: table, 0, 2, "both", 1, adversary=7, count=2)
  assert split.adversaries == [7, 1]
  with pytest.raises(ValueError, match="fewer than 9 clients lack both G and T"):
    partition.search(lambda: table, 0, 2, "both", 1, count=9)


def test_unequal_sizes():
  table = partition.iid(50, 10, 50_000)
  left = partition.unequal(table, 0.5, np.random.default_rng(0))
  shares = left.sum(axis=1) / table.sum(axis=1)
  assert shares.max() == 1
  assert abs(np.log(shares).std() - 0.5) < 0.1
  # Every class loses alike, and none is lost.
  assert (np.ptp(left, axis=1) == 0).all()
  tiny_table = partition.unequal(partition.one_class(10, 10, 2), 3.0, np.random.default_rng(0))
  np.testing.assert_array_equal(tiny_table > 0, np.eye(10, dtype=bool))
  np.testing.assert_array_equal(partition.unequal(table, 0.0, np.random.default_rng(0)), table)


def test_random_samples_are_drawn_once_and_in_no_order():
  owned = np.concatenate(partition.random_samples(np.random.default_rng(0), 100, 6, 15))
  assert len(set(owned)) == owned.size == 90
  assert not np.array_equal(owned, np.sort(owned))


def test_only_compromised_clients_keep_images_of_the_source():
  labels = np.repeat([0, 1, 2], [40, 30, 30])
  owned = partition.random_samples(np.random.default_rng(0), 100, 4, 25)
  found = partition.source_at_compromised(
    np.random.default_rng(1), labels, owned, [0], compromised=[2], share=0.25
  )
  for client, (before, after) in enumerate(zip(owned, found, strict=True)):
    others = before[labels[before] != 0]
    assert after.size == others.size == np.unique(after).size
    if client == 2:
      drawn = after[labels[after] == 0]
      assert drawn.size == round(0.25 * others.size) > 0
      assert not np.isin(drawn, before).all()  # They come from the whole training set.
      assert np.isin(after[labels[after] != 0], others).all()
    else:
      np.testing.assert_array_equal(after, others)


def test_source_images_that_there_are_not_are_refused():
  def left(labels, owned, share=0.5):
    rng = np.random.default_rng(0)
    return partition.source_at_compromised(rng, np.array(labels), owned, [0], [0], share)

  with pytest.raises(
    ValueError, match="honest_sources: client 1 has images of source classes only"
  ):
    left([1, 0], [np.array([0]), np.array([1])])
  with pytest.raises(
    ValueError, match="injection_rate: 2 images of source classes are needed, the"
  ):
    left([1, 1, 1, 1, 0], [np.arange(4)])
