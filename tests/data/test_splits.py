import hashlib
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.data.splits import (
    Fractions,
    Ids,
    assign_splits,
    check_fractions,
    count_units,
    join_units,
)
from cnnclf.errors import UsageError

FRACTIONS = st.sampled_from(
    [(0.7, 0.15, 0.15), (0.8, 0.1, 0.1), (0.6, 0.0, 0.4), (0.9, 0.1, 0.0), (1.0, 0.0, 0.0)]
)
SEEDS = st.integers(0, 2**70)


def keys_of(names: list[str]) -> npt.NDArray[np.uint64]:
    """Hash names; "" becomes no key."""
    digests = [hashlib.sha256(name.encode()).digest()[:16] if name else bytes(16) for name in names]
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def divide(
    labels: list[int],
    *,
    groups: list[str] | None = None,
    fractions: Fractions = (0.7, 0.15, 0.15),
    seed: int = 0,
    names: list[str] | None = None,
    known: npt.NDArray[np.int8] | None = None,
) -> tuple[npt.NDArray[np.int8], Ids]:
    digests = keys_of(names or [f"image {i}" for i in range(len(labels))])
    units = join_units(digests, keys_of(groups or [""] * len(labels)))
    splits = assign_splits(
        np.array(labels, np.int32),
        units,
        digests=digests,
        classes=max(labels, default=0) + 1,
        fractions=fractions,
        seed=seed,
        known=known,
    )
    return splits, units


@st.composite
def images(draw: st.DrawFn) -> tuple[list[int], list[str]]:
    """Labels and groups of up to 80 images; some groups mix classes."""
    count = draw(st.integers(0, 80))
    labels = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    groups = draw(
        st.lists(st.sampled_from(["", "", *"abcdefghijkl"]), min_size=count, max_size=count)
    )
    return labels, groups


@settings(max_examples=200, deadline=None)
@given(images=images(), fractions=FRACTIONS, seed=SEEDS)
def test_every_image_has_one_split_and_every_unit_one(
    images: tuple[list[int], list[str]], fractions: Fractions, seed: int
) -> None:
    labels, groups = images
    splits, units = divide(labels, groups=groups, fractions=fractions, seed=seed)
    assert len(splits) == len(labels)
    for split, fraction in enumerate(fractions):
        assert fraction > 0 or not (splits == split).any()
    assert set(splits.tolist()) <= {0, 1, 2}
    for unit in set(units.tolist()):
        assert len(set(splits[units == unit].tolist())) == 1


@settings(max_examples=200, deadline=None)
@given(counts=st.lists(st.integers(0, 60), min_size=1, max_size=6), fractions=FRACTIONS, seed=SEEDS)
def test_proportions_are_within_one_image_of_each_class(
    counts: list[int], fractions: Fractions, seed: int
) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    splits, _ = divide(labels, fractions=fractions, seed=seed)
    for label, count in enumerate(counts):
        found = np.bincount(splits[np.array(labels, int) == label], minlength=3)
        if count >= 3:
            assert all(found[i] > 0 for i in range(3) if fractions[i])
        if count * min(part for part in fractions if part) >= 1:
            assert all(abs(found[i] - count * fractions[i]) < 1 + 1e-9 for i in range(3))
    if all(count >= 20 for count in counts):
        found = np.bincount(splits, minlength=3)
        assert all(abs(found[i] - len(labels) * fractions[i]) <= 2 for i in range(3))


@settings(max_examples=100, deadline=None)
@given(images=images(), seed=SEEDS, order=st.randoms(use_true_random=False))
def test_order_of_listing_does_not_matter(
    images: tuple[list[int], list[str]], seed: int, order: random.Random
) -> None:
    labels, groups = images
    labels.append(4)  # so that the number of classes is the same
    groups.append("")
    names = [f"image {i}" for i in range(len(labels))]
    splits, _ = divide(labels, groups=groups, seed=seed, names=names)
    shuffled = list(range(len(labels)))
    order.shuffle(shuffled)
    again, _ = divide(
        [labels[i] for i in shuffled],
        groups=[groups[i] for i in shuffled],
        seed=seed,
        names=[names[i] for i in shuffled],
    )
    assert again.tolist() == splits[shuffled].tolist()


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=30), seed=SEEDS)
def test_a_class_with_three_groups_is_in_every_split(sizes: list[int], seed: int) -> None:
    groups = [f"group {i}" for i, size in enumerate(sizes) for _ in range(size)]
    splits, _ = divide([0] * len(groups), groups=groups, seed=seed)
    assert set(splits.tolist()) == {0, 1, 2}


