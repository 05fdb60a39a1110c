"""What is measured on a split, as a table of metrics, and the details behind the numbers.

Everything takes class indices int [n] and probabilities float [n, K], n >= 1 and K >= 2, where
column k belongs to label k of the classifier; K never depends on which classes a split happens to
hold. A class without samples in the split has no recall, so averages over classes are averages over
the classes that are present.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnclf.config import EvaluateConfig

TOP_K = EvaluateConfig().top_k
CALIBRATION_BINS = 15  # as in Guo et al. 2017

ClassIndices = NDArray[np.integer[Any]]
Probabilities = NDArray[np.floating[Any]]

_CHUNK_ROWS = 4096  # scikit-learn's log loss needs several float64 copies of what it is given


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    Args:
        name: Key in metrics.json, snake_case.
        title: Name for people.
        summary: What it says, in one line.
        value: Takes class indices int [n] and probabilities float [n, K].
        better: Whether `higher` or `lower` values are better.
        lowest: Smallest value there can be.
        highest: Largest value there can be.
    """

    name: str
    title: str
    summary: str
    value: Callable[[ClassIndices, Probabilities], float]
    better: Literal["higher", "lower"] = "higher"
    lowest: float = 0.0
    highest: float = 1.0

    @property
    def ideal(self) -> float:
        """The value of a perfect and fully confident prediction."""
        return self.highest if self.better == "higher" else self.lowest


@dataclass(frozen=True)
class ClassScores:
    """How one class fared; None where a number is not defined.

    Args:
        label: Name of the class.
        support: Samples that are of the class.
        predicted: Samples that were taken for the class.
        precision: Part of `predicted` that is right; None if nothing was predicted.
        recall: Part of `support` that was found; None if the split has no such sample.
        f1: Harmonic mean of both; None if there is neither a sample nor a prediction.
    """

    label: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ConfusedPair:
    """One kind of mistake: `count` samples of `label` were taken for `predicted`.

    Args:
        label: True label.
        predicted: Label that was predicted instead.
        count: How many samples, at least 1.
        share: `count` as a part of all samples of `label`, (0, 1].
    """

    label: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions whose top probability lies in (lower, upper]; the means of none are None."""

    lower: float
    upper: float
    count: int
    mean_probability: float | None
    accuracy: float | None


def build_metrics(top_k: int = TOP_K) -> tuple[Metric, ...]:
    """Give the table of metrics for another k.

    Args:
        top_k: How many of the most probable labels count for `top_k_accuracy`, at least 1.

    Returns:
        The rows of `METRICS`, in their order.
    """
    return tuple(
        replace(row, title=f"top-{top_k} accuracy", value=partial(top_k_accuracy, top_k=top_k))
        if row.name == "top_k_accuracy"
        else row
        for row in METRICS
    )


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
    """Part of the samples whose most probable label is the true one."""
    from sklearn.metrics import accuracy_score

    _check_shapes(class_indices, probabilities)
    return float(accuracy_score(class_indices, probabilities.argmax(axis=1)))


def balanced_accuracy(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean recall over the classes that have at least one sample."""
    from sklearn.metrics import recall_score

    _check_shapes(class_indices, probabilities)
    # balanced_accuracy_score is the same number, but it warns when a class without samples was
    # predicted, which is an everyday event on a small split.
    return float(
        recall_score(
            class_indices,
            probabilities.argmax(axis=1),
            labels=np.unique(class_indices),
            average="macro",
            zero_division=0,
        )
    )


