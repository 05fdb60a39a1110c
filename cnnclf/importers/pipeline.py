"""From a source to a dataset directory: list, check in parallel, find duplicates, split, write.

The first pass writes the rows to a temporary file and keeps only `SampleColumns` in memory; the
second adds the splits, which depend on all images. The dataset appears complete or not at all.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.config import ImportConfig
from cnnclf.data.checks import find_duplicates
from cnnclf.data.croissant import CROISSANT_NAME
from cnnclf.data.description import DATASET_NAME, MANIFEST_NAME
from cnnclf.data.manifest import SKIPPED_NAME, Counts, is_dataset, load_dataset, save_dataset
from cnnclf.data.manifest_rows import SPLITS, Row, read_rows
from cnnclf.data.manifest_versions import OWN_FILES
from cnnclf.errors import DataError, UsageError
from cnnclf.files import check_replaceable, replace_directory_atomic
from cnnclf.full_disks import write_error
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record, compose_label
from cnnclf.importers.layouts.folder_view import find_in_path
from cnnclf.importers.reporting import (
    name_reasons,
    report_duplicates,
    report_labels,
    report_oddities,
    report_skipped,
)
from cnnclf.importers.scan import GRAY_NAME, ROWS_NAME, Scan, scan_images
from cnnclf.importers.source import Source
from cnnclf.importers.splitting import Division, split_images
from cnnclf.names import count_of, name_some, natural_key
from cnnclf.progress import Progress
from cnnclf.quality.perceptual_hash import SIDE
from cnnclf.workspaces import remove_leftovers, workspace

IMAGES_NAME: Final = "images"
_UNFINISHED: Final = "importing"
_OWN_NAMES: Final = (DATASET_NAME, CROISSANT_NAME, MANIFEST_NAME, SKIPPED_NAME, IMAGES_NAME)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLASSES_HINT: Final = (
    "put the images of each class into a folder with its name, or give a CSV file with the "
    "columns path,label"
)
# What to do if no file is usable, by how all reasons begin.
_HINTS: Final = {
    "no such file": "paths in a table are relative to its folder, or to that of --root; the files "
    "may lie in any folder below it",
    "the split": "name the values of its column: --splits train=VALUE,test=VALUE",
    "--label-from": "try the expression on this path; parentheses enclose the label",
}


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Args:
        directory: The dataset.
        source: The absolute path of the source, or its text if it is not a path.
        format: Name of the importer.
        reason: Why this importer was used.
        labels: In the order of the class indices.
        counts: Images by split and label.
        images: Rows of the manifest.
        skipped: Rows of `skipped.csv`.
        failed: Those of them that are lost: they cannot be read or used.
        skipped_reasons: Number of files by reason, the most frequent first; at most 10.
        oddities: Number of images by what is unusual about their pixels.
        repeats: Images that repeat an earlier one.
        split: `made`, `kept`, or `kept, val from train`.
        fingerprint: Of the dataset.
        notes: What the user should know.
        warnings: What the user may have to act on.
        seconds: Wall time.
    """

    directory: Path
    source: str
    format: str
    reason: str
    labels: tuple[str, ...]
    counts: Counts
    images: int
    skipped: int
    failed: int
    skipped_reasons: dict[str, int]
    oddities: dict[str, int]
    repeats: int
    split: str
    fingerprint: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as types that JSON supports."""
        return {**asdict(self), "directory": str(self.directory)}


def run_import(
    source: Source,
    out: Path,
    *,
    importer: Importer,
    reason: str,
    options: ImportConfig,
    overwrite: bool = False,
    progress: Progress,
) -> ImportReport:
    """Import a source into a new dataset directory, as `import_source` does.

    Raises:
        UsageError: `out` is not empty.
        DataError: There are no images of at least two labels, or the dataset whose splits are kept
            cannot be read.
        DeviceError: The disk is full.
        RunError: `out` cannot be written.
    """
    start = time.perf_counter()
    started_ns = time.time_ns()
    source, out = source.absolute(), Path(os.path.abspath(out))  # noqa: PTH100
    _check_free(out, source=source.path, overwrite=overwrite)
    earlier = None if options.keep_splits is None else load_dataset(options.keep_splits)
    for left in remove_leftovers(out.parent, kind=_UNFINISHED):
        progress.note(f"removed {left}, which an import that was killed left")
    with _staging(out) as staging:
        listing = importer.read(source, ImportJob(staging / IMAGES_NAME, options, progress))
        listing.records = _compose(listing.records, listing)
        if options.group_regex:
            listing.records = _group(listing.records, options.group_regex, listing)
        copies = staging / IMAGES_NAME if options.copy_images and not listing.unpacked else None
        scan = scan_images(listing, staging, copies=copies, options=options, progress=progress)
        labels = _settle_labels(listing, scan, source=source, least=1 if options.one_class else 2)
        division = split_images(
            scan.columns,
            labels,
            gray=_open_gray(staging / GRAY_NAME),
            options=options,
            earlier=earlier,
        )
        (staging / GRAY_NAME).unlink()
        duplicates = find_duplicates(
            division.contents, scan.columns.class_indices(labels), splits=division.splits
        )
        examples: dict[int, Row | None] = dict.fromkeys(duplicates.example_rows())
        inside = listing.unpacked or options.copy_images
        saved = save_dataset(
            staging,
            _join_splits(staging / ROWS_NAME, division, examples),
            labels=labels,
            root=_find_root(listing, staging, options),
            name=out.name,
            source={
                "path": source.text,
                "format": importer.name,
                "kind": listing.kind,
                "reason": reason,
                "split": division.kind,
                "seed": options.seed,
                "skipped": scan.skipped,
                "unread": scan.failed,
                "remarks": listing.remarks,
                **({"channels": options.channels} if options.channels else {}),
                # Files in the dataset itself are newer than the start of the import.
                "imported_ns": time.time_ns() if inside else started_ns,
            },
        )
        (staging / ROWS_NAME).unlink()
        _publish(staging, out, overwrite=overwrite)
    notes, warnings = report_duplicates(duplicates, examples, kept=division.kind != "made")
    skipped = report_skipped(scan, out / SKIPPED_NAME)
    warnings = [
        *listing.warnings,
        *report_oddities(scan.oddities),
        *report_labels(saved.counts, scan.unread),
        *division.warnings,
        *warnings,
    ]
    if scan.failed:
        warnings = [*skipped, *warnings]
    else:
        notes = [*skipped, *notes]
    report = ImportReport(
        directory=out,
        source=source.text,
        format=importer.name,
        reason=reason,
        labels=labels,
        counts=saved.counts,
        images=saved.rows,
        skipped=scan.skipped,
        failed=scan.failed,
        skipped_reasons=dict(scan.reasons.most_common(10)),
        oddities=dict(scan.oddities.most_common()),
        repeats=duplicates.repeats,
        split=division.kind,
        fingerprint=saved.fingerprint,
        notes=(*listing.remarks, *division.notes, *notes),
        warnings=tuple(warnings),
        seconds=time.perf_counter() - start,
    )
    for text in report.notes:
        progress.note(text)
    for text in report.warnings:
        progress.warn(text)
    return report


def _compose(records: Iterator[Record], listing: Listing) -> Iterator[Record]:
    """Yield the records with labels in composed form: what looks the same is one class."""
    forms: dict[str, set[str]] = {}
    for record in records:
        if record.label.isascii():
            yield record
            continue
        label = compose_label(record.label)
        forms.setdefault(label, set()).add(record.label)
        yield replace(record, label=label)
    if several := [label for label, spelled in forms.items() if len(spelled) > 1]:
        listing.remarks.append(
            "labels in composed and decomposed Unicode form (NFC, NFD) are one class each: "
            f"{name_some(several)}"
        )


def _group(records: Iterator[Record], expression: str, listing: Listing) -> Iterator[Record]:
    """Yield the records with the group that an expression finds in their paths."""
    groups: set[str] = set()
    alone = 0
    for record in records:
        group = record.group or find_in_path(expression, record.path)
        groups.add(group)
        alone += not group
        yield replace(record, group=group)
    groups.discard("")
    if alone:
        listing.warnings.append(
            f"--group-regex {expression} finds nothing in the paths of {count_of(alone, 'file')}, "
            "each of which is a group of its own"
        )
    names = name_some(sorted(groups, key=natural_key))
    listing.remarks.append(f"{count_of(len(groups), 'group')} by --group-regex: {names}")


def _check_free(out: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Check that `out` does not exist, is empty, or is a dataset that may be replaced."""
    if is_dataset(out):
        if overwrite:
            _check_only_dataset(out, source)
            return
        fault, hint = "contains a dataset already", "use it as it is, replace it with --overwrite"
    elif out.is_dir() and any(out.iterdir()):
        fault, hint = "is not empty", "empty it"
    elif out.exists() and not out.is_dir():
        fault, hint = "is a file", "remove it"
    else:
        return
    raise UsageError(
        f"cannot make a dataset in {out}: it {fault}",
        f"{hint}, or choose another directory with --out",
    )


