"""`cnnclf import`: import images into a dataset."""

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_directory_name
from cnnclf.cli.settings import SETTING_PREFIX, add_settings, read_settings
from cnnclf.config import DEFAULT_SPLIT, CheckConfig, ImportConfig
from cnnclf.data.manifest import is_dataset, load_dataset
from cnnclf.data.manifest_rows import SPLITS
from cnnclf.data.manifest_versions import undo_version
from cnnclf.data.splits import check_fractions
from cnnclf.errors import ExitCode, UsageError
from cnnclf.importers import IMPORTERS, import_source
from cnnclf.quality.acting import ChangeRequest, change_dataset
from cnnclf.quality.check_evidence import NO_NETWORKS
from cnnclf.quality.check_table import CHECKS

if TYPE_CHECKING:
    from cnnclf.data.manifest_versions import Version
    from cnnclf.importers import ImportReport

_CLASS_ROWS = 30  # classes shown on the screen; dataset.json has all
_FEW_IMAGES = 1000  # with fewer photos, a pretrained backbone is the better start
_NO_PHOTOS = ("idx", "cifar", "npz", "npy-folders", "sound-folders")  # or seldom
_PANEL = "Changing a dataset"
_THREADS = f"{SETTING_PREFIX}threads"
FORMATS = tuple(importer.name for importer in IMPORTERS)


