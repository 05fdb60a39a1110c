from pathlib import Path

import numpy as np
import pytest

from cnnclf.data.checks import check_trainable, find_duplicates, find_similar_labels
from cnnclf.data.manifest import Dataset, Manifest
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.errors import DataError


def make_dataset(counts: dict[str, tuple[int, int, int]]) -> Dataset:
    """A dataset with so many images of each label in train, val and test."""
    rows = [
        (place, split)
        for place, numbers in enumerate(counts.values())
        for split, number in enumerate(numbers)
        for _ in range(number)
    ]
    count = len(rows)
    manifest = Manifest(
        paths=[f"{row}.png" for row in range(count)],
        class_indices=np.array([place for place, _ in rows], np.int32),
        splits=np.array([split for _, split in rows], np.int8),
        widths=np.ones(count, np.int32),
        heights=np.ones(count, np.int32),
        modes=["RGB"] * count,
        sha256=[f"{row:064x}" for row in range(count)],
        groups=[""] * count,
        notes=[""] * count,
    )
    return Dataset(Path("data"), Path("photos"), tuple(counts), manifest, {}, "0" * 64)


def test_a_good_dataset_has_no_warnings() -> None:
    assert check_trainable(make_dataset({"a": (20, 2, 2), "b": (30, 2, 2)})) == []


def test_small_and_uneven_classes_are_reported() -> None:
    counts = {"a": (200, 2, 2), "b": (9, 2, 2), "c": (0, 0, 0), "d": (20, 0, 0)}
    absent, few, uneven = check_trainable(make_dataset(counts))
    assert absent.endswith(": c")
    assert few.endswith(": b (9)")
    assert uneven.endswith("200 training images of a and 9 of b")
    assert check_trainable(make_dataset(counts), uneven="do this")[2] == f"{uneven}; do this"


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"a": (9, 0, 0), "b": (0, 5, 5)}, "received 'a' only"),
        ({"a": (0, 1, 1), "b": (0, 5, 5)}, "received none"),
        (
            {"a": (9, 0, 0), "b": (9, 1, 1), "c": (0, 2, 1)},
            "no training images of labels that val or test have, in data: c",
        ),
    ],
)
def test_a_dataset_without_two_trained_labels_is_refused(
    counts: dict[str, tuple[int, int, int]], told: str
) -> None:
    with pytest.raises(DataError, match=told) as caught:
        check_trainable(make_dataset(counts))
    assert caught.value.hint


def test_duplicates_are_found_by_split_and_label() -> None:
    contents = np.array([0, 0, 2, 3, 0, 3, 6, 6, 8, 0])
    labels = np.array([0, 0, 0, 1, 0, 1, 0, 1, 0, 1], np.int32)
    splits = np.array([SPLITS.index(s) if s else -1 for s in (
        "train", "train", "train", "train", "test", "test", "val", "train", "val", ""
    )], np.int8)  # fmt: skip
    found = find_duplicates(contents, labels, splits=splits)
    assert found.repeats == 5
    assert found.inside == {"train": 1, "val": 0, "test": 0}
    assert set(found.shared) == {("val", "train"), ("test", "train")}
    rows, twins = found.shared["test", "train"]
    assert rows.tolist() == [4, 5]
    assert twins.tolist() == [0, 3]
    assert found.conflicts[:, 0].tolist() != []
    assert {tuple(contents[pair].tolist()) for pair in found.conflicts} == {(0, 0), (6, 6)}
    assert all(labels[a] != labels[b] for a, b in found.conflicts)
    assert {4, 0, 5, 3, 6, 7} <= found.example_rows()


def test_a_dataset_without_duplicates_has_none() -> None:
    found = find_duplicates(np.arange(5), np.zeros(5, np.int32), splits=np.zeros(5, np.int8))
    assert (found.repeats, found.shared, len(found.conflicts)) == (0, {}, 0)
    assert found.example_rows() == set()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["Sch\u00f6n", "Scho\u0308n"],
            (
                "'Sch\u00f6n' and 'Scho\u0308n' (decomposed) differ only in the form of accents "
                "(composed or decomposed)"
            ),
        ),
        (["Ball", "ball"], "'Ball' and 'ball' differ only in capital letters"),
        (
            ["ball ", "Ball", "b_all"],
            (
                "'ball ' and 'Ball' and 'b_all' differ only in capital letters and "
                "spaces, hyphens or underscores"
            ),
        ),
        (
            ["\uff41b", "ab"],
            "'\uff41b' and 'ab' differ only in the form of letters (such as full-width)",
        ),
        (["1-1", "11", "-11", "Schon", "Sch\u00f6n"], None),
    ],
)
def test_similar_labels_are_named_with_what_differs(labels: list[str], said: str | None) -> None:
    assert find_similar_labels(labels) == ([said] if said else [])
