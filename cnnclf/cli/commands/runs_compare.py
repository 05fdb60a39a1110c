"""`cnnclf runs compare`: runs side by side. Reads JSON files only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.cli.paired_tables import show_tests
from cnnclf.cli.run_figures import (
    METRICS,
    RECORD_FIGURES,
    format_figure,
    format_typed,
    list_shown,
    read_evaluations,
)
from cnnclf.errors import CnnclfError, DataError, RunError, UsageError
from cnnclf.names import count_of, short_names
from cnnclf.runs.run_directory import RunDirectory, flatten, section
from cnnclf.runs.run_opening import check_distinct, open_run

if TYPE_CHECKING:
    from cnnclf.evaluation.paired_runs import PairedTest


def compare_command(
    runs: Annotated[
        list[Path], argument("RUN RUN...", "Two or more run directories.", complete=complete_run)
    ],
    *,
    out_: Annotated[
        Path | None,
        option("--out -o FILE.png", "Draw the images that only one of two runs has right."),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Compare runs side by side: settings that differ, metrics, and whether one is better.

    Runs that were evaluated on the same images are compared with the first by the exact test of
    McNemar; the result says which difference so many images could have shown.
    """
    if len(runs) < 2:
        raise UsageError(
            f"expected two or more runs, received {len(runs)}", "list them with: cnnclf runs list"
        )
    directories = [open_run(path) for path in runs]
    check_distinct(runs)
    if out_ is not None:
        if len(runs) > 2:
            raise UsageError(f"--out {out_} draws two runs, received {len(runs)}")
        check_output(out_, "--out", endings=(".png",), overwrite=overwrite)
    names = short_names(runs)
    differing, shown = _compare_settings([directory.read_plan() for directory in directories])
    figures = _compare_figures(directories)
    words = {f"test {key}": f"test {text}" for key, text in METRICS.items()} | RECORD_FIGURES
    from cnnclf.evaluation.paired_statistics import adjust_for_several

    tests, problems = _test_pairs(directories)
    p_values = adjust_for_several([test.p_value for test in tests])
    out.json(
        {
            "runs": runs,
            "settings": differing,
            "figures": figures,
            "tests": [
                test.to_dict() | {"p_adjusted": p_value}
                for test, p_value in zip(tests, p_values, strict=True)
            ],
            "not_tested": [problem.message for problem in problems],
        }
    )
    out.table(
        "Settings that differ" if differing else "No setting differs",
        ("setting", *names),
        rows=[[key, *(format_typed(key, each) for each in row)] for key, row in shown.items()],
        needed=1 + len(names),
    )
    if len(shown) < len(differing):
        hidden = count_of(len(differing) - len(shown), "default")
        out.note(f"{hidden} of settings that only one of the commands has: see --json")
    out.table(
        "Figures",
        ("figure", *names),
        rows=[
            [words[key], *(format_figure(key, each) for each in row)]
            for key, row in figures.items()
        ],
        needed=1 + len(names),
    )
    show_tests(tests, dict(zip(runs, names, strict=True)), p_values=p_values)
    if problems and out_ is not None:
        raise problems[0]
    for problem in problems:
        out.note(problem.message)
        out.hint(problem.hint)
    if out_ is not None:
        _draw_changed(tests[0], out_)


def _compare_settings(
    plans: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the settings that differ by dotted key, and those of them that tell something."""
    settings = [_comparable(plan) for plan in plans]
    differing = {
        key: [each.get(key) for each in settings]
        for key in dict.fromkeys(key for each in settings for key in each)
        if any(each.get(key) != settings[0].get(key) for each in settings[1:])
    }
    # What one command alone has, as fine-tuning its phases, tells something if it was chosen.
    chosen = {key for plan in plans for part in ("given", "reasons") for key in section(plan, part)}
    shown = {
        key: row
        for key, row in differing.items()
        if key in chosen or all(key in each for each in settings)
    }
    return differing, shown


def _compare_figures(runs: Sequence[RunDirectory]) -> dict[str, list[Any]]:
    """Return the figures that any of the runs has."""
    records = [directory.read_record() for directory in runs]
    metrics = [read_evaluations(directory).get("test", {}) for directory in runs]
    figures = {
        **{f"test {key}": [each.get(key) for each in metrics] for key in list_shown(metrics)},
        **{key: [record.get(key) for record in records] for key in RECORD_FIGURES},
    }
    return {key: row for key, row in figures.items() if any(each is not None for each in row)}


def _test_pairs(runs: list[RunDirectory]) -> "tuple[list[PairedTest], list[CnnclfError]]":
    """Test each later run against the first, as far as both were evaluated on the same images."""
    from cnnclf.evaluation.paired_runs import compare_runs

    tests: list[PairedTest] = []
    problems: list[CnnclfError] = []
    for run in runs[1:]:
        try:
            tests.append(compare_runs(runs[0], run))
        except (DataError, RunError) as error:
            problems.append(error)
    return tests, problems


def _draw_changed(test: "PairedTest", path: Path) -> None:
    from cnnclf.evaluation.paired_runs import draw_changed

    if not test.changed:
        out.note("nothing to draw: no image changed sides")
        return
    draw_changed(test, path)
    out.pairs("", {"figure": path})


def _comparable(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what may differ between runs: settings, dataset and input spec."""
    parts = {
        "command": plan.get("command"),
        "dataset": section(plan, "dataset"),
        "input": section(plan, "input_spec"),
        **section(plan, "config"),
    }
    return flatten(parts)
