"""Answering only what one is confident about: risk against coverage, and its two areas."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CURVE_POINTS = 101

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """What is wrong if only the most confident images are answered.

    Args:
        coverage: Fractions of the images that are answered, ascending, the last is 1.
        risk: Wrong answers as a fraction of the answers, at each coverage.
        error_rate: Wrong answers as a fraction of all images, at each coverage.
        aurc: Area under `risk` (Geifman et al., 2019); lower is better.
        augrc: Area under `error_rate` (Traub et al., 2024): the probability that an image is
            both answered and wrong, over all coverages; lower is better.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    error_rate: tuple[float, ...]
    aurc: float
    augrc: float


def trace_risk(scores: Floats, is_correct: npt.NDArray[np.bool_]) -> RiskCoverage:
    """Trace the risk over all coverages.

    Args:
        scores: Confidence, float [n], n >= 1. Images of equal scores are answered in any order,
            so each of them counts as wrong as they are on average.
        is_correct: bool [n].

    Returns:
        The areas, from all n coverages, and at most `CURVE_POINTS` points of the curve.
    """
    count = len(scores)
    order = np.argsort(-scores, kind="stable")
    _, group = np.unique(-scores[order], return_inverse=True)
    sizes = np.bincount(group)
    wrong = np.bincount(group, weights=~is_correct[order])
    errors = np.cumsum((wrong / sizes)[group])
    answered = np.arange(1, count + 1)
    shown = np.unique(np.linspace(0, count - 1, min(CURVE_POINTS, count)).round().astype(int))
    return RiskCoverage(
        coverage=tuple((answered[shown] / count).tolist()),
        risk=tuple((errors[shown] / answered[shown]).tolist()),
        error_rate=tuple((errors[shown] / count).tolist()),
        aurc=float(np.mean(errors / answered)),
        augrc=float(np.mean(errors / count)),
    )


def trace_probabilities(
    class_indices: npt.NDArray[np.integer[Any]], probabilities: npt.NDArray[np.floating[Any]]
) -> RiskCoverage:
    """Trace the risk if the confidence is the probability of the best label."""
    is_correct = probabilities.argmax(axis=1) == class_indices
    return trace_risk(probabilities.max(axis=1).astype(np.float64), is_correct)