def top_k_accuracy(
    class_indices: ClassIndices, probabilities: Probabilities, *, top_k: int = TOP_K
) -> float:
    """Part of the samples whose true label is among the most probable ones.

    Args:
        class_indices: True classes, int [n], 0..K-1.
        probabilities: float [n, K].
        top_k: How many labels count; lowered as `effective_top_k` says.

    Returns:
        The part, 0..1. Among equal probabilities the lower class index counts as the more probable,
        as with argmax, so that k = 1 is the accuracy (scikit-learn's top_k_accuracy_score breaks
        ties the other way and reads two columns differently from three).
    """
    _check_shapes(class_indices, probabilities)
    classes = probabilities.shape[1]
    own = np.take_along_axis(probabilities, class_indices[:, None], axis=1)
    rank = (probabilities > own).sum(axis=1)
    rank += ((probabilities == own) & (np.arange(classes) < class_indices[:, None])).sum(axis=1)
    return float(np.mean(rank < effective_top_k(top_k, classes)))


def macro_f1(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean F1 over the classes that have at least one sample."""
    from sklearn.metrics import f1_score

    _check_shapes(class_indices, probabilities)
    return float(
        f1_score(
            class_indices,
            probabilities.argmax(axis=1),
            labels=np.unique(class_indices),
            average="macro",
            zero_division=0,
        )
    )


def log_loss(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean negative natural logarithm of the true class's probability, in nats.

    A probability of 0 counts as the smallest step of float64, so the loss stays finite.
    """
    from sklearn.metrics import log_loss as sklearn_log_loss

    _check_shapes(class_indices, probabilities)
    classes = np.arange(probabilities.shape[1])
    total = 0.0
    for start in range(0, len(class_indices), _CHUNK_ROWS):
        chunk = probabilities[start : start + _CHUNK_ROWS].astype(np.float64)
        chunk /= chunk.sum(axis=1, keepdims=True)  # float32 rows miss 1 by more than it tolerates
        truth = class_indices[start : start + _CHUNK_ROWS]
        total += float(sklearn_log_loss(truth, chunk, labels=classes, normalize=False))
    return max(0.0, total / len(class_indices))  # -log(1) may come out as -0.0


def expected_calibration_error(class_indices: ClassIndices, probabilities: Probabilities) -> float:
    """Mean gap between top probability and accuracy, weighted by bin size (Guo et al. 2017)."""
    gaps = [
        bin_.count * abs(bin_.accuracy - bin_.mean_probability)
        for bin_ in calibration_bins(class_indices, probabilities)
        if bin_.accuracy is not None and bin_.mean_probability is not None
    ]
    return float(sum(gaps) / len(class_indices))


def calibration_bins(
    class_indices: ClassIndices, probabilities: Probabilities, *, bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Sort the predictions into bins of equal width by their top probability.

    Args:
        class_indices: True classes, int [n], 0..K-1.
        probabilities: float [n, K].
        bins: How many bins divide 0..1, at least 1.

    Returns:
        The bins (lower, upper], lowest first: the table behind a reliability diagram.
    """
    _check_shapes(class_indices, probabilities)
    top = probabilities.max(axis=1).astype(np.float64).clip(0.0, 1.0)
    right = (probabilities.argmax(axis=1) == class_indices).astype(np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.searchsorted(edges[1:-1], top, side="left")
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, weights=top, minlength=bins)
    hits = np.bincount(index, weights=right, minlength=bins)
    return [
        CalibrationBin(
            lower=float(edges[i]),
            upper=float(edges[i + 1]),
            count=int(counts[i]),
            mean_probability=float(sums[i] / counts[i]) if counts[i] else None,
            accuracy=float(hits[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    ]


def wilson_interval(correct: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval for a proportion (Wilson 1927), sound for small n and near 0 and 1.

    Args:
        correct: Successes, 0..total.
        total: Trials, at least 1.
        confidence: Coverage aimed at, (0, 1).

    Returns:
        Lower and upper end, within 0..1.

    Raises:
        ValueError: A number is out of its range.
    """
    if total < 1 or not 0 <= correct <= total or not 0 < confidence < 1:
        msg = f"no interval for {correct} of {total} at {confidence}"
        raise ValueError(msg)
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = correct / total
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = (z2 * (share * (1 - share) / total + z2 / (4 * total**2))) ** 0.5 / (1 + z2 / total)
    # At 0 and n an end equals the share exactly; rounding must not push it past.
    low = 0.0 if correct == 0 else max(0.0, center - half)
    high = 1.0 if correct == total else min(1.0, center + half)
    return low, high


def effective_top_k(top_k: int, classes: int) -> int:
    """How many labels top-k counts when there are `classes`: all but one at most.

    With all of them the answer would be 1 whatever the model does.
    """
    return max(1, min(top_k, classes - 1))


def confusion_counts(
    class_indices: ClassIndices, predicted: ClassIndices, *, classes: int
) -> NDArray[np.int64]:
    """Count which class was taken for which.

    Args:
        class_indices: True classes, int [n], 0..classes-1.
        predicted: Predicted classes, int [n], 0..classes-1.
        classes: How many classes the model has, at least 2.

    Returns:
        int64 [classes, classes], true classes down, predicted classes across.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(class_indices, predicted, labels=np.arange(classes))
    return np.asarray(counts, dtype=np.int64)


def class_scores(
    class_indices: ClassIndices, predicted: ClassIndices, *, labels: Sequence[str]
) -> list[ClassScores]:
    """Precision, recall, F1 and support of every class, present or not.

    Args:
        class_indices: True classes, int [n].
        predicted: Predicted classes, int [n].
        labels: Names of the classes in order.

    Returns:
        One row per label, in the order of `labels`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, support = precision_recall_fscore_support(
        class_indices, predicted, labels=np.arange(len(labels)), zero_division=np.nan
    )
    counts = np.bincount(predicted, minlength=len(labels))
    return [
        ClassScores(
            label=label,
            support=int(support[i]),
            predicted=int(counts[i]),
            precision=_defined(precision[i]),
            recall=_defined(recall[i]),
            f1=_defined(f1[i]),
        )
        for i, label in enumerate(labels)
    ]


def confused_pairs(
    confusion: NDArray[np.int64], labels: Sequence[str], *, limit: int
) -> list[ConfusedPair]:
    """The most frequent mistakes.

    Args:
        confusion: int64 [K, K], true classes down.
        labels: Names of the classes in order.
        limit: How many pairs at most.

    Returns:
        Most samples first; of equally many the larger share of its class, then the order of labels.
    """
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    true, predicted = np.nonzero(mistakes)
    counts = mistakes[true, predicted]
    shares = counts / confusion.sum(axis=1)[true]
    order = np.lexsort((predicted, true, -shares, -counts))[:limit]
    return [
        ConfusedPair(
            label=labels[true[i]],
            predicted=labels[predicted[i]],
            count=int(counts[i]),
            share=float(shares[i]),
        )
        for i in order
    ]


# The table of metrics: a row here appears in metrics.json, on the screen and in the tests.
METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy",
        "accuracy",
        "part of the images whose most probable label is right",
        accuracy,
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "mean recall of the classes that occur in the split",
        balanced_accuracy,
    ),
    Metric(
        "top_k_accuracy",
        f"top-{TOP_K} accuracy",
        "part of the images whose label is among the k most probable ones",
        top_k_accuracy,
    ),
    Metric(
        "macro_f1",
        "macro F1",
        "mean F1 of the classes that occur in the split",
        macro_f1,
    ),
    Metric(
        "log_loss",
        "log loss",
        "mean negative logarithm of the probability of the right label",
        log_loss,
        better="lower",
        highest=math.inf,
    ),
    Metric(
        "ece",
        "calibration error",
        f"expected calibration error (ECE), {CALIBRATION_BINS} bins of equal width",
        expected_calibration_error,
        better="lower",
    ),
)


def _check_shapes(class_indices: ClassIndices, probabilities: Probabilities) -> None:
    n = len(class_indices)
    if n < 1 or probabilities.ndim != 2 or len(probabilities) != n or probabilities.shape[1] < 2:
        msg = f"expected [n] and [n, K >= 2], got {class_indices.shape} and {probabilities.shape}"
        raise ValueError(msg)


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
