"""Writes the files of a report: metrics.json, tables and figures, all of them or none."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.evaluation.figures import SHEET_SIZE, SheetItem, draw_confusion, draw_sheet
from cnnclf.evaluation.predictions import Predictions
from cnnclf.evaluation.report_content import Report
from cnnclf.evaluation.report_tables import write_confusion, write_predictions
from cnnclf.evaluation.robustness import draw_robustness
from cnnclf.files import write_json_atomic
from cnnclf.full_disks import write_error
from cnnclf.names import count_of
from cnnclf.runs.run_names import (
    CONFUSION_FIGURE_FILE,
    CONFUSION_TABLE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    ROBUSTNESS_FIGURE_FILE,
    WORST_FIGURE_FILE,
)
from cnnclf.workspaces import remove_leftovers, workspace

_UNFINISHED = "report"  # the end of the name of a directory that is being written


def write_report(
    report: Report,
    dataset: Dataset,
    *,
    predictions: Predictions,
    pixels: Pixels,
    example: NDArray[np.uint8] | None,
) -> None:
    """Write all files to a temporary directory first, so that old and new files never mix.

    Args:
        report: What was measured.
        dataset: The images it was measured on.
        predictions: Of these images.
        pixels: Their pixels.
        example: uint8 [H, W, 3], an image with all changes; None without `report.robustness`.

    Raises:
        RunError: The directory cannot be written.
        DeviceError: The disk is full.
    """
    labels = report.labels
    title = f"{_name_split(report)}: accuracy {report.headline}"
    order, worst_title = _choose_worst(report, predictions)
    worst = _collect_sheet(order, report.labels, dataset, predictions, pixels)
    robustness = report.robustness
    files: dict[str, Callable[[Path], None]] = {
        PREDICTIONS_FILE: lambda path: write_predictions(
            path, predictions, labels=labels, paths=dataset.manifest.paths
        ),
        CONFUSION_TABLE_FILE: lambda path: write_confusion(path, report.confusion, labels=labels),
        CONFUSION_FIGURE_FILE: lambda path: draw_confusion(
            report.confusion, path, labels=labels, title=title
        ),
        WORST_FIGURE_FILE: lambda path: draw_sheet(worst, path, title=worst_title),
    }
    if robustness is not None and example is not None:
        files[ROBUSTNESS_FIGURE_FILE] = lambda path: draw_robustness(robustness, example, path=path)
    # moved last: it shows that the others are complete
    files[METRICS_FILE] = lambda path: write_json_atomic(path, report.to_dict())
    try:
        remove_leftovers(report.directory, kind=_UNFINISHED)
        with workspace(report.directory, "files", kind=_UNFINISHED) as staging:
            for name, write in files.items():
                write(staging / name)
            if robustness is None:  # that of an earlier report, of other figures
                (report.directory / ROBUSTNESS_FIGURE_FILE).unlink(missing_ok=True)
            for name in files:
                os.replace(staging / name, report.directory / name)  # noqa: PTH105
    except OSError as error:
        raise write_error(report.directory, error) from error


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
