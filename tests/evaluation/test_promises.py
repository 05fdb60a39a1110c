"""Thresholds with a bound: the promise holds on new images as often as it says."""

import numpy as np
import pytest

from cnnclf.errors import DataError
from cnnclf.evaluation.promises import Target, check_promise, find_threshold, lowest_precision
from cnnclf.inference.promise import Promise

Draw = tuple[np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, count: int, *, steps: int = 0) -> Draw:
    """Draw scores that are the probability of being correct, as a calibrated model has them."""
    scores = 1 - rng.beta(0.5, 3, count) * 0.7
    is_correct = rng.random(count) < scores
    return (np.floor(scores * steps) / steps if steps else scores), is_correct


def measure(kind: str, threshold: float, images: Draw) -> float:
    scores, is_correct = images
    answered = scores >= threshold
    if kind == "precision":
        return float(is_correct[answered].mean())
    return float((answered if kind == "coverage" else answered & ~is_correct).mean())


@pytest.mark.parametrize("steps", [0, 20])
@pytest.mark.parametrize(
    ("kind", "value"), [("precision", 0.92), ("coverage", 0.8), ("error_rate", 0.03)]
)
def test_the_promise_holds_in_nineteen_of_twenty_draws(kind: str, value: float, steps: int) -> None:
    rng = np.random.default_rng(7)
    target, kept, coverages = Target(kind, value), [], []
    new = draw(rng, 20_000, steps=steps)
    for _ in range(300):
        threshold = find_threshold(*draw(rng, 500, steps=steps), target=target)
        found = measure(kind, threshold, new)
        kept.append(found <= value if kind == "error_rate" else found >= value)
        coverages.append(float((new[0] >= threshold).mean()))
    assert np.mean(kept) > 0.93  # 0.95, less two standard errors
    assert np.mean(coverages) > 0.3  # not by answering nothing


def test_a_threshold_without_a_bound_breaks_the_promise_in_half_of_the_draws() -> None:
    rng = np.random.default_rng(7)
    new = draw(rng, 20_000)
    kept = []
    for _ in range(300):
        scores, is_correct = draw(rng, 500)
        order = np.argsort(-scores)
        precision = np.cumsum(is_correct[order]) / np.arange(1, 501)
        threshold = scores[order][np.flatnonzero(precision >= 0.92)[-1]]
        kept.append(measure("precision", threshold, new) >= 0.92)
    assert np.mean(kept) < 0.7


@pytest.mark.parametrize(
    ("kind", "value", "needed"),
    [("precision", 0.95, 59), ("coverage", 0.8, 14), ("error_rate", 0.02, 149)],
)
def test_too_few_images_are_refused_with_the_number_needed(
    kind: str, value: float, needed: int
) -> None:
    target = Target(kind, value)
    scores = np.linspace(0.5, 0.9, needed)
    right = np.ones(needed, np.bool_)
    assert 0 <= find_threshold(scores, right, target=target) <= 0.9
    with pytest.raises(DataError, match=f"{needed - 1} images are too few .* {needed} are needed"):
        find_threshold(scores[1:], right[1:], target=target)


def test_a_precision_out_of_reach_is_refused_with_what_can_be_promised() -> None:
    rng = np.random.default_rng(0)
    scores, is_correct = rng.random(400), rng.random(400) < 0.8
    with pytest.raises(DataError, match=r"best that can be promised is 0\.\d+") as caught:
        find_threshold(scores, is_correct, target=Target("precision", 0.95))
    promised = float(str(caught.value.hint).split()[1].rstrip(","))
    assert 0.7 < promised < 0.95
    find_threshold(scores, is_correct, target=Target("precision", promised))  # as the hint says


def test_ties_stay_together() -> None:
    same = np.ones(200)
    right = np.ones(200, np.bool_)
    assert find_threshold(same, right, target=Target("precision", 0.95)) == 0.0
    right[:50] = False
    with pytest.raises(DataError, match="best that can be promised"):
        find_threshold(same, right, target=Target("precision", 0.95))
    with pytest.raises(DataError, match="50 wrong ones have the highest confidence"):
        find_threshold(same, right, target=Target("error_rate", 0.02))


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    assert lowest_precision(59, 59, delta=0.05) == pytest.approx(0.05 ** (1 / 59))
    assert lowest_precision(8, 10, delta=0.025) == pytest.approx(0.44390, abs=1e-5)  # R, binom.test
    assert lowest_precision(0, 10, delta=0.05) == 0


def test_an_evaluation_says_what_became_of_the_promise() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.2])
    is_correct = np.array([True, False, True, False])
    for kind, value in (("precision", 2 / 3), ("coverage", 3 / 4), ("error_rate", 1 / 4)):
        promise = Promise(kind, 0.5, 0.95, 0.7, None, 100, 80, 70, "val")
        found = check_promise(promise, scores, is_correct=is_correct)
        assert (found.answered, found.correct, found.images) == (3, 2, 4)
        assert found.value == pytest.approx(value)
        assert found.low < value < found.high
    nothing = check_promise(
        Promise("precision", 0.5, 0.95, 1.0, None, 9, 9, 9, "val"), scores, is_correct=is_correct
    )
    assert (nothing.answered, nothing.value) == (0, None)
