"""Tables of splits are told by their names."""

from pathlib import Path

import pytest

from cnnclf.importers.layouts.split_words import name_splits


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        ("train.csv val.csv test.csv", "train val test"),
        ("test.csv training.csv", "train test"),
        ("labels_train.csv labels_valid.csv classes.csv", "train val"),
        ("Training_set.csv Testing_set.csv", "train test"),
        ("train.tsv eval.tsv", "train test"),
        ("train.csv test.csv eval.csv", "train val test"),
        ("train.csv notes.csv", ""),
        ("train.csv dogs_test.csv", ""),
        ("train.csv train.tsv test.csv", ""),
        ("a_train.csv a_test.csv b_train.csv b_test.csv", ""),
        ("", ""),
    ],
)
def test_tables_whose_names_differ_by_the_split_only(names: str, splits: str) -> None:
    found = name_splits(Path(name) for name in names.split())
    assert list(found) == splits.split()
    assert len(set(found.values())) == len(found)
