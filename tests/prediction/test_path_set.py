"""A set of paths that counts, against Python's own counter."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.prediction import path_set
from cnnclf.prediction.path_set import PathSet


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sort in often, so that a few paths meet all that many would."""
    monkeypatch.setattr(path_set, "_MIN_NEW", 3)


STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh")), max_size=60)


@given(STEPS)
def test_it_does_what_a_counter_does(steps: list[tuple[bool, str]]) -> None:
    paths, expected = PathSet(), Counter[str]()
    for is_added, name in steps:
        if is_added:
            paths.add(name)
            expected[name] += 1
        else:
            assert paths.take(name) == (expected[name] > 0)
            expected[name] = max(0, expected[name] - 1)
        assert len(paths) == expected.total()
        assert [each in paths for each in "abcdefgh"] == [expected[each] > 0 for each in "abcdefgh"]


def test_many_paths_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_set, "_MIN_NEW", 500)
    paths = PathSet()
    for number in range(5000):
        paths.add(f"photos/{number}.jpg")
    assert len(paths) == 5000
    assert not any(f"photos/{number}.jpg" in paths for number in range(5000, 6000))
    assert all(paths.take(f"photos/{number}.jpg") for number in range(5000))
    assert len(paths) == 0


def test_names_that_are_no_text_are_paths() -> None:
    paths = PathSet()
    paths.add("b\udce4r.jpg")
    assert "b\udce4r.jpg" in paths
    assert "bär.jpg" not in paths
