"""Waiting for data: counted from when it was wanted, whoever fetched ahead."""

import pytest

from cnnclf.training.feeding.waits import Waits


def test_seconds_add_up() -> None:
    waits = Waits()
    waits.add(0.5)
    waits.add(0.25)
    assert waits.total_s() == 0.75


def test_waiting_after_a_framework_is_counted_from_the_step_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("cnnclf.training.feeding.waits.time.perf_counter", lambda: now[0])
    waits = Waits()
    given = waits.begin()
    for asked_s, wanted_s, given_s in (
        (1.0, 0.1, 0.5),  # was ready
        (2.0, 0.6, 3.0),
        (4.0, 3.1, 4.25),
        (5.0, 8.0, 9.0),  # TensorFlow compiled the network before it wanted anything
    ):
        now[0] = asked_s
        waits.ask()
        given.append((wanted_s, given_s))
    assert waits.total_s() == pytest.approx(2.25)
    assert waits.total_s() == pytest.approx(2.25)


def test_what_another_reading_was_given_does_not_count() -> None:
    waits = Waits()
    earlier = waits.begin()
    waits.ask()
    given = waits.begin()
    earlier.append((0.0, 1e9))
    assert waits.total_s() == 0
    given.append((0.0, 0.0))
    assert waits.total_s() == 0
    assert not given
