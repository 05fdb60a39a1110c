"""The learning rate as a function of the step."""

from itertools import pairwise

import pytest

from cnnclf.config import OptimizerConfig
from cnnclf.training.fitting.schedule import build_schedule, learning_rate_at

SCHEDULES = ("constant", "cosine", "linear", "one_cycle", "plateau")


def settings(schedule: str, **changes: object) -> OptimizerConfig:
    return OptimizerConfig.model_validate(
        {"schedule": schedule, "learning_rate": 0.1, "warmup": 0.1} | changes
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 10, 1000])
def test_rates_stay_between_nothing_and_the_highest(schedule: str, total: int) -> None:
    rates = [learning_rate_at(step, settings(schedule), total=total) for step in range(total)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)
    if total >= 10:
        assert max(rates) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_falling_schedules_rise_first(schedule: str) -> None:
    rates = [learning_rate_at(step, settings(schedule), total=100) for step in range(100)]
    peak = rates.index(max(rates))
    assert peak == 10
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.003


def test_linear_falls_by_equal_steps() -> None:
    rates = [learning_rate_at(step, settings("linear"), total=100) for step in range(10, 100)]
    assert [a - b for a, b in pairwise(rates)] == pytest.approx([0.099 / 90] * 89)


def test_one_cycle_starts_and_ends_low() -> None:
    rates = [learning_rate_at(step, settings("one_cycle"), total=100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1 / 25)
    assert rates[25] == pytest.approx(0.1)
    assert rates[-1] < 0.001


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_after_warmup(schedule: str) -> None:
    assert learning_rate_at(0, settings(schedule), total=100) < 0.1
    assert {learning_rate_at(step, settings(schedule), total=100) for step in range(10, 100)} == {
        0.1
    }


def test_an_open_rate_is_a_bug() -> None:
    with pytest.raises(ValueError, match="resolved"):
        learning_rate_at(0, OptimizerConfig(), total=10)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "one_cycle"])
def test_keras_sees_the_same_rates(schedule: str) -> None:
    rates = build_schedule(50, settings(schedule))
    seen = [float(rates(step)) for step in (0, 1, 10, 49, 60)]
    expected = [learning_rate_at(step, settings(schedule), total=50) for step in (0, 1, 10, 49, 49)]
    assert seen == pytest.approx(expected, rel=1e-6)
