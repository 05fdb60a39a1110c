"""Accuracy by the values of a column."""

from pathlib import Path

import numpy as np
import pytest

from cnnclf.data.manifest import load_dataset
from cnnclf.data.manifest_versions import RowChange, write_version
from cnnclf.errors import DataError, UsageError
from cnnclf.evaluation.groups import read_column, score_groups
from tests.data.test_manifest_versions import dataset  # noqa: F401 (a fixture)


def test_the_worst_group_comes_first_and_small_ones_are_marked() -> None:
    values = ["north"] * 100 + ["south"] * 100 + [""] * 5
    is_correct = np.array([True] * 98 + [False] * 2 + [True] * 50 + [False] * 50 + [True] * 5)
    south, north, none = score_groups(values, is_correct)
    assert (south.value, south.images, south.correct, south.accuracy) == ("south", 100, 50, 0.5)
    assert south.low < 0.5 < south.high
    assert (south.is_below, south.is_small) == (True, False)
    assert (north.is_below, north.is_small) == (False, False)
    assert (none.value, none.is_small) == ("", True)


def test_many_numbers_are_joined_to_ranges_and_many_words_are_not() -> None:
    numbers = [str(each) for each in range(100, 200)]
    groups = score_groups(numbers, np.arange(100) >= 20)
    assert [group.images for group in groups] == [20] * 5
    assert groups[0].value == "100 to 119.8"
    assert groups[0].accuracy == 0
    assert len(score_groups([f"{each}x" for each in numbers], np.ones(100, np.bool_))) == 100
    assert (
        len(score_groups([*numbers, "nan"], np.ones(101, np.bool_))) == 6
    )  # not one for each number


def test_images_without_a_number_are_a_group_of_their_own() -> None:
    numbers = ["", *(str(each) for each in range(100, 200)), ""]
    groups = score_groups(numbers, np.arange(102) > 0)
    assert {group.value: group.images for group in groups} == {
        "": 2,
        "100 to 119.8": 20,
        "119.8 to 139.6": 20,
        "139.6 to 159.4": 20,
        "159.4 to 179.2": 20,
        "179.2 to 199": 20,
    }
    assert groups[0].accuracy == 0.5


def test_cells_without_a_number_do_not_make_each_number_a_group() -> None:
    values = [str(0.37 * number) for number in range(297)] + ["nan", "unknown", "inf"]
    groups = score_groups(values, np.ones(300, np.bool_))
    assert len(groups) == 5 + 3
    assert {"nan", "unknown", "inf"} < {group.value for group in groups}
    names = [f"P{number}" for number in range(6)] + [str(number) for number in range(30)]
    assert len(score_groups(names, np.ones(36, np.bool_))) == 36  # names of people, not numbers


def test_a_number_that_most_images_have_is_a_group_of_its_own() -> None:
    numbers = ["0"] * 70 + [str(each) for each in range(1, 31)]
    groups = score_groups(numbers, np.ones(100, np.bool_))
    assert {group.value: group.images for group in groups} == {
        "0": 70,
        "1 to 15.5": 15,
        "15.5 to 30": 15,
    }


def test_one_number_that_is_written_in_many_ways_is_one_group() -> None:
    values = ["1." + "0" * each for each in range(30)]
    [only] = score_groups(values, np.ones(30, np.bool_))
    assert (only.value, only.images) == ("1", 30)


def test_ranges_of_large_numbers_have_different_names() -> None:
    times = [str(1_700_000_000 + second) for second in range(100)]
    groups = score_groups(times, np.ones(100, np.bool_))
    assert {group.images for group in groups} == {20}
    assert len({group.value for group in groups}) == 5


def test_one_group_is_all_images() -> None:
    [only] = score_groups(["a"] * 4, np.array([True, True, False, True]))
    assert only.accuracy == pytest.approx(0.75)
    assert not only.is_below


def test_columns_are_those_of_the_manifest_in_use(dataset: Path) -> None:  # noqa: F811
    first = dataset / "manifest.csv"
    header, *lines = first.read_text().splitlines()
    cameras = [f"{line},{camera}" for line, camera in zip(lines, "xyz", strict=True)]
    first.write_text("\n".join([f"{header},camera", *cameras]))
    assert read_column(load_dataset(dataset), "camera") == ["x", "y", "z"]
    changes = [
        RowChange("a.png", "remove", "", "dark"),
        RowChange("b.png", "relabel", "dog", "label-suspects"),
    ]
    write_version(dataset, changes, why="--drop dark")
    changed = load_dataset(dataset)
    assert read_column(changed, "label") == ["dog", "cat"]
    assert read_column(changed, "camera") == ["y", "z"]
    with pytest.raises(UsageError, match="no such column") as error:
        read_column(changed, "colour")
    assert "camera" in (error.value.hint or "")
    first.write_text("file,camera\na.png,x\n")
    with pytest.raises(DataError, match=r"columns are missing in .*manifest\.csv: path"):
        read_column(changed, "camera")
    assert read_column(changed, "label") == ["dog", "cat"]
    first.write_text('path,camera\na.png,"x\n' + 200_000 * "y")
    with pytest.raises(DataError, match=r"cannot read .*manifest\.csv: field larger"):
        read_column(changed, "camera")
    first.unlink()
    with pytest.raises(DataError, match=r"cannot read .*manifest\.csv: No such file") as missing:
        read_column(changed, "camera")
    assert "add the column camera to the newest manifest" in missing.value.hint


def test_equal_groups_are_rarely_called_worse_however_many_there_are() -> None:
    random = np.random.default_rng(0)
    names = [f"site {number % 20}" for number in range(2000)]
    called = [
        any(group.is_below for group in score_groups(names, random.random(2000) < 0.85))
        for _ in range(200)
    ]
    assert np.mean(called) < 0.06
    worse = np.where(np.arange(2000) % 20 == 7, 0.5, 0.9)
    groups = score_groups(names, random.random(2000) < worse)
    assert [group.value for group in groups if group.is_below] == ["site 7"]
