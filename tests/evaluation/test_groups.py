"""Accuracy by the values of a column."""

import numpy as np
import pytest

from cnnclf.evaluation.groups import score_groups


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
    assert len(score_groups([*numbers, "nan"], np.ones(101, np.bool_))) == 101


def test_one_group_is_all_images() -> None:
    [only] = score_groups(["a"] * 4, np.array([True, True, False, True]))
    assert only.accuracy == pytest.approx(0.75)
    assert not only.is_below
