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
    # scikit-learn's needs several copies of the matrix, 4 GB with 10,000 classes
    pairs = class_indices.astype(np.int64) * classes + predicted
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.astype(np.int64, copy=False).reshape(classes, classes)


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
            precision=defined(precision[i]),
            recall=defined(recall[i]),
            f1=defined(f1[i]),
        )
        for i, label in enumerate(labels)
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


def defined(value: float) -> float | None:
    """Return None for NaN, where there was nothing to divide by."""
    return None if np.isnan(value) else float(value)
