"""The content of a report: how well a classifier does on a split, as metrics.json holds it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.evaluation.confusions import ClassScores, ConfusedPair, LargestClass, find_largest
from cnnclf.evaluation.groups import GroupScores
from cnnclf.evaluation.metrics import CalibrationBin
from cnnclf.evaluation.promises import KeptPromise
from cnnclf.evaluation.robustness import Robustness
from cnnclf.evaluation.selective import RiskCoverage
from cnnclf.evaluation.set_sizes import MeasuredSets

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class FailedFile:
    """An image that could not be decoded and is excluded from all metrics."""

    path: str
    reason: str


@dataclass(frozen=True)
class Report:
    """How well a classifier does on a split; `to_dict` is what metrics.json holds.

    Args:
        directory: Where the files of the report are.
        split: `train`, `val`, `test` or `all`.
        labels: Of the classifier, in order.
        n: Images that were evaluated.
        correct: How many of them were classified correctly.
        interval: Wilson 95 % interval of the accuracy.
        metrics: Name to value, as in `metrics.METRICS`.
        top_k: The k of `top_k_accuracy`.
        per_class: One row per label, in order.
        absent_labels: Labels without an image in the split, which averages exclude.
        confused: The most confused pairs of classes.
        calibration: Calibration of the top probability.
        failed: Images that are excluded from all metrics.
        confusion: Confusion matrix, int64 [K, K], true classes down; kept in confusion.csv.
        dataset: Directory and fingerprint, and whether the model was trained on it (None: unknown).
        model: Directory and sha256 of the bundle.
        versions: Versions of cnnclf, Python and the libraries.
        risk_coverage: What is wrong if only the most confident images are answered.
        promise: What became of the promise of the bundle; None if it has none.
        sets: Sets of labels by each method; () in a bundle that was not calibrated.
        by: The column of `groups`; None for none.
        groups: The accuracy of each value of the column, the worst first.
        robustness: The accuracy on changed images; None if not asked for.
        failed_at_import: Files of the source that were lost when it was imported for this report.
    """

    directory: Path
    split: str
    labels: tuple[str, ...]
    n: int
    correct: int
    interval: tuple[float, float]
    metrics: dict[str, float]
    top_k: int
    per_class: list[ClassScores]
    absent_labels: tuple[str, ...]
    confused: list[ConfusedPair]
    calibration: list[CalibrationBin]
    failed: list[FailedFile]
    confusion: NDArray[np.int64] = field(repr=False, compare=False)
    dataset: dict[str, Any]
    model: dict[str, Any]
    versions: dict[str, str]
    risk_coverage: RiskCoverage
    promise: KeptPromise | None = None
    sets: tuple[MeasuredSets, ...] = ()
    by: str | None = None
    groups: tuple[GroupScores, ...] = ()
    robustness: Robustness | None = None
    failed_at_import: int = 0

    def __repr__(self) -> str:
        """Say what a notebook shows; `to_dict` has all figures."""
        return f"Report({self.split} accuracy {self.headline}, {str(self.directory)!r})"

    @property
    def headline(self) -> str:
        """The accuracy with its confidence interval, in one line."""
        low, high = self.interval
        return (
            f"{self.metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}, "
            f"{self.correct:,} of {self.n:,})"
        )

    @property
    def largest_class(self) -> LargestClass:
        """What always answering the largest class of the split would give."""
        return find_largest(
            {row.label: row.support for row in self.per_class}, low=self.interval[0]
        )

    @property
    def summary(self) -> dict[str, Any]:
        """The metrics that runs are compared by, in one flat mapping."""
        low, high = self.interval
        return {
            "n": self.n,
            "failed": len(self.failed),
            "correct": self.correct,
            "accuracy_low": low,
            "accuracy_high": high,
            "top_k": self.top_k,
            **self.metrics,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        low, high = self.interval
        return {
            "schema_version": SCHEMA_VERSION,
            "split": self.split,
            "n": self.n,
            "correct": self.correct,
            "metrics": self.metrics,
            "top_k": self.top_k,
            "accuracy_interval": {
                "method": "wilson",
                "confidence": 0.95,
                "low": low,
                "high": high,
            },
            "largest_class": asdict(self.largest_class),
            "labels": list(self.labels),
            "absent_labels": list(self.absent_labels),
            "per_class": [asdict(row) for row in self.per_class],
            "confused": [asdict(pair) for pair in self.confused],
            "calibration": [asdict(row) for row in self.calibration],
            "risk_coverage": asdict(self.risk_coverage),
            "promise": self.promise and asdict(self.promise),
            "sets": [asdict(each) for each in self.sets],
            "by": self.by,
            "groups": [asdict(each) for each in self.groups],
            "robustness": self.robustness and asdict(self.robustness),
            "failed": {"count": len(self.failed), "files": [asdict(file) for file in self.failed]},
            "dataset": self.dataset,
            "model": self.model,
            "versions": self.versions,
        }
