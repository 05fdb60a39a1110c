"""Evaluates a classifier on a split and writes the report: metrics, tables and figures."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, open_pixels
from cnnclf.errors import DataError
from cnnclf.evaluation.confusions import (
    ClassScores,
    ConfusedPair,
    class_scores,
    confused_pairs,
    confusion_counts,
)
from cnnclf.evaluation.figures import SHEET_SIZE, SheetItem, draw_confusion, draw_sheet
from cnnclf.evaluation.groups import GroupScores, read_column, score_groups
from cnnclf.evaluation.metrics import (
    TOP_K,
    CalibrationBin,
    calibration_bins,
    effective_top_k,
    measure,
    wilson_interval,
)
from cnnclf.evaluation.predictions import Predictions, check_labels, find_seen, predict_rows
from cnnclf.evaluation.promises import KeptPromise, check_promise
from cnnclf.evaluation.report_tables import write_confusion, write_predictions
from cnnclf.evaluation.robustness import Robustness, draw_robustness, measure_robustness
from cnnclf.evaluation.selective import RiskCoverage, trace_risk
from cnnclf.evaluation.set_sizes import MeasuredSets, measure_sets
from cnnclf.files import write_error, write_json_atomic
from cnnclf.inference.calibration_data import load_calibration
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.promise import read_promise
from cnnclf.names import count_of, name_some
from cnnclf.packages import read_versions
from cnnclf.progress import Progress
from cnnclf.runs.run_names import (
    CONFUSION_FIGURE_FILE,
    CONFUSION_TABLE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    ROBUSTNESS_FIGURE_FILE,
    WORST_FIGURE_FILE,
)
from cnnclf.workspaces import remove_leftovers, workspace

SCHEMA_VERSION = 1
_UNFINISHED = "report"  # the end of the name of a directory that is being written
CONFUSED_PAIRS = 20  # listed in metrics.json
_PACKAGES = ("python", "numpy", "pillow", "scikit-learn", "keras", "tensorflow")


@dataclass(frozen=True)
class FailedFile:
    """An image that could not be decoded and is excluded from all metrics.

    Args:
        path: As in the manifest.
        reason: Why it cannot be decoded.
    """

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

    @property
    def headline(self) -> str:
        """The accuracy with its confidence interval, in one line."""
        low, high = self.interval
        return (
            f"{self.metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}, "
            f"{self.correct:,} of {self.n:,})"
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


def evaluate(
    classifier: Classifier,
    dataset: Dataset,
    *,
    split: str,
    out: Path,
    batch_size: int | None = None,
    top_k: int = TOP_K,
    cache: str = "disk",
    by: str | None = None,
    robustness: bool = False,
    training: Dataset | None = None,
    progress: Progress,
) -> Report:
    """Evaluate a classifier on a split and write the report.

    Writes metrics.json, predictions.csv, confusion.csv, confusion.png and worst.png atomically;
    other files in the directory are kept. Images that cannot be decoded are listed and excluded
    from all metrics.

    Args:
        classifier: A loaded model.
        dataset: Labeled images, with the labels of the classifier in any order.
        split: `train`, `val`, `test` or `all`.
        out: Output directory; created if necessary.
        batch_size: Images per batch, at least 1; None: chosen for their size.
        top_k: The k of top-k accuracy, at least 1.
        cache: Where decoded images are kept, as in `open_pixels`.
        by: A column of the manifest, whose values are measured one by one; None for none.
        robustness: Measure the accuracy on changed images, too, and draw robustness.png.
        training: The dataset of the training, if it is known: tells which images were in training.
        progress: Reports evaluated images, failed files, and what makes the metrics doubtful.

    Returns:
        The report that was written.

    Raises:
        DataError: The labels are not those of the classifier, the split has no images, or none
            of them can be decoded.
        RunError: The model returns values that are not finite, or `out` cannot be written.
        DeviceError: The disk is full.
    """
    rows = dataset.select_split(split)
    check_labels(classifier.labels, dataset)
    missing = [label for label in classifier.labels if label not in set(dataset.labels)]
    if missing:
        progress.note(
            f"the data has images of {len(dataset.labels)} of the {len(classifier.labels)} labels, "
            f"none of {name_some(missing)}"
        )
    trained_on = _compare_data(classifier, dataset, split, training=training, progress=progress)
    pixels = open_pixels(dataset, classifier.input_spec, cache=cache, progress=progress, rows=rows)
    predictions = predict_rows(
        classifier, dataset, rows=rows, pixels=pixels, batch_size=batch_size, progress=progress
    )
    progress.note("computing metrics")  # scikit-learn takes a second to load
    report = _build_report(
        classifier, dataset, predictions, split=split, out=out, top_k=top_k, trained_on=trained_on
    )
    is_correct = predictions.predicted == predictions.class_indices
    if by is not None:
        values = read_column(dataset, by)
        named = [values[row] for row in predictions.rows.tolist()]
        report = replace(report, by=by, groups=score_groups(named, is_correct))
    example = None
    if robustness:
        found, example = measure_robustness(
            classifier, dataset, predictions=predictions, pixels=pixels, progress=progress
        )
        report = replace(report, robustness=found)
    _report_failed(report.failed, total=len(rows), progress=progress)
    progress.note("drawing figures")
    _write_report(report, dataset, predictions, pixels, example)
    return report


def _compare_data(
    classifier: Classifier,
    dataset: Dataset,
    split: str,
    *,
    training: Dataset | None,
    progress: Progress,
) -> bool | None:
    """Return whether the model was trained on the dataset, and report what that means."""
    trained = (classifier.bundle.get("dataset") or {}).get("fingerprint")
    if trained is None:
        return None
    if trained != dataset.fingerprint and training is not None:
        _report_seen(dataset, split, training, progress=progress)
        return False
    if trained != dataset.fingerprint:
        progress.warn(
            f"the data changed since training (fingerprint {trained[:12]} then, "
            f"{dataset.fingerprint[:12]} now): the {split} split may contain training images"
        )
        return False
    if split in {"train", "all"}:
        progress.note(
            f"--split {split} includes training images: accuracy on new images will be lower"
        )
    elif split == "val":
        progress.note("the best epoch was chosen on the val split: these metrics are optimistic")
    return True


def _report_seen(dataset: Dataset, split: str, training: Dataset, *, progress: Progress) -> None:
    """Report how many of the images have the bytes of a training image."""
    rows = dataset.manifest.select(split)
    count = int(find_seen(dataset, rows, training=training).sum())
    if count:
        progress.warn(
            f"{count:,} of the {len(rows):,} images were in training: these metrics are too good "
            "for new images"
        )
    else:
        progress.note(f"none of the {len(rows):,} images was in training (by their bytes)")


def _build_report(
    classifier: Classifier,
    dataset: Dataset,
    predictions: Predictions,
    *,
    split: str,
    out: Path,
    top_k: int,
    trained_on: bool | None,
) -> Report:
    truth, probabilities = predictions.class_indices, predictions.probabilities
    failed = [
        FailedFile(dataset.manifest.paths[row], reason)
        for row, reason in predictions.failed.items()
    ]
    if not len(truth):
        raise DataError(
            f"none of the {len(failed)} images in the {split} split of {dataset.directory} can be "
            f"decoded; the first is {failed[0].path}: {failed[0].reason}",
            "import the source again",
        )
    labels, predicted = classifier.labels, predictions.predicted
    confusion = confusion_counts(truth, predicted, classes=len(labels))
    stored = load_calibration(classifier.bundle, classifier.directory)
    is_correct, promise = predicted == truth, read_promise(classifier.bundle)
    correct = int(np.trace(confusion))
    return Report(
        directory=out,
        split=split,
        labels=labels,
        n=len(truth),
        correct=correct,
        interval=wilson_interval(correct, len(truth)),
        metrics=measure(truth, probabilities, top_k=top_k),
        top_k=effective_top_k(top_k, len(labels)),
        per_class=class_scores(truth, predicted, labels=labels),
        absent_labels=tuple(
            label for label, n in zip(labels, confusion.sum(axis=1), strict=True) if not n
        ),
        confused=confused_pairs(confusion, labels, limit=CONFUSED_PAIRS),
        calibration=calibration_bins(truth, probabilities),
        failed=failed,
        confusion=confusion,
        dataset={
            "directory": dataset.directory.absolute(),
            "fingerprint": dataset.fingerprint,
            "trained_on": trained_on,
        },
        model={
            "directory": classifier.directory,
            "sha256": classifier.bundle["sha256"],
            "engine": classifier.engine.name,
            "precision": classifier.engine.precision,
        },
        versions=read_versions(_PACKAGES),
        sets=tuple(measure_sets(stored, probabilities, truth=truth)) if stored else (),
        risk_coverage=trace_risk(predictions.scores, is_correct),
        promise=None
        if promise is None
        else check_promise(promise, predictions.scores, is_correct=is_correct),
    )


def _report_failed(failed: list[FailedFile], *, total: int, progress: Progress) -> None:
    if failed:
        more = f" and {len(failed) - 1:,} more, listed in {METRICS_FILE}" if failed[1:] else ""
        progress.warn(
            f"{len(failed):,} of {total:,} images cannot be decoded and were excluded from all "
            "metrics: "
            f"{failed[0].path} ({failed[0].reason}){more}"
        )


def _write_report(
    report: Report,
    dataset: Dataset,
    predictions: Predictions,
    pixels: Pixels,
    example: NDArray[np.uint8] | None,
) -> None:
    """Write all files to a temporary directory first, so that old and new files never mix."""
    labels = report.labels
    title = f"{_name_split(report)}: accuracy {report.headline}"
    order, worst_title = _choose_worst(report, predictions)
    worst = _collect_sheet(order, report.labels, dataset, predictions, pixels)
    # metrics.json is moved last: it shows that the others are complete.
    files: dict[str, Callable[[Path], None]] = {
        PREDICTIONS_FILE: lambda path: write_predictions(
            path, predictions, labels=labels, paths=dataset.manifest.paths
        ),
        CONFUSION_TABLE_FILE: lambda path: write_confusion(path, report.confusion, labels=labels),
        CONFUSION_FIGURE_FILE: lambda path: draw_confusion(
            report.confusion, path, labels=labels, title=title
        ),
        WORST_FIGURE_FILE: lambda path: draw_sheet(worst, path, title=worst_title),
        **_draw_changes(report, example),
        METRICS_FILE: lambda path: write_json_atomic(path, report.to_dict()),
    }
    try:
        remove_leftovers(report.directory, kind=_UNFINISHED)
        with workspace(report.directory, "files", kind=_UNFINISHED) as staging:
            for name, write in files.items():
                write(staging / name)
            for name in files:
                os.replace(staging / name, report.directory / name)  # noqa: PTH105
    except OSError as error:
        raise write_error(report.directory, error) from error


def _draw_changes(
    report: Report, example: NDArray[np.uint8] | None
) -> dict[str, Callable[[Path], None]]:
    robustness = report.robustness
    if robustness is None or example is None:
        return {}
    return {ROBUSTNESS_FIGURE_FILE: lambda path: draw_robustness(robustness, example, path=path)}


def _collect_sheet(
    order: NDArray[np.intp],
    labels: tuple[str, ...],
    dataset: Dataset,
    predictions: Predictions,
    pixels: Pixels,
) -> list[SheetItem]:
    items = []
    images = pixels.gather(predictions.rows[order])
    for i, image in zip(order, images, strict=True):
        probabilities = predictions.probabilities[i]
        true, predicted = int(predictions.class_indices[i]), int(probabilities.argmax())
        items.append(
            SheetItem(
                pixels=image,
                path=dataset.manifest.paths[predictions.rows[i]],
                label=labels[true],
                label_probability=float(probabilities[true]),
                predicted=labels[predicted],
                probability=float(probabilities[predicted]),
            )
        )
    return items


def _choose_worst(report: Report, predictions: Predictions) -> tuple[NDArray[np.intp], str]:
    """Return the most confident mistakes, or the least confident images if there are none."""
    truth, probabilities = predictions.class_indices, predictions.probabilities
    top = probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions.predicted != truth)
    counted = f"{_name_split(report)}, {count_of(report.n, 'image')}"
    if not len(wrong):
        order = np.argsort(top, kind="stable")[:SHEET_SIZE]
        return order, f"{counted}: no mistakes; least confident predictions"
    own = probabilities[wrong, truth[wrong]]
    order = wrong[np.lexsort((own, -top[wrong]))][:SHEET_SIZE]
    which = f", {len(order)} most confident" if len(wrong) > len(order) else ""
    mistakes = count_of(len(wrong), "mistake")
    return order, f"{counted}: {mistakes}{which}"


def _name_split(report: Report) -> str:
    return "all splits" if report.split == "all" else f"{report.split} split"
