"""`cnnclf import`: read images into a dataset."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.splits import check_fractions
from cnnclf.errors import ExitCode, UsageError
from cnnclf.importers import IMPORTERS, ImportOptions, import_source

if TYPE_CHECKING:
    from cnnclf.importers import ImportReport

_CLASS_ROWS = 30  # classes shown on the screen; dataset.json has all
_FORMATS = [importer.name for importer in IMPORTERS]


def _parse_split(value: str) -> tuple[float, float, float]:
    try:
        train, val, test = (float(part) for part in value.split(","))
    except ValueError:
        raise UsageError(
            f"expected three numbers for train, val and test, received {value!r}",
            "for example: --split 0.7,0.15,0.15",
        ) from None
    fractions = (train, val, test)
    check_fractions(fractions)  # here, so that no image is looked at before
    return fractions


def import_command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of class folders, an archive, a table of paths and labels, arrays.",
        ),
    ],
    *,
    out_: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DATASET", help="The dataset directory to make."),
    ],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            autocompletion=lambda: _FORMATS,
            help=f"What the source is, where its content misleads: {', '.join(_FORMATS)}.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="TRAIN,VAL,TEST",
            help="Parts of the images [0.7,0.15,0.15, or as the source has it].",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Another seed divides the images otherwise.")
    ] = 0,
    copy: Annotated[
        bool,
        typer.Option("--copy", help="Copy images into the dataset instead of pointing to them."),
    ] = False,
    classes_file: Annotated[
        Path | None,
        typer.Option(
            "--classes-file", metavar="FILE", help="The labels in their order, one a line."
        ),
    ] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Read images into a dataset: check every file, find duplicates, make the split.

    The source is never changed. Images of a folder stay where they are; archives and arrays are
    unpacked into the dataset. Files that are no image or damaged are listed in skipped.csv; then
    the exit code is 7.
    """
    report = import_source(
        source,
        out_,
        options=ImportOptions(
            format=format_,
            split=None if split is None else _parse_split(split),
            seed=seed,
            copy=copy,
            classes_file=classes_file,
            threads=threads,
        ),
        progress=out.progress(),
    )
    _show(report)
    out.json(report.to_dict())
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def _show(report: "ImportReport") -> None:
    """Show the counts of each label and split, and what to do next."""
    rows = [
        [label, *(report.counts[split][label] for split in SPLITS)]
        for label in report.labels[:_CLASS_ROWS]
    ]
    out.table("", ["label", *SPLITS], rows)
    hidden = len(report.labels) - len(rows)
    if hidden:
        out.line(f"and {hidden} more labels")
    out.line()
    out.pairs(
        "",
        {
            "labels": len(report.labels),
            "images": report.images,
            **{split: sum(report.counts[split].values()) for split in SPLITS},
            "skipped": report.skipped,
            "dataset": report.directory,
        },
    )
    out.hint(f"cnnclf train {shlex.quote(str(report.directory))}")
