"""Promises in classifier.json, and the scores they are about."""

import numpy as np
import pytest

from cnnclf.inference.promise import Promise, read_cutoff, score_confidence
from cnnclf.probabilities import softmax

PROMISE = Promise("precision", 0.95, 0.95, 0.8, None, 300, 240, 235, "val")
LOGITS = np.array([[3.0, 1.0, -4.0], [1.0, 0.9, 0.8], [0.0, 0.0, 0.0]])


def test_a_promise_survives_a_round_trip_and_gives_the_cutoff() -> None:
    content = {"threshold": 0.8, "promise": PROMISE.to_dict()}
    assert Promise.from_dict(content["promise"]) == PROMISE
    assert read_cutoff(content) == (0.8, None)
    assert read_cutoff(content, 0.3) == (0.3, None)
    by_logit = {"threshold": None, "promise": {**PROMISE.to_dict(), "norm": 4}}
    assert read_cutoff(by_logit) == (0.8, 4)
    assert read_cutoff(by_logit, 0.3) == (0.3, None)  # what is typed is a probability
    assert read_cutoff({"threshold": 0.5}) == (0.5, None)  # a bundle from before
    assert read_cutoff({}) == (None, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "luck"},
        {"threshold": 1.5},
        {"norm": 0},
        {"norm": 2.5},
        {"answered": 301},
        {"images": True},
        {"more": 1},
        {"target": "0.9"},
    ],
)
def test_damaged_promises_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fields of a promise"):
        Promise.from_dict({**PROMISE.to_dict(), **changed})


def test_the_largest_logit_over_the_norm() -> None:
    assert score_confidence(LOGITS, softmax(LOGITS), norm=2) == pytest.approx(
        [3 / np.sqrt(26), 1 / np.sqrt(2), 0]
    )


def test_the_score_does_not_depend_on_scale_or_offset() -> None:
    """So an export of probabilities, whose logarithms are shifted logits, has the same scores."""
    expected = score_confidence(LOGITS, softmax(LOGITS), norm=4)
    for changed in (LOGITS / 3, LOGITS + 100, np.log(softmax(LOGITS))):
        assert score_confidence(changed, softmax(LOGITS), norm=4) == pytest.approx(expected)
    assert np.isfinite(score_confidence(LOGITS * 1e300, softmax(LOGITS), norm=10)).all()
