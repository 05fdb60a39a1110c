"""From a source to a dataset directory: list, check in parallel, find duplicates, split, write.

The first pass writes the rows to a temporary file and keeps only `SampleColumns` in memory; the
second adds the splits, which depend on all images. The dataset appears whole or not at all.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cnnclf.data.checks import find_duplicates
from cnnclf.data.manifest import (
    DATASET_NAME,
    Counts,
    is_dataset,
    save_dataset,
)
from cnnclf.data.manifest_rows import SPLITS, Row, read_rows
from cnnclf.errors import DataError
from cnnclf.files import write_error
from cnnclf.importers.importer import Importer, ImportOptions, Listing
from cnnclf.importers.reporting import tell_duplicates, tell_labels, tell_skipped
from cnnclf.importers.scan import ROWS_NAME, SKIPPED_NAME, Harvest, gather
from cnnclf.importers.splitting import Division, divide
from cnnclf.names import count_of, name_some, natural_key
from cnnclf.progress import Progress

IMAGES_NAME: Final = "images"
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
_CLASSES_HINT: Final = (
    "put the images of each class into a folder named after it, or give a CSV file with the "
    "columns path,label"
)


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Args:
        directory: The dataset.
        source: What was imported.
        format: Name of the importer.
        reason: Why that one.
        labels: In the order of the class indices.
        counts: Images by split and label.
        images: Rows of the manifest.
        skipped: Rows of `skipped.csv`.
        failed: Those of them that were listed as images and cannot be used.
        skipped_reasons: How often which reason occurs there, the most frequent first; at most 10.
        repeats: Images that repeat an earlier one.
        split: `made`, `kept`, or `kept, val from train`.
        fingerprint: Of the dataset.
        notes: What is worth knowing.
        warnings: What the user may have to act on.
        seconds: Time it took.
    """

    directory: Path
    source: Path
    format: str
    reason: str
    labels: tuple[str, ...]
    counts: Counts
    images: int
    skipped: int
    failed: int
    skipped_reasons: dict[str, int]
    repeats: int
    split: str
    fingerprint: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {**asdict(self), "directory": str(self.directory), "source": str(self.source)}


