"""The names that logits stand for: top-k, ties, unknown, and outputs that are not numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cnnclf.inference.classifier import Classifier
from cnnclf.inference.ranking import UNKNOWN, RankedLabels, rank_labels
from cnnclf.prediction.label_pipeline import PredictOptions, predict_files
from cnnclf.probabilities import softmax
from tests.inference.conftest import Draw


@dataclass
class Model:
    labels: tuple[str, ...] = ("cat", "dog", "fox")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        return softmax(np.asarray(logits, np.float64))


LOGITS = np.log(np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4]]))


def test_labels_are_ranked_by_probability_and_ties_by_order() -> None:
    first, second = rank_labels(Model(), LOGITS)
    assert [label for label, _ in first.ranking] == ["dog", "cat", "fox"]
    assert [value for _, value in first.ranking] == pytest.approx([0.7, 0.2, 0.1])
    assert [label for label, _ in second.ranking] == ["cat", "fox", "dog"]
    assert (first.label, second.label) == ("dog", "cat")


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_top_k_is_at_most_all(top_k: int, count: int) -> None:
    assert [len(each.ranking) for each in rank_labels(Model(), LOGITS, top_k=top_k)] == [count] * 2


def test_below_the_threshold_the_label_is_unknown() -> None:
    first, second = rank_labels(Model(), LOGITS, threshold=0.5)
    assert (first.label, second.label) == ("dog", UNKNOWN)
    assert second.ranking[0][0] == "cat"  # the best label is still there


def test_outputs_that_are_not_numbers_have_no_ranking() -> None:
    logits = LOGITS.copy()
    logits[0, 2] = np.nan
    first, second = rank_labels(Model(), logits)
    assert (first, first.label) == (RankedLabels(), "")
    assert second.label == "cat"
    assert list(rank_labels(Model(), np.zeros((0, 3)))) == []


def test_classify_answers_as_predict_does(classifier: Classifier, draw: Draw) -> None:
    paths = [draw("a.png", "red"), draw("b.png", "blue")]
    pixels = np.stack([classifier.decode(Path(path)) for path in paths])
    for threshold in (None, 0.99):
        answers = classifier.classify(pixels, top_k=2, threshold=threshold)
        options = PredictOptions(top_k=2, threshold=threshold)
        rows = predict_files(classifier, list(map(str, paths)), options=options)
        assert [each.label for each in answers] == [row.label for row in rows]
        assert [each.ranking for each in answers] == [row.ranking for row in rows]
