"""Waiting for data: counted from when it was wanted, whoever fetched ahead."""

import pytest

from cnnclf.data.waits import Waits


def test_seconds_add_up() -> None:
    waits = Waits()
    waits.add(0.5)
    waits.add(0.25)
    assert waits.total_s() == 0.75


def test_waiting_behind_a_framework_is_counted_from_the_step_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("cnnclf.data.waits.time.perf_counter", lambda: now[0])
    waits = Waits()
    given = waits.begin()
    for asked_at, given_at in ((1.0, 0.5), (2.0, 3.0), (4.0, 4.25)):
        now[0] = asked_at
        waits.ask()
        given.append(given_at)
    assert waits.total_s() == pytest.approx(1.25)
    assert waits.total_s() == pytest.approx(1.25)


def test_what_another_reading_was_given_does_not_count() -> None:
    waits = Waits()
    earlier = waits.begin()
    waits.ask()
    given = waits.begin()
    earlier.append(1e9)
    assert waits.total_s() == 0
    given.append(0.0)
    assert waits.total_s() == 0
    assert not given
