import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from cnnclf.evaluation.paired_statistics import (
    adjust_for_several,
    bootstrap_macro_f1,
    difference_interval,
    mcnemar_mid_p,
    smallest_difference,
)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (3, 9), (9, 3), (40, 61), (700, 900)])
def test_mid_p_is_the_exact_test_without_half_of_its_last_term(gained: int, lost: int) -> None:
    fewer, changed = min(gained, lost), gained + lost
    expected = 2 * binom.cdf(fewer, changed, 0.5) - binom.pmf(fewer, changed, 0.5)
    assert mcnemar_mid_p(gained, lost) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("equal", [0, 1, 8])
def test_mid_p_of_a_draw_is_1(equal: int) -> None:
    assert mcnemar_mid_p(equal, equal) == pytest.approx(1.0)


def test_mid_p_finds_a_chance_difference_in_one_test_of_twenty() -> None:
    random = np.random.default_rng(0)
    draws = random.binomial(40, 0.5, size=4000)
    found = np.mean([mcnemar_mid_p(int(each), 40 - int(each)) < 0.05 for each in draws])
    assert 0.03 < found < 0.06


def test_holm_keeps_the_order_and_multiplies_the_smallest_by_all() -> None:
    assert adjust_for_several([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])
    assert adjust_for_several([0.9, 0.8]) == [1.0, 1.0]
    assert adjust_for_several([]) == []


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = []
    for gained, lost, _ in random.multinomial(300, [0.06, 0.03, 0.91], size=2000):
        low, high = difference_interval(int(gained), int(lost), total=300)
        covered.append(low <= 0.03 <= high)
    assert 0.93 < np.mean(covered) < 0.97


def test_a_point_at_5_percent_discordance_takes_3900_images() -> None:
    # (1.96 sqrt(.05) + .8416 sqrt(.05 - .01^2))^2 / .01^2 = 3,922
    assert smallest_difference(3922, round(0.05 * 3922)) == pytest.approx(0.01, rel=0.01)
    assert smallest_difference(100, 0) == pytest.approx(7.85 / 100, rel=0.1)
    assert smallest_difference(1, 0) == pytest.approx(1.0, abs=1e-5)


def test_the_detectable_difference_is_found_in_80_percent_of_tests() -> None:
    total, changed = 1000, 80
    smallest = smallest_difference(total, changed)
    rates = [(0.08 + smallest) / 2, (0.08 - smallest) / 2, 0.92]
    draws = np.random.default_rng(0).multinomial(total, rates, size=2000)
    found = np.mean([mcnemar_mid_p(int(gained), int(lost)) < 0.05 for gained, lost, _ in draws])
    assert 0.76 < found < 0.84


def test_macro_f1_is_that_of_scikit_learn_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, size=400)  # class 3 is only predicted

    def predict(right: float) -> np.ndarray:
        return np.where(random.random(400) < right, truth, random.integers(0, 4, size=400))

    first, second = predict(0.7), predict(0.9)
    difference, (low, high) = bootstrap_macro_f1(truth, first, second=second, classes=4)
    scores = [
        f1_score(truth, each, labels=[0, 1, 2], average="macro", zero_division=0)
        for each in (first, second)
    ]
    assert difference == pytest.approx(scores[1] - scores[0])
    assert 0 < low < difference < high
    same, interval = bootstrap_macro_f1(truth, first, second=first, classes=4)
    assert (same, interval) == (0.0, (0.0, 0.0))
