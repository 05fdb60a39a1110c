from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.data.importers.base import name_some, natural_key, read_classes_file
from cnnclf.errors import DataError


@given(st.lists(st.integers(0, 10**30), min_size=2, max_size=10))
def test_numbers_in_names_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"class {number} b" for number in numbers]
    assert sorted(names, key=natural_key) == [f"class {number} b" for number in sorted(numbers)]


@given(st.text(max_size=8), st.text(max_size=8))
def test_different_texts_have_different_keys(first: str, second: str) -> None:
    assert (natural_key(first) == natural_key(second)) == (first == second)


def test_order_is_that_of_people() -> None:
    expected = ["01", "1", "9", "10", "A", "a", "a2", "a10", "b", "B1"]
    assert sorted(reversed(expected), key=natural_key) == expected


def test_long_lists_of_names_are_cut() -> None:
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_classes_file_gives_labels_in_order(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffT-shirt/top\r\n Käse \nb\n\n".encode())
    assert read_classes_file(path) == ("T-shirt/top", "Käse", "b")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a\nb\na\n", "line 3"),
        (b"a\n\nb\n", "an empty line"),
        (b"\n \n", "is empty"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_faults_in_a_classes_file_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_classes_file(path)
    assert str(path) in caught.value.message
    assert "--classes-file" in caught.value.hint
