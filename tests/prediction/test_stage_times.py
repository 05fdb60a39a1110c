"""Which stage is called the limit, by what is waited for or by what the processors do."""

import time

import pytest

from cnnclf.prediction.stage_times import STAGES, Limit, StageClock


class Times:
    """Stands in for the clocks of the process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s = self.processor_s = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.wall_s)
        monkeypatch.setattr(time, "process_time", lambda: self.processor_s)

    def spend(self, wall_s: float, processor_s: float = 0.0) -> None:
        self.wall_s += wall_s
        self.processor_s += processor_s


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_waited_for_is_the_limit(times: Times, stage: str) -> None:
    clock = StageClock(processors=4)
    for each in STAGES:
        clock.enter(each)
        times.spend(7 if each == stage else 1, 1)
    clock.stop()
    assert clock.limit() == Limit(stage, 0.7, is_processor=False)
    assert str(clock.limit()).endswith(f"{STAGES[stage]}, 70 % of the time")
    assert clock.seconds == pytest.approx(10)


def test_where_all_processors_are_busy_their_time_counts(times: Times) -> None:
    clock = StageClock(processors=2)
    clock.enter("compute")  # waits for the engine, while the threads decode beside it
    times.spend(10, 20)
    clock.add_decoding(15)
    assert clock.limit() == Limit("decode", 0.75, is_processor=True)
    assert str(clock.limit()) == "bottleneck: decoding, 75 % of the processor time"


def test_shares_add_up_while_it_runs(times: Times) -> None:
    clock = StageClock(processors=1)
    clock.enter("list")
    times.spend(2)
    clock.enter("decode")
    times.spend(2)
    assert clock.seconds == 4
    assert sum(clock.shares()[0].values()) == pytest.approx(1)
    assert clock.shares()[0]["decode"] == 0.5


def test_a_clock_that_stands_counts_nothing(times: Times) -> None:
    clock = StageClock(processors=1)
    times.spend(5)
    clock.enter("list")
    clock.stop()
    times.spend(5)
    clock.stop()
    assert clock.seconds == 0
    assert clock.limit().share == 0
