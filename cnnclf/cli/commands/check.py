"""`cnnclf check`: find out what is wrong with the images of a dataset."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import CheckConfig
from cnnclf.errors import ExitCode, UsageError
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.quality.checking import QualityReport
    from cnnclf.quality.finding import Finding

_CASES = 3  # of each check on the screen; --out has all
_LEVELS = ("error", "warning")


@partial(add_settings, kind=CheckConfig)
def check_command(
    dataset: options.Dataset,
    *,
    out_: Annotated[
        Path | None, option("--out -o DIR", "Directory for findings.csv and check.html.")
    ] = None,
    run: Annotated[
        Path | None,
        option(
            "--run RUN",
            "Run whose probabilities show which labels may be wrong; those of its own "
            "training images hide errors that it has learned.",
            complete=complete_run,
        ),
    ] = None,
    strict: Annotated[
        str | None,
        option(
            "--strict [LEVEL]",
            "Exit with code 3 if there are findings of this level or worse: error or warning; "
            "alone: error.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    **settings: object,
) -> int:
    """Find out what is wrong with the images of a dataset; no file is changed.

    Looks for copies across splits and classes, even if they were resized, recompressed or
    brightened; for damaged, blank, blurred and odd images; for images that look like those of
    another class; and for signals that give the label away. Images that have not changed are
    measured once. The exit code is 7 if files are missing or damaged, or rows or files were lost
    in the import.
    """
    config = read_settings(CheckConfig, settings)
    level = _read_level(strict)
    options.check_new(out_, overwrite=overwrite)
    from cnnclf.importers import open_dataset
    from cnnclf.quality.check_table import SUSPECTS
    from cnnclf.quality.checking import check_dataset, write_report
    from cnnclf.quality.finding import Severity
    from cnnclf.training.witnesses import open_networks

    data = open_dataset(dataset, progress=out.progress())
    networks = open_networks(data, config, run=run, progress=out.progress())
    report, evidence = check_dataset(
        data, config=config, networks=networks, progress=out.progress()
    )
    _show(report, data)
    if SUSPECTS in report.not_run and len(data.labels) > 1 and evidence.facts.usable.size:
        way = "--cross-validate" if data.kind == "image" else "--run RUN"
        out.line(f"wrong labels were not looked for; with {way} they are")
    if out_ is not None:
        for path in write_report(out_, report, evidence=evidence, progress=out.progress()):
            out.line(f"wrote {path}")
    out.json(report.to_dict())
    if level and any(report.count(Severity(each)) for each in _LEVELS[: _LEVELS.index(level) + 1]):
        return ExitCode.DATA
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def _read_level(strict: str | None) -> str:
    level = "error" if strict == "" else strict or ""
    if level and level not in _LEVELS:
        raise UsageError(
            f"--strict {level}: expected one of {', '.join(_LEVELS)}", "--strict=warning"
        )
    return level


def _show(report: "QualityReport", dataset: "Dataset") -> None:
    from cnnclf.quality.check_table import SUSPECTS
    from cnnclf.quality.finding import Severity, advise
    from cnnclf.quality.suspects import describe_judge

    total = f"{count_of(report.images, 'image')} of {count_of(len(report.labels), 'class')}"
    if not report.findings:
        out.line(f"no findings in {total}")
        return
    for check, findings in report.by_check():
        out.line(f"{findings[0].severity}: {check.title} ({check.name}: {len(findings):,})")
        for finding in findings[:_CASES]:
            out.line(f"  {_describe(finding)}")
        if len(findings) > _CASES:
            out.line(f"  and {len(findings) - _CASES:,} more")
        if check.name == SUSPECTS and report.label_accuracy is not None:
            unjudged = report.labels_unjudged
            judge = describe_judge(report.label_accuracy, report.images, unjudged=unjudged)
            out.line(f"  judged by: {judge}")
        out.line(f"  effect: {check.effect}")
        out.line(f"  action: {advise(check, findings, dataset=dataset)}")
        out.line()
    counts = [count_of(report.count(severity), severity) for severity in Severity]
    out.line(f"{', '.join(counts)} in {total}")


def _describe(finding: "Finding") -> str:
    if not finding.path:
        return finding.message
    if not finding.other_path:
        return f"{finding.path}: {finding.message}"
    first = _place(finding.label, finding.split)
    second = _place(finding.other_label, finding.other_split)
    if first == second:
        first = second = ""
    return f"{finding.path}{first} and {finding.other_path}{second}: {finding.message}"


def _place(label: str, split: str) -> str:
    return f" ({', '.join(filter(None, [label, split]))})"