def run_import(
    source: Path,
    out: Path,
    *,
    importer: Importer,
    reason: str,
    options: ImportOptions,
    progress: Progress,
) -> ImportReport:
    """Import a source into a new dataset directory.

    Args:
        source: A folder or file; never written to.
        out: The dataset directory; must not exist, or be empty.
        importer: The one to use.
        reason: Why that one.
        options: What the user said.
        progress: Hears of each image; notes and warnings go there, too.

    Raises:
        DataError: `out` is not empty, or there are no images of at least two labels.
        DeviceError: The disk is full.
        RunError: `out` cannot be written.
    """
    start = time.perf_counter()
    started_ns = time.time_ns()
    source, out = Path(os.path.abspath(source)), Path(os.path.abspath(out))  # noqa: PTH100
    _check_free(out)
    with _staging(out) as staging:
        listing = importer.read(source, staging / IMAGES_NAME, options, progress)
        copies = staging / IMAGES_NAME if options.copy_images and not listing.unpacked else None
        harvest = gather(listing, staging, copies=copies, options=options, progress=progress)
        labels = _settle_labels(listing, harvest, source)
        division = divide(harvest.columns, labels, options)
        duplicates = find_duplicates(
            division.contents, harvest.columns.class_indices(labels), division.splits
        )
        examples: dict[int, Row | None] = dict.fromkeys(duplicates.example_rows())
        inside = listing.unpacked or options.copy_images
        saved = save_dataset(
            staging,
            _join_splits(staging / ROWS_NAME, division, examples),
            labels=labels,
            root=_find_root(listing, staging, options),
            source={
                "path": os.fspath(source),
                "format": importer.name,
                "reason": reason,
                "split": division.kind,
                "seed": options.seed,
                "skipped": harvest.skipped,
                "unread": harvest.unread.total(),
                "remarks": listing.remarks,
                # What is in the dataset itself was written later than the source was looked at.
                "imported_ns": time.time_ns() if inside else started_ns,
            },
        )
        (staging / ROWS_NAME).unlink()
        _publish(staging, out)
    notes, warnings = tell_duplicates(duplicates, examples, kept=division.kind != "made")
    skipped = tell_skipped(harvest, out / SKIPPED_NAME)
    warnings = [*tell_labels(saved.counts, harvest.unread), *division.warnings, *warnings]
    if harvest.unread:
        warnings = [*skipped, *warnings]
    else:
        notes = [*skipped, *notes]
    report = ImportReport(
        directory=out,
        source=source,
        format=importer.name,
        reason=reason,
        labels=labels,
        counts=saved.counts,
        images=saved.rows,
        skipped=harvest.skipped,
        failed=harvest.unread.total(),
        skipped_reasons=dict(harvest.reasons.most_common(10)),
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


def _check_free(out: Path) -> None:
    """Check that `out` is not there yet, or empty."""
    if is_dataset(out):
        fault, hint = "a dataset is there already", "use it as it is, remove it"
    elif out.is_dir() and any(out.iterdir()):
        fault, hint = "the folder is not empty", "empty it"
    elif out.exists() and not out.is_dir():
        fault, hint = "it is a file", "remove it"
    else:
        return
    raise DataError(
        f"expected a new or empty folder for the dataset {out}, but {fault}",
        f"{hint}, or choose another place with --out",
    )


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside `out` to build the dataset in; it is gone afterwards."""
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}.importing")
    try:
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        if error.errno in _NO_ROOM or str(error.filename).startswith(str(staging)):
            raise write_error(out, error) from error
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: Path, out: Path) -> None:
    """Give the finished dataset its name."""
    try:
        staging.rename(out)
    except OSError:
        # An empty folder is in the way that cannot be replaced (Windows, or another disk): fill it.
        out.mkdir(exist_ok=True)
        _check_free(out)
        for child in sorted(staging.iterdir(), key=lambda path: path.name == DATASET_NAME):
            shutil.move(child, out / child.name)


def _find_root(listing: Listing, staging: Path, options: ImportOptions) -> Path | str:
    if listing.unpacked:
        return listing.root.relative_to(staging).as_posix()
    return IMAGES_NAME if options.copy_images else listing.root


def _settle_labels(listing: Listing, harvest: Harvest, source: Path) -> tuple[str, ...]:
    """Fix the order of the labels; there must be images of two at least."""
    seen = harvest.columns.labels
    if not seen:
        if harvest.skipped:
            told = (
                f"of {count_of(harvest.skipped, 'file')} none can be used: {harvest.first_skipped}"
            )
        else:
            told = "there are none"
        raise DataError(f"expected images in {source}, but {told}", _CLASSES_HINT)
    if len(seen) == 1:
        raise DataError(
            f"expected images of at least 2 classes in {source}, received "
            f"{count_of(len(harvest.columns), 'image')} of {next(iter(seen))!r} alone",
            _CLASSES_HINT,
        )
    if listing.labels is None:
        return tuple(sorted(seen, key=natural_key))
    unknown = [label for label in seen if label not in listing.labels]
    if unknown:
        raise DataError(
            f"expected only the {len(listing.labels)} labels that are listed for {source}, "
            f"but images are labeled {name_some(unknown)}",
            "add them to the file given to --classes-file, or leave that option out",
        )
    return listing.labels


def _join_splits(path: Path, division: Division, examples: dict[int, Row | None]) -> Iterator[Row]:
    """Yield the rows of the first pass with their splits; note those wanted as examples."""
    names = dict(enumerate(SPLITS)) | {-1: ""}
    for number, (row, split) in enumerate(zip(read_rows(path), division.splits, strict=True)):
        joined = row._replace(split=names[int(split)])
        if number in examples:
            examples[number] = joined
        yield joined