@partial(add_settings, kind=ImportConfig, rows={"format": FORMATS})
def import_command(
    source: Annotated[
        str,  # not a Path, which would change names such as hf://user/name
        typer.Argument(
            metavar="SOURCE",
            help="Folder of class folders of images, sounds or arrays; archive, table of paths and"
            " labels, shards, or hf://user/name.",
        ),
    ],
    *,
    out_: Annotated[
        Path | None,
        option(
            "--out -o DATASET",
            "Dataset directory to create; required, unless SOURCE is a dataset to change.",
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        option(
            "--apply FILE",
            "Do what decisions.csv of check.html says, or choose from findings.csv.",
            panel=_PANEL,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        option(
            "--drop CHECK",
            "Remove the images that this check of 'cnnclf check' found; repeatable.",
            panel=_PANEL,
            complete=lambda: [check.name for check in CHECKS],
        ),
    ] = None,
    relabel: Annotated[
        bool,
        option(
            "--relabel",
            "Give images of suspicious labels the label that was suggested.",
            panel=_PANEL,
        ),
    ] = False,
    fix_splits: Annotated[
        bool,
        option(
            "--fix-splits",
            "Move copies of an image, and images of a group, to one split.",
            panel=_PANEL,
        ),
    ] = False,
    undo: Annotated[
        bool, option("--undo", "Use the version before the last change again.", panel=_PANEL)
    ] = False,
    to: Annotated[
        Literal["webdataset"] | None,
        option(
            "--to webdataset",
            "Write tar shards to --out instead of a dataset; SOURCE may be a dataset.",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    **settings: object,
) -> int:
    """Import images into a dataset: check every file, find duplicates, split.

    The source is never changed. Images in folders stay where they are; archives and arrays are
    unpacked into the dataset. Damaged files and files that are not images are listed in
    skipped.csv, and the exit code is 7. A dataset as SOURCE is changed by the options below: a new
    version of its manifest is written beside the old one, and --undo takes it back.
    """
    check_directory_name(out_)
    config = read_settings(ImportConfig, settings)
    check_fractions(config.split or DEFAULT_SPLIT)  # here, so that no image is read before
    request = ChangeRequest(apply, tuple(drop or ()), relabel=relabel, fix_splits=fix_splits)
    if to is not None:
        if out_ is None:
            raise UsageError("--out is missing", "--out DIRECTORY names where the shards go")
        if request or undo:
            raise UsageError(
                f"{request.spoken() or '--undo'} cannot be combined with --to",
                f"change the dataset first, then cnnclf import DATASET --out {out_} --to {to}",
            )
        if is_dataset(Path(source)):
            _refuse_settings(settings)
        if config.keep_splits is not None:  # what was imported before is used again
            raise UsageError(
                "--keep-splits cannot be combined with --to",
                f"import with --out first, then cnnclf import DATASET --out {out_} --to {to}",
            )
        return _write_shards(source, out_, config=config, overwrite=overwrite)
    if out_ is None:
        given = {**settings, "overwrite": overwrite or None}
        return _change(source, request, undo=undo, given=given, threads=config.threads)
    if undo:
        raise UsageError("--undo changes a dataset, not a source", "omit --out")
    request.check()
    if request and is_dataset(Path(source)):
        raise UsageError(f"{source} is a dataset, which is changed where it is", "omit --out")
    report = import_source(
        source,
        out_,
        options=config,
        overwrite=overwrite,
        progress=out.progress(),
    )
    _show(report)
    version = None
    if request:
        version = _apply(out_, request, config.threads)
        _show_version(version)
    out.json(report.to_dict() | ({"version": version and version.to_dict()} if request else {}))
    return ExitCode.SOME_FAILED if report.failed else ExitCode.OK


def _write_shards(source: str, out_: Path, *, config: ImportConfig, overwrite: bool) -> int:
    """Write any source, or a dataset, as tar shards."""
    from cnnclf.data.shards import write_shards
    from cnnclf.importers import count_unread, open_dataset

    dataset = open_dataset(source, options=config, progress=out.progress())
    done = write_shards(dataset, out_, overwrite=overwrite, progress=out.progress())
    for lost in done.lost[:_CLASS_ROWS]:
        out.warn(f"not written: {lost}")
    out.pairs("", {"images": done.images, "shards": len(done.shards), "directory": out_})
    out.json(done._asdict() | {"directory": str(out_)})
    return ExitCode.SOME_FAILED if done.lost or count_unread(dataset) else ExitCode.OK


def _change(
    source: str,
    request: "ChangeRequest",
    *,
    undo: bool,
    given: dict[str, object],
    threads: int | None,
) -> int:
    """Change a dataset, or take the last change back."""
    path = Path(source)
    if not is_dataset(path):
        if undo or request:
            raise UsageError(
                f"{source} is not a dataset that cnnclf import made",
                "give its directory, or --out to import a source first",
            )
        raise UsageError("--out is missing", "--out DATASET names the directory to create")
    if not (undo or request):
        raise UsageError(
            f"{source} is a dataset already",
            "--apply, --drop, --relabel, --fix-splits or --undo change it; "
            f"cnnclf train {shlex.quote(source)} uses it",
        )
    _refuse_settings(given)
    if undo and request:
        raise UsageError("--undo cannot be combined with other changes", "undo first")
    version = undo_version(path) if undo else _apply(path, request, threads)
    _show_version(version)
    out.json(version.to_dict() if version else {})
    return ExitCode.OK


def _refuse_settings(given: Mapping[str, object]) -> None:
    extra = [name for name, value in given.items() if value is not None and name != _THREADS]
    if extra:
        raise UsageError(
            f"--{extra[0].removeprefix(SETTING_PREFIX).replace('_', '-')} is an option for "
            "importing a source",
            "omit it: this source is a dataset already",
        )


def _apply(directory: Path, request: "ChangeRequest", threads: int | None) -> "Version | None":
    networks = NO_NETWORKS
    if request.needs_features:
        from cnnclf.training.witnesses import open_networks

        settings = CheckConfig(cross_validate=True, threads=threads)
        networks = open_networks(load_dataset(directory), settings, progress=out.progress())
    return change_dataset(
        directory, request, threads=threads, networks=networks, progress=out.progress()
    )


def _show_version(version: "Version | None") -> None:
    """Show what was changed, and why."""
    if version is None:
        out.line("nothing to change")
        return
    words = {"remove": "removed", "relabel": "relabeled", "move": "moved to another split"}
    rows = [
        [count, words[action], reason]
        for action, reasons in version.counts.items()
        for reason, count in reasons.items()
    ]
    if rows:
        out.table("", ["images", "change", "reason"], rows=rows)
        out.line()
    out.pairs(
        "",
        {"manifest": version.manifest}
        | ({"changes": version.changes} if version.changes else {})
        | {"kept": version.kept},
    )
    if version.changes is not None:
        directory = shlex.quote(str(version.manifest.parent))
        out.hint(f"cnnclf import {directory} --undo takes this back")


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
    if len(report.labels) == 1 or not sum(report.counts["train"].values()):
        out.hint(f"cnnclf evaluate RUN {directory}")
    elif report.images < _FEW_IMAGES and report.format not in _NO_PHOTOS:
        out.hint(
            f"cnnclf finetune {directory} is more accurate with few photos; "
            f"cnnclf train {directory} trains from scratch"
        )
    else:
        out.hint(f"cnnclf train {directory}")
