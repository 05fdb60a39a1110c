"""The first pass: every image of a source is read, and its row is written immediately."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import SKIPPED_NAME
from cnnclf.data.manifest_rows import Row, read_rows, write_rows
from cnnclf.files import open_csv
from cnnclf.images.oddities import count_oddities
from cnnclf.importers.importer import Listing, Record
from cnnclf.importers.reading import Checked, check_images
from cnnclf.importers.sample_columns import SampleColumns
from cnnclf.progress import Progress, Task

ROWS_NAME: Final = "rows.csv"
GRAY_NAME: Final = "gray.u8"

# Reasons may quote the files; not all of a million are kept.
_MAX_REASONS: Final = 1000
_MAX_LINES: Final = 5
_LINE: Final = re.compile(r"lines? (\d+(?: and \d+)?): ")


class Scan:
    """The result of the first pass; the rows themselves are in a file.

    Args:
        listing: The images to read.
        write_skipped: Writes a row of `skipped.csv`.
        write_gray: Writes the gray values of an image; on disk, as there may be a million.

    Attributes:
        columns: The images that can be used.
        skipped: Number of skipped files.
        failed: Those of them that are lost: they cannot be read or used.
        first_skipped: The first of them, with the reason.
        reasons: Number of skipped files by reason, without the lines of tables.
        oddities: Number of images by what is unusual about their pixels, without numbers.
        lines: By reason, the first lines of a table that it is true of.
        unread: Number of images that cannot be used by label.
    """

    def __init__(
        self,
        listing: Listing,
        write_skipped: Callable[[Sequence[object]], object],
        *,
        write_gray: Callable[[bytes], object],
    ) -> None:
        self.columns = SampleColumns()
        self.skipped = 0
        self.failed = 0
        self.first_skipped = ""
        self.reasons: Counter[str] = Counter()
        self.oddities: Counter[str] = Counter()
        self.lines: dict[str, list[str]] = {}
        self.unread: Counter[str] = Counter()
        self._listing = listing
        listing.empty = self._skip_listed
        self._write_skipped = write_skipped
        self._write_gray = write_gray

    def take(self, chunks: Iterable[list[Checked]], task: Task) -> Iterator[Row]:
        """Yield a row for each image that can be used; list the others as skipped."""
        for chunk in chunks:
            for checked in chunk:
                if checked.info is None:
                    self.unread[checked.record.label] += 1
                    line = f"line {checked.record.line}: " if checked.record.line else ""
                    self._skip(checked.record.path, line + checked.reason)
                    self.failed += 1
                else:
                    self.columns.add(checked)
                    self._write_gray(checked.info.gray)
                    self.oddities += count_oddities((checked.info.note,))
                    yield _to_row(checked)
            self._skip_listed()
            task.advance(len(chunk))
        self._skip_listed()

    def _skip_listed(self) -> None:
        self.failed += len(self._listing.skipped)
        for path, reason in (*self._listing.skipped, *self._listing.unneeded):
            self._skip(path, reason)
        self._listing.skipped.clear()
        self._listing.unneeded.clear()
        for label in self._listing.lost_labels:
            # A damaged table may hold millions of different labels.
            known = label in self.unread or len(self.unread) < _MAX_REASONS
            self.unread[label if known else ""] += 1
        self._listing.lost_labels.clear()

    def _skip(self, path: str, reason: str) -> None:
        self._write_skipped((path, reason))
        self.skipped += 1
        self.first_skipped = self.first_skipped or f"{path}: {reason}"
        line = _LINE.match(reason)
        reason = reason[line.end() :] if line else reason
        known = reason in self.reasons or len(self.reasons) < _MAX_REASONS
        reason = reason if known else "other reasons"
        self.reasons[reason] += 1
        if line and len(lines := self.lines.setdefault(reason, [])) < _MAX_LINES:
            lines.append(line[1])


def scan_images(
    listing: Listing,
    folder: Path,
    *,
    copies: Path | None,
    options: ImportConfig,
    progress: Progress,
) -> Scan:
    """Read and check all images of a listing.

    Args:
        listing: Consumed.
        folder: Where to write `ROWS_NAME`, a manifest without splits, `GRAY_NAME`, the gray images
            of 32 x 32 pixels one after the other (empty for other kinds), and `SKIPPED_NAME`.
        copies: A folder that the good images are copied into; None for no copies.
        options: Options of the import.
        progress: Receives the number of files checked.
    """
    with (
        (folder / SKIPPED_NAME).open(
            "w", encoding="utf-8", errors="surrogateescape", newline=""
        ) as file,
        (folder / GRAY_NAME).open("wb") as gray,
        progress.task("checking images", listing.total, unit="files") as task,
    ):
        write_skipped = open_csv(file)
        write_skipped(("path", "reason"))
        scan = Scan(listing, write_skipped, write_gray=gray.write)
        chunks = check_images(
            listing.root,
            listing.records,
            threads=options.threads,
            copy_to=copies,
            kind=listing.kind,
            bands=options.channels,
        )
        write_rows(folder / ROWS_NAME, scan.take(chunks, task))
    root = copies or listing.root
    _compare_lookalikes(
        scan.columns, folder, root, kind=listing.kind, options=options, progress=progress
    )
    return scan


def _compare_lookalikes(
    columns: SampleColumns,
    folder: Path,
    root: Path,
    *,
    kind: str,
    options: ImportConfig,
    progress: Progress,
) -> None:
    """Read the images that agree in a sample of their pixels again, and compare all pixels."""
    again = columns.find_lookalikes().tolist()
    if not again:
        return
    wanted = set(again)
    records = (
        Record(row.path, row.label)
        for number, row in enumerate(read_rows(folder / ROWS_NAME))
        if number in wanted
    )
    chunks = check_images(
        root, records, threads=options.threads, kind=kind, exact=True, bands=options.channels
    )
    with progress.task("comparing images that look alike", len(again), unit="files") as task:
        rows = iter(again)
        for chunk in chunks:
            for checked, row in zip(chunk, rows, strict=False):
                columns.settle_pixels(row, checked)
            task.advance(len(chunk))


def _to_row(checked: Checked) -> Row:
    record, info = checked.record, checked.info
    if info is None:
        raise ValueError(f"{record.path} was not read: {checked.reason}")
    return Row(
        path=record.path,
        label=record.label,
        split=record.split,
        width=info.width,
        height=info.height,
        mode=info.mode,
        sha256=checked.sha256.hex(),
        group=record.group,
        note=info.note,
    )