def _check_only_dataset(out: Path, source: Path | None) -> None:
    """Check that nothing but a dataset would be lost with a directory."""
    names = (entry.name for entry in out.iterdir())
    others = sorted(n for n in names if n not in _OWN_NAMES and not OWN_FILES.fullmatch(n))
    if source is not None and out.resolve() in (source.resolve(), *source.resolve().parents):
        fault = "the source is inside it"
    elif others:
        fault = f"it also contains {name_some(others)}"
    else:
        check_replaceable(out)
        return
    raise UsageError(f"cannot replace the dataset {out}: {fault}", "choose another --out")


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Yield a hidden folder next to `out` to build the dataset in; it is removed afterwards."""
    where = ""
    try:
        with workspace(out.parent, out.name[:80], kind=_UNFINISHED) as staging:
            where = str(staging)
            yield staging
    except OSError as error:
        if not where or error.errno in _NO_ROOM or str(error.filename).startswith(where):
            raise write_error(out, error) from error
        raise


def _publish(staging: Path, out: Path, *, overwrite: bool) -> None:
    """Rename the finished dataset to `out`, in place of an earlier one that may be replaced."""
    if overwrite and is_dataset(out):
        replace_directory_atomic(staging, out)
        return
    try:
        staging.rename(out)
    except OSError:
        # `out` is an empty folder that cannot be replaced (Windows, or another disk): fill it.
        out.mkdir(exist_ok=True)
        _check_free(out)
        for child in sorted(staging.iterdir(), key=lambda path: path.name == DATASET_NAME):
            shutil.move(child, out / child.name)


def _open_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Map the gray images of the scan; none for other kinds of files."""
    if not path.stat().st_size:
        return np.empty((0, SIDE, SIDE), np.uint8)
    return np.memmap(path, np.uint8, "r").reshape(-1, SIDE, SIDE)


