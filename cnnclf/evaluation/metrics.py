"""The table of metrics, and the details they are computed from.

Everything takes class indices int [n] and probabilities float [n, K], n >= 1 and K >= 2, where
column k belongs to label k of the classifier; K does not depend on the classes in a split. A class
without samples in the split has no recall, so averages over classes cover the classes that are
present.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.config import EvaluateConfig
from cnnclf.evaluation.confusions import ClassCounts, ClassIndices, count_classes
from cnnclf.evaluation.selective import trace_probabilities

TOP_K = EvaluateConfig().top_k
_AMONG_BEST = "fraction of the images whose label is among the {} most probable ones"
CALIBRATION_BINS = 15  # as in Guo et al. 2017

Probabilities = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    Args:
        name: Key in metrics.json, snake_case.
        title: Name in tables.
        summary: What it measures, in one line.
        value: Takes class indices int [n] and probabilities float [n, K].
    """

    name: str
    title: str
    summary: str
    value: Callable[[ClassIndices, Probabilities], float]


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions with a top probability in (lower, upper]; without any, the means are None."""

    lower: float
    upper: float
    count: int
    mean_probability: float | None
    accuracy: float | None


def build_metrics(top_k: int = TOP_K) -> tuple[Metric, ...]:
    """Return the table of metrics for a given k.

    Args:
        top_k: The k of `top_k_accuracy`, at least 1.
    """
    return tuple(
        replace(
            row,
            title=f"top-{top_k} accuracy",
            summary=_AMONG_BEST.format(top_k),
            value=partial(top_k_accuracy, top_k=top_k),
        )
        if row.name == "top_k_accuracy"
        else row
        for row in METRICS
    )


def shown_metrics(top_k: int = TOP_K) -> tuple[Metric, ...]:
    """Return the metrics of a table for people: top-1 accuracy only repeats the accuracy."""
    return tuple(row for row in build_metrics(top_k) if top_k > 1 or row.name != "top_k_accuracy")


def measure(
    class_indices: ClassIndices, probabilities: Probabilities, *, top_k: int = TOP_K
) -> dict[str, float]:
    """Evaluate every metric of the table.

    Args:
        class_indices: True classes, int [n], 0..K-1.
        probabilities: float [n, K], rows summing to 1.
        top_k: See `build_metrics`.

    Returns:
        Name of the metric to its value, in the order of the table.
    """
    return {
        metric.name: metric.value(class_indices, probabilities) for metric in build_metrics(top_k)
    }


def accuracy(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Fraction of the samples whose most probable label is the true one."""
    _check_shapes(class_indices, probabilities)
    return float(np.mean(probabilities.argmax(axis=1) == class_indices))


