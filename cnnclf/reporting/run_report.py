"""From a run to its page: what `cnnclf report RUN` and `cnnclf.report` do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cnnclf.errors import CnnclfError, UsageError
from cnnclf.evaluation.confusions import find_largest
from cnnclf.evaluation.learning_diagnosis import describe_shares, diagnose
from cnnclf.evaluation.metrics import TOP_K, shown_metrics, wilson_interval
from cnnclf.evaluation.selective import trace_risk
from cnnclf.files import write_text_atomic
from cnnclf.names import count_of, join_sides, name_some
from cnnclf.pages.html_page import render_page
from cnnclf.pages.svg_charts import draw_class_bars
from cnnclf.progress import Progress
from cnnclf.reporting.glossary_links import GlossaryLinks
from cnnclf.reporting.prediction_table import (
    PredictionTable,
    read_predictions,
    trace_class,
)
from cnnclf.reporting.report_charts import (
    draw_class_curves,
    draw_history,
    draw_reliability,
    draw_risk,
    draw_trace,
    name_traced,
)
from cnnclf.reporting.report_images import (
    choose_cells,
    choose_samples,
    map_images,
    open_images,
    show_predictions,
)
from cnnclf.reporting.run_files import (
    Evaluation,
    RunFiles,
    list_choices,
    list_commands,
    read_run,
)
from cnnclf.runs.run_directory import RunStatus, section
from cnnclf.runs.run_names import PREDICTIONS_FILE

if TYPE_CHECKING:
    from markupsafe import Markup

    from cnnclf.data.manifest import Dataset
    from cnnclf.models.anatomy import Anatomy

SHOWN: Final = 12  # images among the worst, and among the least sure
MAX_MATRIX: Final = 25  # classes of the confusion matrix
MAX_ROWS: Final = 60  # of a table of classes
MAX_CURVES: Final = 12  # classes with ROC and precision-recall curves
_COVERAGES: Final = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class WrittenReport:
    """A page that was written.

    Args:
        path: The file.
        size_bytes: Its size.
        missing: What is not on it, and why.
        is_renewed: Whether it replaced an earlier page.
    """

    path: Path
    size_bytes: int
    missing: Sequence[str] = ()
    is_renewed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "missing": list(self.missing),
            "renewed": self.is_renewed,
        }


@dataclass
class _Missing:
    """Collects what cannot be shown."""

    notes: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Any) -> Any:
        """Return what `make` returns, or None and note why it cannot."""
        try:
            return make()
        except CnnclfError as error:
            self.notes.append(f"no {what}: {error.message}")
            return None


def report_run(
    path: Path,
    *,
    out: Path | None = None,
    evaluation: str | None = None,
    maps: bool = True,
    progress: Progress,
) -> WrittenReport:
    """Write the report of a run. What is missing, such as the dataset, is named on the page.

    Args:
        path: A run directory, finished or not.
        out: The file, which is replaced; None for report.html in the run.
        evaluation: Which one is shown in detail, such as val or test-NAME; None for that of test.
        maps: Compute evidence maps, for which the network is loaded.
        progress: Receives tasks and notes.

    Raises:
        RunError: There is no run, it is damaged, or the file cannot be written.
        UsageError: There is no such evaluation.
    """
    files = read_run(path)
    chosen = _choose_evaluation(files, evaluation)
    missing = _Missing()
    if files.status != "finished":
        why = files.record.get("why_ended")
        missing.notes.append(f"the run is {files.status}: {why or 'this is what there is so far'}")
        if files.status == RunStatus.INTERRUPTED:
            missing.notes[-1] += f"; continue it: {files.directory.resume_command()}"
    dataset = missing.attempt("images", lambda: open_images(files, None, progress=progress))
    page = render_page(
        Path(__file__).with_name("report.html"),
        title=f"Report of {files.name}",
        words=GlossaryLinks(),
        files=files,
        run=_describe_run(files),
        choices=list_choices(files.plan),
        data=_describe_data(files, dataset),
        history=draw_history(files.history, best_epoch=files.record.get("best_epoch")),
        trace=draw_trace(files.trace),
        traced=name_traced(files.trace),
        diagnosis=_list_findings(files),
        test=_describe_test(files, chosen, dataset, maps=maps, missing=missing, progress=progress),
        network=missing.attempt("network", lambda: _describe_network(files)),
        commands=list_commands(files),
        missing=missing.notes,
    )
    target = out or files.directory.report
    is_renewed = target.exists()
    write_text_atomic(target, page)
    return WrittenReport(target, target.stat().st_size, missing.notes, is_renewed)


def _list_findings(files: RunFiles) -> list[str]:
    """Return what is off, and what would help, in one sentence each."""
    advice = str(section(files.record, "mirrored_val").get("words") or "")
    findings = diagnose(files.history, files.trace, optimizer=_name_optimizer(files))
    return [*findings, advice] if advice else findings


def _choose_evaluation(files: RunFiles, name: str | None) -> Evaluation | None:
    if name is None:
        return files.evaluations[0] if files.evaluations else None
    found = next((each for each in files.evaluations if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in files.evaluations) or "none"
        raise UsageError(
            f"--evaluation {name}: the run {files.directory.path} has no such evaluation",
            f"it has {names}",
        )
    return found


def _describe_run(files: RunFiles) -> dict[str, str]:
    record = files.record
    found = {
        "status": files.status,
        "why it ended": record.get("why_ended"),
        "command": record.get("command"),
        "created": record.get("created"),
        "ended": record.get("ended"),
        "device": record.get("device"),
        "seed": record.get("seed"),
        "versions": ", ".join(f"{k} {v}" for k, v in section(record, "versions").items()),
        "training time": _round(record.get("fit_s"), " s"),
        "time spent": _describe_time(record),
        "images per second": _round(record.get("images_per_s")),
        "epochs": record.get("epochs"),
        "best epoch": record.get("best_epoch"),
    }
    return {name: str(value) for name, value in found.items() if value not in {None, ""}}


def _name_optimizer(files: RunFiles) -> str:
    return str(section(section(files.plan, "config"), "optimizer").get("name", ""))


def _describe_time(record: Mapping[str, Any]) -> str:
    """Say what the time up to the last epoch was spent on; empty for runs of earlier versions."""
    fit_s, start_s, wait = (record.get(key) for key in ("fit_s", "start_s", "data_wait_share"))
    if not fit_s or start_s is None or wait is None:
        return ""
    device = str(record.get("device"))
    return describe_shares(start_s + fit_s, starting=start_s, waiting=wait * fit_s, device=device)


def _round(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:,.1f}{unit}"


def _describe_data(files: RunFiles, dataset: "Dataset | None") -> dict[str, Any]:
    plan = files.plan
    origin, counts = section(plan, "dataset"), section(plan, "counts")
    data: dict[str, Any] = {
        "facts": {
            "dataset": origin.get("name"),
            "path": origin.get("path"),
            "fingerprint": origin.get("fingerprint"),
            "classes": len(plan.get("labels", ())),
            "images": ", ".join(f"{split} {count:,}" for split, count in counts.items()),
        },
        "samples": {},
        "bars": None,
        "remarks": list(plan.get("remarks", ())),
    }
    if dataset is None:
        return data
    manifest = dataset.manifest
    sizes = [
        f"{min(sides)}" if min(sides) == max(sides) else f"{min(sides)} to {max(sides)}"
        for sides in (manifest.heights.tolist(), manifest.widths.tolist())
    ]
    data["facts"]["size"] = f"height {sizes[0]}, width {sizes[1]} pixels"
    data["facts"]["modes"] = name_some(sorted(set(manifest.modes)))
    if dataset.fingerprint != origin.get("fingerprint"):
        data["remarks"].append("the dataset changed since the training: images may be others")
    by_split = dataset.counts()
    data["bars"] = draw_class_bars(
        {label: {split: by_split[split][label] for split in by_split} for label in dataset.labels}
    )
    data["samples"] = choose_samples(dataset)
    return data


def _describe_network(files: RunFiles) -> dict[str, Any]:
    from cnnclf.explainers.network_sources import describe_run
    from cnnclf.runtime import setup_runtime

    prepare = partial(setup_runtime, device="cpu", precision="float32")
    network = describe_run(files.directory.path, prepare=prepare)
    anatomy = network.anatomy.fold(1 if network.is_staged else 2)
    return {
        "parameters": network.anatomy.parameters,
        "macs": network.anatomy.macs,
        "input": join_sides(network.input_shape),
        "layers": anatomy.layers,
        "diagram": _draw_network(anatomy, network.input_shape),
    }


def _draw_network(anatomy: "Anatomy", shape: tuple[int, int, int]) -> "Markup":
    """Draw the blocks."""
    from markupsafe import Markup

    from cnnclf.drawing.block_diagram import to_svg
    from cnnclf.models.network_diagram import CAPTION, draw_blocks

    blocks = draw_blocks(anatomy, shape)
    return Markup(to_svg(blocks, title="network", caption=CAPTION))  # noqa: S704 - escapes its text


def _describe_test(
    files: RunFiles,
    evaluation: Evaluation | None,
    dataset: "Dataset | None",
    *,
    maps: bool,
    missing: _Missing,
    progress: Progress,
) -> dict[str, Any] | None:
    """Return everything about one evaluation; None if there is none."""
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
