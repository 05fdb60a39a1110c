"""What classes are confused with which, and how well each is recognized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ClassIndices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ClassScores:
    """The metrics of one class; None where they are undefined.

    Args:
        label: Name of the class.
        support: Samples of the class.
        predicted: Samples that were predicted as the class.
        precision: Fraction of `predicted` that is correct; None if nothing was predicted.
        recall: Fraction of `support` that was found; None if the split has no such sample.
        f1: Harmonic mean of both; None without a sample and a prediction.
    """

    label: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class ClassCounts:
    """How many samples each class has, in the order of the classes.

    Args:
        support: Of the class, float [classes].
        predicted: Predicted as the class, float [classes].
        correct: Both, float [classes].
    """

    support: NDArray[Any]
    predicted: NDArray[Any]
    correct: NDArray[Any]

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that have samples."""
        present = self.support > 0
        either = (self.support + self.predicted)[present]
        return float((2 * self.correct[present] / either).mean())

    @property
    def macro_recall(self) -> float:
        """Mean recall over the classes that have samples."""
        present = self.support > 0
        return float((self.correct[present] / self.support[present]).mean())


@dataclass(frozen=True)
class LargestClass:
    """What always answering the largest class would give: a model must be better than that.

    Args:
        label: Name of the class; of classes of equal size, the first.
        count: Samples of the class.
        accuracy: Their fraction of all samples.
        is_beaten: Whether the accuracy of the model is higher by the low end of its interval.
    """

    label: str
    count: int
    accuracy: float
    is_beaten: bool

    def describe(self, total: int) -> str:
        """Say in one line that the model was not shown to be better, on `total` samples."""
        return (
            f"always '{self.label}' would be right in {self.count:,} of {total:,} "
            f"({self.accuracy:.4f}): nothing better was shown"
        )


@dataclass(frozen=True)
class ConfusedPair:
    """Two confused classes: `count` samples of `label` were predicted as `predicted`.

    Args:
        label: True label.
        predicted: Label that was predicted instead.
        count: How many samples, at least 1.
        share: Fraction of all samples of `label`, (0, 1].
    """

    label: str
    predicted: str
    count: int
    share: float


def confusion_counts(
    class_indices: ClassIndices, predicted: ClassIndices, *, classes: int
) -> NDArray[np.int64]:
    """Return the confusion matrix.

    Args:
        class_indices: True classes, int [n], 0..classes-1.
        predicted: Predicted classes, int [n], 0..classes-1.
        classes: Number of classes of the model, at least 2.

    Returns:
        int64 [classes, classes], true classes down, predicted classes across.
    """
    pairs = class_indices.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.astype(np.int64, copy=False).reshape(classes, classes)


def count_classes(
    class_indices: ClassIndices,
    predicted: ClassIndices,
    *,
    classes: int,
    weights: NDArray[Any] | None = None,
) -> ClassCounts:
    """Count samples by class.

    Args:
        class_indices: True classes, int [n], 0..classes-1.
        predicted: Predicted classes, int [n], 0..classes-1.
        classes: Number of classes of the model.
        weights: How often each sample counts, at least 0, [n]; None: once.
    """
    times = np.ones(len(class_indices)) if weights is None else weights.astype(np.float64)
    correct = np.where(predicted == class_indices, times, 0.0)
    return ClassCounts(
        support=np.bincount(class_indices, times, minlength=classes),
        predicted=np.bincount(predicted, times, minlength=classes),
        correct=np.bincount(class_indices, correct, minlength=classes),
    )


def class_scores(
    class_indices: ClassIndices, predicted: ClassIndices, *, labels: Sequence[str]
) -> list[ClassScores]:
    """Return precision, recall, F1 and support of every class, present or not.

    Args:
        class_indices: True classes, int [n].
        predicted: Predicted classes, int [n].
        labels: Names of the classes in order.

    Returns:
        One row per label, in the order of `labels`.
    """
    counts = count_classes(class_indices, predicted, classes=len(labels))
    columns = (counts.support.tolist(), counts.predicted.tolist(), counts.correct.tolist())
    return [
        ClassScores(
            label=label,
            support=int(support),
            predicted=int(named),
            precision=correct / named if named else None,
            recall=correct / support if support else None,
            f1=2 * correct / (support + named) if support + named else None,
        )
        for label, support, named, correct in zip(labels, *columns, strict=True)
    ]


def find_largest(support: Mapping[str, int], *, low: float) -> LargestClass:
    """Compare an accuracy with that of always answering the largest class.

    Args:
        support: Label to its samples, at least 1 in total.
        low: Low end of the 95 % interval of the accuracy.
    """
    label = max(support, key=lambda each: support[each])
    accuracy = support[label] / sum(support.values())
    return LargestClass(label, support[label], accuracy, is_beaten=low > accuracy)


def confused_pairs(
    confusion: NDArray[np.int64], labels: Sequence[str], *, limit: int
) -> list[ConfusedPair]:
    """Return the most confused pairs of classes.

    Args:
        confusion: int64 [K, K], true classes down.
        labels: Names of the classes in order.
        limit: Maximum number of pairs.

    Returns:
        Most samples first; then the larger fraction of the class, then the order of labels.
    """
    true, predicted = np.nonzero(confusion)
    is_mistake = true != predicted
    true, predicted = true[is_mistake], predicted[is_mistake]
    counts = confusion[true, predicted]
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
