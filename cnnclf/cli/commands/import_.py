"""`cnnclf import`: import images into a dataset."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import DEFAULT_SPLIT, ImportConfig
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.splits import check_fractions
from cnnclf.errors import ExitCode
from cnnclf.importers import IMPORTERS, import_source

if TYPE_CHECKING:
    from cnnclf.importers import ImportReport

_CLASS_ROWS = 30  # classes shown on the screen; dataset.json has all
_FEW_IMAGES = 1000  # with fewer photos, a pretrained backbone is the better start
_ARRAYS = ("idx", "cifar", "npz", "npy-folders")  # seldom photos
FORMATS = tuple(importer.name for importer in IMPORTERS)


@partial(add_settings, kind=ImportConfig, rows={"format": FORMATS})
def import_command(
    source: Annotated[
        str,  # not a Path, which would change names such as hf://user/name
        typer.Argument(
            metavar="SOURCE",
            help="Folder of class folders, archive, table of paths and labels, or arrays.",
        ),
    ],
    *,
    out_: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DATASET", help="Dataset directory to create."),
    ],
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    **settings: object,
) -> int:
    """Import images into a dataset: check every file, find duplicates, split.

    The source is never changed. Images in folders stay where they are; archives and arrays are
    unpacked into the dataset. Damaged files and files that are not images are listed in
    skipped.csv, and the exit code is 7.
    """
    config = read_settings(ImportConfig, settings)
    check_fractions(config.split or DEFAULT_SPLIT)  # here, so that no image is read before
    report = import_source(
        source,
        out_,
        options=config,
        overwrite=overwrite,
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
    out.table("", ["label", *SPLITS], rows=rows)
    hidden = len(report.labels) - len(rows)
    if hidden:
        out.line(f"and {hidden} more labels")
    out.line()
    if report.oddities:
        unusual = [[name, count] for name, count in report.oddities.items()]
        out.table("Unusual pixels", ["what", "images"], rows=unusual)
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
    directory = shlex.quote(str(report.directory))
    if report.images < _FEW_IMAGES and report.format not in _ARRAYS:
        out.hint(
            f"cnnclf finetune {directory} is more accurate with few photos; "
            f"cnnclf train {directory} trains from scratch"
        )
    else:
        out.hint(f"cnnclf train {directory}")
