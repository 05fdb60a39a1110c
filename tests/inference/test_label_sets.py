"""Sets of labels: the promised rate, sizes, and how many images they need."""

import numpy as np
import pytest

from cnnclf.errors import DataError
from cnnclf.inference.answer_rules import AnswerRules
from cnnclf.inference.label_sets import METHODS, count_needed, fit_sets, score_labels, score_truth
from cnnclf.probabilities import softmax


def draw(rng: np.random.Generator, count: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes))
    logits[np.arange(count), truth] += 1.5
    return softmax(logits), truth


def test_scores_of_three_labels_by_hand() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1]])
    assert score_labels(probabilities, "lac") == pytest.approx(np.array([[0.8, 0.3, 0.9]]))
    assert score_labels(probabilities, "aps") == pytest.approx(np.array([[0.9, 0.7, 1.0]]))
    assert score_labels(probabilities, "raps") == pytest.approx(np.array([[0.9, 0.7, 1.1]]))


@pytest.mark.parametrize("method", METHODS)
def test_the_rate_is_kept_on_average(method: str) -> None:
    rng = np.random.default_rng(3)
    rates, sizes = [], []
    for _ in range(150):
        probabilities, truth = draw(rng, 99)
        scores = score_truth(probabilities, truth)[method]
        sets = fit_sets(scores, truth, method=method, level=0.9, classes=6)
        new, new_truth = draw(rng, 400)
        found = sets.find(new)
        rates.append(found[np.arange(400), new_truth].mean())
        sizes.append(found.sum(axis=1).mean())
    assert 0.89 < np.mean(rates) < 0.93
    assert 1 < np.mean(sizes) < 5.5
    assert not sets.is_per_class


def test_with_enough_images_the_rate_is_kept_for_each_class() -> None:
    rng = np.random.default_rng(3)
    probabilities, truth = draw(rng, 2000, classes=3)
    probabilities[truth == 2] = softmax(np.log(probabilities[truth == 2]) / 4)  # a hard class
    scores = score_truth(probabilities, truth)["lac"]
    sets = fit_sets(scores, truth, method="lac", level=0.9, classes=3)
    assert sets.is_per_class
    assert len(set(sets.limits.tolist())) == 3
    covered = sets.find(probabilities)[np.arange(2000), truth]
    assert all(covered[truth == each].mean() >= 0.9 for each in range(3))


@pytest.mark.parametrize(("level", "needed"), [(0.95, 19), (0.9, 9), (0.99, 99)])
def test_too_few_images_are_refused_with_the_number_needed(level: float, needed: int) -> None:
    assert count_needed(level) == needed
    scores, truth = np.linspace(0, 1, needed, dtype=np.float32), np.zeros(needed, int)
    fit_sets(scores, truth, method="lac", level=level, classes=2)
    with pytest.raises(DataError, match=f"{needed} are needed"):
        fit_sets(scores[1:], truth[1:], method="lac", level=level, classes=2)


def test_the_best_label_is_always_in_the_set() -> None:
    sets = fit_sets(
        np.zeros(100, np.float32), np.zeros(100, int), method="lac", level=0.9, classes=3
    )
    assert sets.find(np.array([[0.5, 0.3, 0.2]])).tolist() == [[True, False, False]]


def test_jobs_tell_calibrations_apart() -> None:
    """Rows of a job that is resumed are of one calibration."""
    truth = np.arange(40) % 2
    words = set()
    for scale in (0.3, 0.3, 0.6):
        scores = (np.linspace(0, 1, 40) * scale).astype(np.float32)
        sets = fit_sets(scores, truth, method="lac", level=0.9, classes=2)
        words.add(AnswerRules(sets).set_words)
    assert len(words) == 2
    assert all(each.startswith("0.9 lac (") for each in words)