def _find_root(listing: Listing, staging: Path, options: ImportConfig) -> Path | str:
    if listing.unpacked:
        return listing.root.relative_to(staging).as_posix()
    return IMAGES_NAME if options.copy_images else listing.root


def _settle_labels(listing: Listing, scan: Scan, *, source: Source, least: int) -> tuple[str, ...]:
    """Return the labels in their order; there must be images of at least one or two."""
    seen = scan.columns.labels
    if not seen:
        if not scan.skipped:
            raise DataError(f"{source} holds no images", _CLASSES_HINT)
        files = count_of(scan.skipped, "file")
        raise DataError(
            f"no usable images in {source}: {files} skipped, the first is {scan.first_skipped}",
            next((_HINTS[each] for each in _HINTS if _is_all(scan, each)), _CLASSES_HINT),
        )
    if len(seen) < least:
        skipped = count_of(scan.skipped, "file")
        reasons = f"; {skipped} skipped: {name_reasons(scan)}" if scan.skipped else ""
        raise DataError(
            f"expected images of at least 2 classes in {source}, received "
            f"{count_of(len(scan.columns), 'image')} of {next(iter(seen))!r} only{reasons}",
            f"{_CLASSES_HINT}; --one-class allows one class, to evaluate on",
        )
    if listing.labels is None:
        return tuple(sorted(seen, key=natural_key))
    known = dict.fromkeys(map(compose_label, listing.labels))
    unknown = [label for label in seen if label not in known]
    if unknown:
        raise DataError(
            f"labels of images in {source} are not in the classes file: {name_some(unknown)}",
            "add them to the file given to --classes-file, or omit the option",
        )
    return tuple(known)


def _is_all(scan: Scan, start: str) -> bool:
    """Return whether all files were skipped for a reason that begins like this."""
    return all(reason.startswith(start) for reason in scan.reasons)


def _join_splits(path: Path, division: Division, examples: dict[int, Row | None]) -> Iterator[Row]:
    """Yield the rows of the first pass with their splits; keep the rows needed as examples."""
    names = dict(enumerate(SPLITS)) | {-1: ""}
    for number, (row, split) in enumerate(zip(read_rows(path), division.splits, strict=True)):
        joined = row._replace(split=names[int(split)])
        if number in examples:
            examples[number] = joined
        yield joined
