"""From several runs to the page that compares them: what `cnnclf report RUN RUN` does."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnclf.errors import CnnclfError, DataError, RunError
from cnnclf.evaluation.metrics import TOP_K, shown_metrics
from cnnclf.evaluation.paired_runs import PairedTest, open_compared
from cnnclf.evaluation.paired_runs import compare_runs as compare_answers
from cnnclf.files import write_text_atomic
from cnnclf.pages.html_page import render_page
from cnnclf.pages.svg_charts import Line, draw_lines
from cnnclf.reporting.glossary_links import GlossaryLinks
from cnnclf.reporting.report_charts import MAX_DOTS
from cnnclf.reporting.report_evaluation import SHOWN
from cnnclf.reporting.report_images import make_thumbnail
from cnnclf.reporting.run_files import Evaluation, RunFiles, list_choices, list_commands, read_run
from cnnclf.reporting.run_report import WrittenReport
from cnnclf.runs.run_directory import section

if TYPE_CHECKING:
    from markupsafe import Markup

_CURVES = (("val_accuracy", "val accuracy"), ("val_loss", "val loss"), ("loss", "training loss"))
_RECORD = {
    "epochs": "epochs",
    "best_epoch": "best epoch",
    "best_val_accuracy": "best val accuracy",
    "parameters": "parameters",
    "fit_s": "training time, s",
    "images_per_s": "images per second",
}

_WHOLE = 2  # from here on a figure is a time or a rate, no fraction or loss


def compare_runs(paths: Sequence[Path], *, out: Path) -> WrittenReport:
    """Write a page that compares runs: settings that differ, curves, metrics, images.

    Raises:
        RunError: There is no run, it is damaged, or the file cannot be written.
    """
    runs = [read_run(path) for path in paths]
    names = [str(path) for path in paths]
    tests = [_find_test(files) for files in runs]
    missing = [files.lost_epochs for files in runs if files.lost_epochs]
    page = render_page(
        Path(__file__).with_name("comparison.html"),
        title=f"Comparison of {len(runs)} runs",
        words=GlossaryLinks(),
        names=names,
        settings=_list_differences(runs),
        curves=[chart for column, title in _CURVES if (chart := _draw(runs, names, column, title))],
        figures=_list_figures(runs, tests),
        pairs=(pairs := _compare_images(runs, missing)),
        changed=[_show_changed(pair, missing) for pair in pairs],
        commands=[command for files in runs for command in list_commands(files)],
        missing=missing,
    )
    write_text_atomic(out, page)
    return WrittenReport(out, out.stat().st_size, missing)


def _find_test(files: RunFiles) -> Evaluation | None:
    return next((each for each in files.evaluations if each.name == "test"), None)


def _list_differences(runs: Sequence[RunFiles]) -> list[tuple[str, str, list[str]]]:
    """Return key, option and the values of the settings that differ.

    Of the settings that only one command has, those that were chosen.
    """
    chosen = [{choice.key: choice for choice in list_choices(files.plan)} for files in runs]
    found = []
    for key in dict.fromkeys(key for each in chosen for key in each):
        values = [each[key].value if key in each else "-" for each in chosen]
        known = [each[key] for each in chosen if key in each]
        is_told = len(known) == len(runs) or not all(each.is_default for each in known)
        if len(set(values)) > 1 and is_told:
            found.append((key, known[0].option, values))
    return found


def _draw(
    runs: Sequence[RunFiles], names: Sequence[str], column: str, title: str
) -> "Markup | None":
    points = [[(row["epoch"], row.get(column)) for row in files.history] for files in runs]
    lines = [
        Line("", each, number, dots=len(each) <= MAX_DOTS) for number, each in enumerate(points)
    ]
    if not any(y is not None for line in lines for _, y in line.points):
        return None
    return draw_lines(lines, label=f"{title} of {', '.join(names)}", x="epoch", y=title)


def _list_figures(
    runs: Sequence[RunFiles], tests: Sequence[Evaluation | None]
) -> list[tuple[str, list[str]]]:
    rows = []
    top_k = next(
        (test.metrics["top_k"] for test in tests if test and "top_k" in test.metrics), TOP_K
    )
    for metric in shown_metrics(top_k):
        values = [
            section(test.metrics, "metrics").get(metric.name) if test else None for test in tests
        ]
        rows.append((f"test {metric.title}", [_figure(value) for value in values]))
    intervals = [section(test.metrics, "accuracy_interval") if test else {} for test in tests]
    rows.insert(
        1,
        (
            "95 % interval",
            [f"{each['low']:.4f} to {each['high']:.4f}" if each else "-" for each in intervals],
        ),
    )
    rows += [
        (title, [_figure(files.record.get(name)) for files in runs])
        for name, title in _RECORD.items()
        if any(files.record.get(name) is not None for files in runs)
    ]
    return rows


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < _WHOLE else f"{value:,.1f}"
    return f"{value:,}"


def _compare_images(runs: Sequence[RunFiles], missing: list[str]) -> list[PairedTest]:
    """Compare each run with the one before it, on the images that both were evaluated on."""
    found = []
    for first, second in pairwise(runs):
        try:
            found.append(compare_answers(first.directory, second.directory))
        except (DataError, RunError) as error:
            missing.append(error.message)
    return found


def _show_changed(pair: PairedTest, missing: list[str]) -> list[tuple[str, list[Any]]]:
    """Return the images that changed sides, and what both runs said; none without the dataset."""
    try:
        dataset = open_compared(pair)
    except CnnclfError as error:
        missing.append(f"no images that changed sides: {error.message}")
        return []
    found = []
    for sign, title in ((1, "Only the second is right"), (-1, "Only the first is right")):
        some = [each for each in pair.changed if each.gained == sign][:SHOWN]
        images = [(each, make_thumbnail(dataset, each.first.path)) for each in some]
        found.append((title, images))
    return found
