"""`cnnclf report`: everything about a run, or several, on one page."""

from pathlib import Path
from typing import Annotated

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_output
from cnnclf.errors import UsageError
from cnnclf.full_disks import check_writable
from cnnclf.runs.run_names import SEARCH_FILE
from cnnclf.runs.run_opening import check_distinct


def report_command(
    runs: Annotated[
        list[Path],
        argument(
            "RUN...",
            "Run directory, or a tuning directory; several runs are compared.",
            complete=complete_run,
        ),
    ],
    *,
    out_: Annotated[
        Path | None,
        option(
            "--out -o FILE.html",
            "Page to write. [report.html in RUN; for several runs comparison.html]",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        option(
            "--evaluation NAME",
            "Evaluation to show in detail, a directory in RUN/evaluation. [test]",
        ),
    ] = None,
    maps: Annotated[
        bool, option("--maps/--no-maps", "Compute evidence maps, for which the network is loaded.")
    ] = True,
    overwrite: options.Overwrite = False,
) -> None:
    """Write everything about a run on one HTML page, which opens offline.

    Plan with reasons, data, curves, metrics with intervals, confusion matrix with images,
    calibration, mistakes with evidence maps, network, and the commands to do it again. What is
    missing, such as the dataset, is named. Several runs are compared, image by image. A page in
    the run is renewed, any other is replaced with --overwrite only.
    """
    target = out_ if out_ is not None or len(runs) == 1 else Path("comparison.html")
    check_output(target, "--out", endings=(".html", ".htm"), overwrite=overwrite)
    if target is None and runs[0].is_dir():
        check_writable(runs[0])
    if len(runs) > 1:
        check_distinct(runs)
        if evaluation is not None:
            raise UsageError("--evaluation is for the report of one run", "several use the test")
        from cnnclf.reporting.run_comparison import compare_runs

        report = compare_runs(runs, out=target or Path("comparison.html"))
    elif (runs[0] / SEARCH_FILE).is_file():
        from cnnclf.tuning.search_page import report_search

        report = report_search(runs[0], out=out_)
    else:
        from cnnclf.reporting.run_report import report_run

        report = report_run(
            runs[0], out=out_, evaluation=evaluation, maps=maps, progress=out.progress()
        )
    for note in report.missing:
        out.warn(note)
    from cnnclf.files import format_bytes

    verb = "renewed" if report.is_renewed else "wrote"
    out.line(f"{verb} {report.path} ({format_bytes(report.size_bytes)})")
    out.json(report.to_dict())
