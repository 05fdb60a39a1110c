"""Risk against coverage, and its areas."""

import numpy as np
import pytest

from cnnclf.evaluation.selective import CURVE_POINTS, trace_probabilities, trace_risk


def test_areas_of_four_images_by_hand() -> None:
    curve = trace_risk(np.array([0.6, 0.9, 0.8, 0.7]), np.array([True, True, False, True]))
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0)
    assert curve.risk == pytest.approx((0, 1 / 2, 1 / 3, 1 / 4))
    assert curve.error_rate == pytest.approx((0, 1 / 4, 1 / 4, 1 / 4))
    assert curve.aurc == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert curve.augrc == pytest.approx(3 / 16)


def test_a_perfect_ranking_is_better_than_none_and_than_the_reverse() -> None:
    is_correct = np.arange(100) >= 20
    best, worst = (trace_risk(sign * np.arange(100.0), is_correct) for sign in (1, -1))
    tied = trace_risk(np.ones(100), is_correct)
    assert best.aurc < tied.aurc < worst.aurc
    assert best.augrc < tied.augrc < worst.augrc
    assert tied.aurc == pytest.approx(0.2)  # in any order, each is wrong as they are on average


def test_a_curve_of_many_images_has_few_points_and_ends_with_all() -> None:
    rng = np.random.default_rng(0)
    is_correct = rng.random(5000) < 0.7
    curve = trace_risk(rng.random(5000), is_correct)
    assert len(curve.coverage) == CURVE_POINTS
    assert curve.coverage[-1] == 1
    assert curve.risk[-1] == pytest.approx(np.mean(~is_correct))


def test_probabilities_are_ranked_by_the_best_label() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert trace_probabilities(np.array([0, 0]), probabilities).aurc == pytest.approx(1 / 4)