def test_large_groups_come_near_the_fractions() -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 20, 300).tolist()
    groups = [f"group {i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = generator.integers(0, 5, len(groups)).tolist()
    splits, _ = divide(labels, groups=groups)
    for label in range(5):
        found = np.bincount(splits[np.array(labels) == label], minlength=3)
        assert found / found.sum() == pytest.approx([0.7, 0.15, 0.15], abs=0.02)


def test_large_groups_do_not_all_go_to_one_split() -> None:
    sizes = [10] * 20 + [1] * 200
    groups = [f"group {i}" for i, size in enumerate(sizes) for _ in range(size)]
    splits, _ = divide([0] * len(groups), groups=groups)
    large = np.bincount(splits[:200:10], minlength=3)
    assert large.tolist() == [14, 3, 3]


def test_same_seed_same_split_other_seed_other_split() -> None:
    labels = [0, 1] * 50
    first, _ = divide(labels, seed=1)
    assert divide(labels, seed=1)[0].tolist() == first.tolist()
    assert divide(labels, seed=2)[0].tolist() != first.tolist()


def test_the_split_is_the_same_on_every_platform() -> None:
    # The split follows from these very names: they stand in for the contents of images.
    splits, _ = divide([0] * 12 + [1] * 8, seed=7, names=[f"picture {i}" for i in range(20)])
    assert "".join(map(str, splits.tolist())) == "02000120001002010000"


def test_added_images_move_few_others() -> None:
    before, _ = divide([0, 1] * 500)
    after, _ = divide([0, 1] * 510)
    assert (before != after[:1000]).mean() < 0.02


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1, 0, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [2, 1, 1])]
)
def test_a_small_class_serves_train_then_test_then_val(count: int, expected: list[int]) -> None:
    splits, _ = divide([0] * count + [1] * 20)
    assert np.bincount(splits[:count], minlength=3).tolist() == expected


def test_small_classes_do_not_all_favor_one_split() -> None:
    labels = [label for label in range(100) for _ in range(10)]
    splits, _ = divide(labels)
    assert np.bincount(splits).tolist() == [700, 150, 150]
    labels = [label for label in range(100) for _ in range(22)]
    splits, _ = divide(labels)
    assert np.bincount(splits).tolist() == [1540, 330, 330]


def test_units_are_joined_through_others() -> None:
    units = join_units(keys_of(["a", "a", "b", "c", "d", ""]), keys_of(["", "x", "x", "y", "", ""]))
    assert units.tolist() == [0, 0, 0, 3, 4, 5]


def test_long_chains_are_one_unit() -> None:
    count = 1001
    pairs = [[f"{(i + shift) // 2} {shift}" for i in range(count)] for shift in (0, 1)]
    order = np.random.default_rng(0).permutation(count)
    units = join_units(*(keys_of(names)[order] for names in pairs))
    assert set(units.tolist()) == {0}


def test_units_are_counted_by_class() -> None:
    units = np.array([0, 0, 2, 3])
    assert count_units(np.array([0, 1, 1, 1], np.int32), units, classes=3).tolist() == [1, 3, 0]


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.2, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (70.0, 15.0, 15.0)]
)
def test_bad_fractions_are_refused(fractions: Fractions) -> None:
    with pytest.raises(UsageError, match="add up to 1") as caught:
        check_fractions(fractions)
    assert "--split" in caught.value.hint


@settings(max_examples=100)
@given(images(), FRACTIONS, SEEDS, st.data())
def test_known_images_stay_and_new_ones_join_no_unit_of_theirs(
    found: tuple[list[int], list[str]], fractions: Fractions, seed: int, data: st.DataObject
) -> None:
    labels, groups = found
    before, units = divide(labels, groups=groups, fractions=fractions, seed=seed)
    stays = np.array(data.draw(st.lists(st.booleans(), min_size=80, max_size=80)), np.bool_)[units]
    known = np.where(stays, before, -1).astype(np.int8)
    after, _ = divide(labels, groups=groups, fractions=fractions, seed=seed + 1, known=known)
    assert (after[stays] == before[stays]).all()
    assert (after >= 0).all()
    for unit in set(units.tolist()):
        assert len(set(after[units == unit].tolist())) == 1


def test_new_images_bring_the_fractions_back() -> None:
    labels = [0] * 100 + [1] * 100
    known = np.full(200, -1, np.int8)
    known[:60] = 0  # of class 0, all in train so far
    known[100:110] = 2
    splits, _ = divide(labels, known=known)
    counts = np.array([np.bincount(splits[:100]), np.bincount(splits[100:])])
    assert counts.tolist() == [[70, 15, 15], [70, 15, 15]]


def test_three_new_images_do_not_fill_every_split() -> None:
    known = np.array([0] * 70 + [1] * 15 + [2] * 15 + [-1] * 3, np.int8)
    splits, _ = divide([0] * 103, known=known)
    assert splits[100:].tolist().count(0) == 2