def balanced_accuracy(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean recall over the classes that have at least one sample."""
    return _count_classes(class_indices, probabilities).macro_recall


def top_k_accuracy(
    class_indices: ClassIndices, probabilities: Probabilities, *, top_k: int = TOP_K
) -> float:
    """Fraction of the samples whose true label is among the k most probable ones.

    Args:
        class_indices: True classes, int [n], 0..K-1.
        probabilities: float [n, K].
        top_k: The k, limited by `effective_top_k`.

    Returns:
        The fraction, 0..1. Of equal probabilities, the lower class index ranks first, as with
        argmax, so that k = 1 gives the accuracy (scikit-learn's top_k_accuracy_score breaks ties
        the other way and treats two columns differently from three).
    """
    _check_shapes(class_indices, probabilities)
    classes = probabilities.shape[1]
    own = np.take_along_axis(probabilities, class_indices[:, None], axis=1)
    rank = (probabilities > own).sum(axis=1)
    rank += ((probabilities == own) & (np.arange(classes) < class_indices[:, None])).sum(axis=1)
    return float(np.mean(rank < effective_top_k(top_k, classes)))


def macro_f1(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean F1 over the classes that have at least one sample."""
    return _count_classes(class_indices, probabilities).macro_f1


def log_loss(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean negative natural logarithm of the true class's probability, in nats.

    A probability of 0 counts as the epsilon of float64, so that the loss stays finite.
    """
    _check_shapes(class_indices, probabilities)
    own = np.take_along_axis(probabilities, class_indices[:, None], axis=1)[:, 0]
    own = own / probabilities.sum(axis=1, dtype=np.float64)  # that of float32 rows is not quite 1
    return float(-np.log(own.clip(np.finfo(np.float64).eps, 1.0)).mean()) + 0.0  # not -0.0


def expected_calibration_error(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean gap between top probability and accuracy, weighted by bin size (Guo et al. 2017)."""
    gaps = [
        bin_.count * abs(bin_.accuracy - bin_.mean_probability)
        for bin_ in calibration_bins(class_indices, probabilities)
        if bin_.accuracy is not None and bin_.mean_probability is not None
    ]
    return float(sum(gaps) / len(class_indices))


def area_under_risk(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Error of the most confident samples, averaged over all coverages (Geifman et al. 2019)."""
    _check_shapes(class_indices, probabilities)
    return trace_probabilities(class_indices, probabilities).aurc


def area_under_error_rate(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Fraction that is answered and wrong, averaged over all coverages (Traub et al. 2024)."""
    _check_shapes(class_indices, probabilities)
    return trace_probabilities(class_indices, probabilities).augrc


def calibration_bins(
    class_indices: ClassIndices, probabilities: Probabilities
) -> list[CalibrationBin]:
    """Group the predictions into bins of equal width by their top probability.

    Args:
        class_indices: True classes, int [n], 0..K-1.
        probabilities: float [n, K].

    Returns:
        The bins (lower, upper], lowest first: the table behind a reliability diagram.
    """
    _check_shapes(class_indices, probabilities)
    top = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    right = (probabilities.argmax(axis=1) == class_indices).astype(np.float64)
    edges = np.linspace(0.0, 1.0, CALIBRATION_BINS + 1)
    index = np.searchsorted(edges[1:-1], top, side="left")
    counts = np.bincount(index, minlength=CALIBRATION_BINS)
    sums = np.bincount(index, weights=top, minlength=CALIBRATION_BINS)
    hits = np.bincount(index, weights=right, minlength=CALIBRATION_BINS)
    return [
        CalibrationBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            count=int(counts[i]),
            mean_probability=float(sums[i] / counts[i]) if counts[i] else None,
            accuracy=float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(CALIBRATION_BINS)
    ]


def wilson_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927), valid for small n and near 0 and 1.

    Args:
        correct: Successes, 0..total.
        total: Trials, at least 1.
        confidence: Nominal coverage, (0, 1).

    Returns:
        Lower and upper end, within 0..1.

    Raises:
        ValueError: A number is out of its range.
    """
    if total < 1 or not 0 <= correct <= total:
        msg = f"no interval for {correct} of {total}"
        raise ValueError(msg)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    fraction = correct / total
    center = (fraction + z2 / (2 * total)) / (1 + z2 / total)
    half = (z2 * (fraction * (1 - fraction) / total + z2 / (4 * total**2))) ** 0.5 / (
        1 + z2 / total
    )
    # At 0 and n an end equals the proportion exactly; rounding must not move it beyond.
    low = 0.0 if correct == 0 else max(0.0, center - half)
    high = 1.0 if correct == total else min(1.0, center + half)
    return low, high


def effective_top_k(top_k: int, classes: int) -> int:
    """Return k, limited to all classes but one.

    With all of them, the metric would be 1 for any model.
    """
    return max(1, min(top_k, classes - 1))


# A row here appears in metrics.json, on the screen and in the tests.
METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy",
        "accuracy",
        "fraction of the images whose most probable label is correct",
        accuracy,
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "mean recall of the classes in the split",
        balanced_accuracy,
    ),
    Metric(
        "top_k_accuracy",
        f"top-{TOP_K} accuracy",
        _AMONG_BEST.format(TOP_K),
        top_k_accuracy,
    ),
    Metric(
        "macro_f1",
        "macro F1",
        "mean F1 of the classes in the split",
        macro_f1,
    ),
    Metric(
        "log_loss",
        "log loss",
        "mean negative logarithm of the probability of the true label",
        log_loss,
    ),
    Metric(
        "ece",
        "calibration error",
        f"expected calibration error (ECE), {CALIBRATION_BINS} bins of equal width",
        expected_calibration_error,
    ),
    Metric(
        "aurc",
        "AURC",
        "error of the most confident images, averaged over all coverages",
        area_under_risk,
    ),
    Metric(
        "augrc",
        "AUGRC",
        "probability of being answered and wrong, averaged over all coverages",
        area_under_error_rate,
    ),
)


def _count_classes(class_indices: ClassIndices, probabilities: Probabilities) -> ClassCounts:
    _check_shapes(class_indices, probabilities)
    predicted = probabilities.argmax(axis=1)
    return count_classes(class_indices, predicted, classes=probabilities.shape[1])


def _check_shapes(class_indices: ClassIndices, probabilities: Probabilities) -> None:
    n = len(class_indices)
    if n < 1 or probabilities.ndim != 2 or len(probabilities) != n or probabilities.shape[1] < 2:
        msg = f"expected [n] and [n, K >= 2], got {class_indices.shape} and {probabilities.shape}"
        raise ValueError(msg)
