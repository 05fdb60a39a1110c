"""Evaluates a classifier on a split and makes the report: metrics, and what limits them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError
from cnnclf.evaluation.confusions import class_scores, confused_pairs, confusion_counts
from cnnclf.evaluation.groups import read_column, score_groups
from cnnclf.evaluation.metrics import (
    TOP_K,
    calibration_bins,
    effective_top_k,
    measure,
    wilson_interval,
)
from cnnclf.evaluation.predictions import Predictions, check_labels, find_seen, predict_rows
from cnnclf.evaluation.promises import check_promise
from cnnclf.evaluation.report_content import FailedFile, Report
from cnnclf.evaluation.report_files import write_report
from cnnclf.evaluation.robustness import measure_robustness
from cnnclf.evaluation.selective import trace_risk
from cnnclf.evaluation.set_sizes import measure_sets
from cnnclf.inference.calibration_data import load_calibration
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.promise import read_promise
from cnnclf.names import name_some
from cnnclf.packages import read_versions
from cnnclf.progress import Progress
from cnnclf.runs.run_names import METRICS_FILE

CONFUSED_PAIRS = 20  # listed in metrics.json
_PACKAGES = ("python", "numpy", "pillow", "keras", "tensorflow")


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
    progress.note("computing metrics")
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
    write_report(report, dataset, predictions=predictions, pixels=pixels, example=example)
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
        progress.warn(
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
            f"none of the {len(failed)} images in the {split} split of {dataset.place} can be "
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
