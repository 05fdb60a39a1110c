"""`cnnclf evaluate`: evaluate a trained model on images whose labels are known."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import EvaluateConfig
from cnnclf.errors import ExitCode
from cnnclf.names import count_of
from cnnclf.runs.run_names import CONFUSION_FIGURE_FILE, ROBUSTNESS_FIGURE_FILE, WORST_FIGURE_FILE

if TYPE_CHECKING:
    from cnnclf.evaluation.promises import KeptPromise
    from cnnclf.evaluation.report_content import Report
    from cnnclf.evaluation.robustness import Robustness

_CLASS_ROWS = 30  # classes shown on the screen; metrics.json has all
_PAIR_ROWS = 10


@partial(add_settings, kind=EvaluateConfig, rows={"engine": options.ENGINE_CHOICES})
def evaluate_command(
    run: options.Model,
    dataset: Annotated[
        str | None,
        argument("DATASET", "Dataset, or any source that 'cnnclf import' can read. [that of RUN]"),
    ] = None,
    *,
    out_: Annotated[
        Path | None,
        option(
            "--out -o DIR",
            "Directory of the report. [RUN/evaluation/SPLIT, or SPLIT-DATASET for other data, with "
            "a number if another DATASET has that name]",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Evaluate a trained model: accuracy with confidence interval, metrics per class, mistakes.

    Writes metrics.json, predictions.csv, confusion.csv, confusion.png and worst.png. Images that
    cannot be read are listed and excluded from all metrics, and the exit code is 7.
    """
    config = read_settings(EvaluateConfig, settings)
    options.check_new(out_, overwrite=overwrite)
    out.note(f"evaluating {run}")  # before anything that takes long
    from cnnclf.evaluation.measuring import measure_model

    report = measure_model(
        run,
        dataset,
        config=config,
        out=out_,
        progress=out.progress(),
        verbose=verbose,
    )
    _show(report)
    if dataset is not None and report.dataset["trained_on"] is False and report.split != "all":
        out.hint(f"--split all evaluates all images of {report.dataset['directory']}")
    out.json(report.to_dict())
    is_whole = not (report.failed or report.failed_at_import)
    return ExitCode.OK if is_whole else ExitCode.SOME_FAILED


def _show(report: "Report") -> None:
    from cnnclf.evaluation.metrics import shown_metrics

    title = "accuracy" if report.split == "all" else f"{report.split} accuracy"
    rows: dict[str, object] = {title: report.headline}
    if not report.largest_class.is_beaten:
        rows["largest class"] = report.largest_class.describe(report.n)
    for metric in shown_metrics(report.top_k):
        if metric.name != "accuracy":
            rows[metric.title] = report.metrics[metric.name]
    if report.promise is not None:
        rows["answered"] = _describe_promise(report.promise)
    if report.failed_at_import:
        rows["skipped"] = f"{count_of(report.failed_at_import, 'file')} at the import"
    if report.absent_labels:
        rows["classes without images"] = report.absent_labels
    if report.failed:
        total = report.n + len(report.failed)
        rows["excluded"] = (
            f"{len(report.failed):,} of {count_of(total, 'image')}, which cannot be decoded"
        )
    out.pairs("", rows)
    _show_classes(report)
    _show_details(report)
    out.line()
    files = {
        "report": report.directory,
        "confusion": report.directory / CONFUSION_FIGURE_FILE,
        "mistakes": report.directory / WORST_FIGURE_FILE,
    }
    if report.robustness is not None:
        files["changes"] = report.directory / ROBUSTNESS_FIGURE_FILE
    out.pairs("", files)


def _show_details(report: "Report") -> None:
    if report.sets:
        _show_sets(report)
    if report.by is not None:
        _show_groups(report)
    if report.robustness is not None:
        _show_robustness(report.robustness)
    if report.confused:
        out.table(
            "most confused classes",
            ("true", "predicted", "images", "fraction"),
            rows=[(p.label, p.predicted, p.count, p.share) for p in report.confused[:_PAIR_ROWS]],
        )


def _describe_promise(kept: "KeptPromise") -> str:
    """Describe what became of the promise of the bundle on these images."""
    text = f"{kept.answered:,} of {count_of(kept.images, 'image')}"
    if kept.answered:
        text += f", {100 * kept.correct / kept.answered:.1f} % of them correctly"
    if kept.value is None:
        return f"{text}; the promise was a {kept.promise}"
    name = kept.promise.kind.replace("_", " ")
    return (
        f"{text}; promised: {kept.promise}, found: {name} {kept.value:.4f} "
        f"({kept.low:.4f} to {kept.high:.4f})"
    )


def _show_groups(report: "Report") -> None:
    from cnnclf.evaluation.groups import MIN_IMAGES

    shown = report.groups[:_CLASS_ROWS]
    count = f"the worst {len(shown)} of {len(report.groups):,} values"
    out.table(
        f"accuracy by {report.by}" + (f": {count}" if len(report.groups) > len(shown) else ""),
        (str(report.by), "images", "accuracy", "95 % interval", ""),
        rows=[
            (
                group.value or "(none)",
                group.images,
                group.accuracy,
                f"{group.low:.4f} to {group.high:.4f}",
                "too few images" if group.is_small else "below the rest" if group.is_below else "",
            )
            for group in shown
        ],
    )
    small = sum(group.is_small for group in report.groups)
    if small:
        out.warn(
            f"{count_of(small, 'group')} of {report.by} with fewer than {MIN_IMAGES} images: their "
            "order may be chance"
        )


def _show_robustness(robustness: "Robustness") -> None:
    out.table(
        f"accuracy on {count_of(robustness.images, 'changed image')} "
        f"({robustness.accuracy:.3f} unchanged, {robustness.mean:.3f} on average)",
        ("change", "1", "2", "3", "4", "5", "5 points lower at"),
        rows=[
            (
                row.name,
                *(f"{value:.3f}" for value in row.accuracy),
                "-" if row.falls_at is None else row.strengths[row.falls_at - 1],
            )
            for row in robustness.changes
        ],
    )


def _show_sets(report: "Report") -> None:
    first = report.sets[0]
    each = " for each class" if first.is_per_class else ""
    out.table(
        f"sets of labels that are to hold the true one at a rate of {first.level:g}{each}",
        ("method", "rate (95 % interval)", "labels (95 % interval)", "largest"),
        rows=[
            (
                row.method,
                f"{row.covered / row.images:.4f} ({row.low:.4f} to {row.high:.4f})",
                f"{row.size:.2f} ({row.size_low:.2f} to {row.size_high:.2f})",
                row.largest,
            )
            for row in report.sets
        ],
    )


def _show_classes(report: "Report") -> None:
    shown = report.per_class
    title = "metrics per class"
    if len(shown) > _CLASS_ROWS:
        present = [row for row in shown if row.support]
        shown = sorted(present, key=lambda row: row.f1 or 0.0)[:_CLASS_ROWS]
        title = f"the {len(shown)} of {len(report.labels):,} classes with the lowest F1"
    out.table(
        title,
        ("label", "images", "precision", "recall", "F1"),
        rows=[(row.label, row.support, row.precision, row.recall, row.f1) for row in shown],
    )
