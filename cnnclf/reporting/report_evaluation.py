"""What a report says about one evaluation: figures, mistakes, and the images to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cnnclf.errors import CnnclfError
from cnnclf.evaluation.confusions import find_largest
from cnnclf.evaluation.metrics import TOP_K, shown_metrics, wilson_interval
from cnnclf.evaluation.selective import trace_risk
from cnnclf.names import count_of
from cnnclf.progress import Progress
from cnnclf.reporting.prediction_table import PredictionTable, read_predictions, trace_class
from cnnclf.reporting.report_charts import draw_class_curves, draw_reliability, draw_risk
from cnnclf.reporting.report_images import choose_cells, map_images, open_images, show_predictions
from cnnclf.reporting.run_files import Evaluation, RunFiles
from cnnclf.runs.run_directory import section
from cnnclf.runs.run_names import PREDICTIONS_FILE

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset

SHOWN: Final = 12  # images among the worst, and among the least sure
MAX_MATRIX: Final = 25  # classes of the confusion matrix
MAX_ROWS: Final = 60  # of a table of classes
MAX_CURVES: Final = 12  # classes with ROC and precision-recall curves
_COVERAGES: Final = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass
class Missing:
    """Collects what cannot be shown, and why."""

    notes: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Any) -> Any:
        """Return what `make` returns, or None and note why it cannot."""
        try:
            return make()
        except CnnclfError as error:
            self.notes.append(f"no {what}: {error.message}")
            return None


def describe_evaluation(
    files: RunFiles,
    evaluation: Evaluation | None,
    *,
    dataset: "Dataset | None",
    maps: bool,
    missing: Missing,
    progress: Progress,
) -> dict[str, Any] | None:
    """Return everything about one evaluation; None if there is none.

    Args:
        files: The run.
        evaluation: Its evaluation; None for none.
        dataset: The images of the run; None if they are not there.
        maps: Compute evidence maps, for which the network is loaded.
        missing: Receives what cannot be shown.
        progress: Receives tasks.
    """
    if evaluation is None:
        missing.notes.append(
            f"no test figures: nothing was evaluated; {files.directory.evaluate_hint()}"
        )
        return None
    metrics = evaluation.metrics
    labels = [str(label) for label in metrics.get("labels", ())]
    if section(metrics, "dataset").get("trained_on") is False:
        dataset = missing.attempt(
            f"images of {evaluation.name}",
            lambda: open_images(files, evaluation, progress=progress),
        )
    table = missing.attempt(
        "predictions", lambda: read_predictions(evaluation.directory / PREDICTIONS_FILE, labels)
    )
    parts = ("matrix", "risk", "curves", "classes", "worst")  # None without predictions
    test: dict[str, Any] = dict.fromkeys(parts) | {
        "name": evaluation.name,
        "labels": labels,
        "headline": _headline(metrics),
        "doubt": _doubt(metrics),
        "figures": [
            (metric.title, section(metrics, "metrics").get(metric.name), metric.summary)
            for metric in shown_metrics(metrics.get("top_k", TOP_K))
            if section(metrics, "metrics").get(metric.name) is not None
        ],
        "reliability": draw_reliability(metrics.get("calibration", ())),
        "calibration": [row for row in metrics.get("calibration", ()) if row["count"]],
        "failed": section(metrics, "failed").get("count", 0),
        "table": table,
    }
    if table is not None and len(table):
        test |= _describe_predictions(table, dataset, labels=labels)
        worst = table.find_worst(SHOWN).tolist()
        # on few images the mistakes are among the least sure: each image is shown once
        others = [row for row in table.find_least_sure(2 * SHOWN).tolist() if row not in worst]
        unsure = others[:SHOWN]
        drawn: dict[int, list[tuple[str, str]]] = {}
        if dataset is not None and maps:
            drawn, problem = map_images(
                files.directory, table, dataset=dataset, rows=[*worst, *unsure], progress=progress
            )
            if problem:
                missing.notes.append(f"no evidence maps: {problem}")
        for name, rows in (("worst", worst), ("unsure", unsure)):
            test[name] = show_predictions(table, dataset, rows=rows, labels=labels, maps=drawn)
    return test


def _headline(metrics: Mapping[str, Any]) -> str:
    interval = section(metrics, "accuracy_interval")
    accuracy = section(metrics, "metrics").get("accuracy")
    if accuracy is None or not interval:
        return "accuracy unknown"
    return (
        f"accuracy {accuracy:.4f} (95 % interval {interval['low']:.4f} to {interval['high']:.4f}, "
        f"{metrics['correct']:,} of {count_of(metrics['n'], 'image')})"
    )


def _doubt(metrics: Mapping[str, Any]) -> str | None:
    """Say that always answering the largest class may do as well, if it may."""
    support = {str(row["label"]): row["support"] for row in metrics.get("per_class", ())}
    low = section(metrics, "accuracy_interval").get("low")
    if low is None or not sum(support.values()):
        return None
    largest = find_largest(support, low=low)
    return None if largest.is_beaten else largest.describe(metrics["n"])


def _describe_predictions(
    table: PredictionTable, dataset: "Dataset | None", *, labels: Sequence[str]
) -> dict[str, Any]:
    classes = _choose_classes(table, len(labels))
    cells = choose_cells(table, dataset, classes=classes, labels=labels)
    risk = trace_risk(table.probability, table.is_right)
    present = np.unique(table.truth).tolist()
    curves = {index: found for index in present if (found := trace_class(table, index))}
    worst = sorted(curves, key=lambda index: curves[index].average_precision)[:MAX_CURVES]
    rows = [_describe_class(table, index, labels[index], curves.get(index)) for index in present]
    return {
        "matrix": {
            "classes": classes,
            "counts": {(cell.true, cell.predicted): cell for cell in cells},
            "totals": np.bincount(table.truth, minlength=len(labels)).tolist(),
            "cells": [cell for cell in cells if cell.images],
            "hidden": len(labels) - len(classes),
        },
        "risk": draw_risk(list(zip(risk.coverage, risk.risk, strict=True))),
        "coverages": [_accept(table, coverage) for coverage in _COVERAGES],
        "classes": sorted(rows, key=lambda row: row["recall"])[:MAX_ROWS],
        "hidden_classes": max(0, len(rows) - MAX_ROWS),
        "curves": [(labels[i], curves[i], draw_class_curves(labels[i], curves[i])) for i in worst],
        "hidden_curves": len(curves) - len(worst),
    }


def _choose_classes(table: PredictionTable, count: int) -> list[int]:
    """Return all classes, or those with the most mistakes if there are many."""
    if count <= MAX_MATRIX:
        return list(range(count))
    wrong = ~table.is_right
    mistakes = np.bincount(table.truth[wrong], minlength=count)
    mistakes += np.bincount(table.predicted[wrong], minlength=count)
    return sorted(np.argsort(-mistakes, kind="stable")[:MAX_MATRIX].tolist())


def _accept(table: PredictionTable, coverage: float) -> dict[str, Any]:
    """Return what accepting the most probable images gives: their number and errors."""
    kept = max(1, round(coverage * len(table)))
    order = np.argsort(-table.probability, kind="stable")[:kept]
    errors = int((~table.is_right[order]).sum())
    return {
        "coverage": coverage,
        "threshold": float(table.probability[order[-1]]),
        "images": kept,
        "errors": errors,
        "interval": wilson_interval(errors, kept),
    }


def _describe_class(table: PredictionTable, index: int, label: str, curves: Any) -> dict[str, Any]:
    own, taken = table.truth == index, table.predicted == index
    hits, count, predicted = int((own & taken).sum()), int(own.sum()), int(taken.sum())
    return {
        "label": label,
        "images": count,
        "recall": hits / count,
        "interval": wilson_interval(hits, count),
        "precision": hits / predicted if predicted else None,
        "f1": 2 * hits / (count + predicted),
        "area": curves.area if curves else None,
        "average_precision": curves.average_precision if curves else None,
    }
