from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.names import count_of, name_some, natural_key, short_names, sort_in_chunks, suggest


@given(st.lists(st.integers(0, 10**30), min_size=2, max_size=10))
def test_numbers_in_names_sort_as_numbers(numbers: list[int]) -> None:
    names = [f"class {number} b" for number in numbers]
    assert sorted(names, key=natural_key) == [f"class {number} b" for number in sorted(numbers)]


@given(st.text(max_size=8), st.text(max_size=8))
def test_different_texts_have_different_keys(first: str, second: str) -> None:
    assert (natural_key(first) == natural_key(second)) == (first == second)


def test_order_is_that_of_people() -> None:
    names = ["a10", "10", "b", "1", "A", "a2", "9", "B1", "01", "a"]
    expected = ["01", "1", "9", "10", "A", "a", "a2", "a10", "b", "B1"]
    assert sorted(names, key=natural_key) == expected


def test_long_lists_of_names_are_cut() -> None:
    assert name_some(["a", "b"]) == "a, b"
    assert name_some(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_counts_agree_with_their_nouns() -> None:
    assert [count_of(n, "file") for n in (0, 1, 2, 1234)] == [
        "0 files",
        "1 file",
        "2 files",
        "1,234 files",
    ]
    assert [count_of(1, noun) for noun in ("entry", "class")] == ["1 entry", "1 class"]
    assert [count_of(2, noun) for noun in ("entry", "class", "array", "batch", "epoch")] == [
        "2 entries",
        "2 classes",
        "2 arrays",
        "2 batches",
        "2 epochs",
    ]


@given(st.lists(st.text("a12", max_size=4), max_size=30), st.integers(1, 40))
def test_chunks_are_sorted_each_by_itself(names: list[str], most: int) -> None:
    expected = [
        name
        for start in range(0, len(names), most)
        for name in sorted(names[start : start + most], key=natural_key)
    ]
    assert list(sort_in_chunks(iter(names), most)) == expected


def test_chunks_take_no_more_names_than_they_hold() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield str(taken)

    names = sort_in_chunks(endless(), 10)
    assert [next(names) for _ in range(11)][::10] == ["1", "11"]
    assert taken == 20


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("tran", {}, "did you mean train?"),
        ("tran", {"count": 2}, "did you mean train or trial?"),
        ("onx", {"option": "--format "}, "did you mean --format onnx?"),
        ("zzz", {}, ""),
        ("on", {"cutoff": 0.9}, ""),
    ],
)
def test_similar_names_are_suggested(name: str, options: dict[str, Any], expected: str) -> None:
    assert suggest(name, ["train", "trial", "onnx"], **options) == expected


def test_directories_are_named_shortly_unless_two_have_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "pets")
    assert short_names([Path(), Path("..")]) == ["pets", "a"]
    assert short_names([Path(), Path("b/pets")]) == [".", "b/pets"]
