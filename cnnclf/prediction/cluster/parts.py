"""A directory of parts: each worker writes the rows of its chunks, and the driver names the whole.

Parts come into `NAME.partial/`, each under a temporary name first; only when all are there it
becomes `NAME/`. A chunk that is done again writes the same part again. What job they belong to
stands beside them, in a hidden file.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnclf.errors import RunError, UsageError
from cnnclf.files import (
    atomic_path,
    check_replaceable,
    follow_link,
    replace_directory_atomic,
    write_error,
)
from cnnclf.prediction.job import Job, check_job, write_job
from cnnclf.prediction.row_file import FILE_FORMATS, Mode, lock_rows
from cnnclf.prediction.rows import Cell, Columns, Prediction
from cnnclf.prediction.summary import SoFar

PART_FORMATS = tuple(suffix.removeprefix(".") for suffix in FILE_FORMATS)

_NAME = re.compile(r"part-([0-9]{6,})(\.[a-z]+)")
_UNFINISHED = ".part-"
_JOB_FILE, _LOCK_FILE = ".job.json", ".lock"
_ESCAPED = re.compile(r"\\(udc[89a-f][0-9a-f])")
_READ_ROWS = 32_768


@dataclass(frozen=True)
class PartWriter:
    """Writes parts; goes to the workers.

    Args:
        directory: Where to, an absolute path.
        suffix: A key of `FILE_FORMATS`.
        columns: What the rows hold.
    """

    directory: Path
    suffix: str
    columns: Columns

    def check(self) -> None:
        """Refuse a node that has not the directory.

        Raises:
            RunError: It is not there.
            MissingPackageError: The format needs a package that is not installed.
        """
        if not self.directory.is_dir():
            raise RunError(
                f"expected the directory {self.directory}, found nothing",
                "write to a disk that all nodes share, or to one file: --out rows.csv",
            )
        check = FILE_FORMATS[self.suffix].check
        if check is not None:
            check()

    def path(self, index: int) -> Path:
        """Name the part of a chunk."""
        return self.directory / f"part-{index:06d}{self.suffix}"

    def write(self, index: int, predictions: Sequence[Prediction]) -> None:
        """Write the rows of a chunk, whole or not at all.

        Raises:
            DeviceError: The disk is full.
            RunError: It cannot be written.
        """
        form = FILE_FORMATS[self.suffix]
        lines = [form.rows.line(prediction, self.columns) for prediction in predictions]
        text = "".join([form.rows.heading(self.columns), *lines])
        data = text.encode("utf-8", "surrogateescape")
        with atomic_path(self.path(index)) as temporary:
            kept = temporary if form.finish is None else temporary.with_suffix(".rows")
            try:
                kept.write_bytes(data)
                if form.finish is not None:
                    form.finish(kept, temporary, self.columns)
                    kept.unlink()
            except OSError as error:
                raise write_error(self.path(index), error) from error


@dataclass(eq=False)
class Parts:
    """A directory of parts on its way.

    Attributes:
        writer: For the workers.
        so_far: What is there already, if a job goes on.
        first: Number of the next chunk.
    """

    writer: PartWriter
    so_far: SoFar = field(default_factory=SoFar)
    first: int = 0
    _written: set[int] = field(default_factory=set, repr=False)

    def add(self, index: int) -> None:
        """Take note that a worker wrote the part of a chunk."""
        self._written.add(index)

    @property
    def count(self) -> int:
        """How many parts there are."""
        return len(self._written)

    def check_all(self) -> None:
        """Refuse to end while a part is not where it should be.

        Raises:
            RunError: One is missing.
        """
        for index in sorted(self._written):
            if not self.writer.path(index).exists():
                raise RunError(
                    f"expected {self.writer.path(index)}, which a worker has written; it is not "
                    "there",
                    "write to a disk that all nodes share, or to one file: --out rows.csv",
                )


def check_parts(path: Path, suffix: str, mode: Mode) -> None:
    """Refuse early what cannot be written, or would take the place of something.

    Args:
        path: The directory.
        suffix: A key of `FILE_FORMATS`.
        mode: As of `row_file.check_row_file`.

    Raises:
        UsageError: There is something already.
        RunError: The directory cannot be replaced.
        MissingPackageError: The format needs a package that is not installed.
    """
    check_replaceable(path)
    check = FILE_FORMATS[suffix].check
    if check is not None:
        check()
    partial = _partial(path)
    is_begun = (partial / _JOB_FILE).exists()
    if path.exists() and not path.is_dir():
        raise UsageError(f"expected a directory for parts, {path} is a file", "give another --out")
    if mode == "new" and is_begun:
        raise UsageError(
            f"expected a new directory, {partial} holds the parts of an interrupted job",
            "go on with --resume, or start anew with --overwrite",
        )
    if mode == "new" and _has_entries(path):
        raise UsageError(
            f"expected a new directory, {path} exists",
            "replace it with --overwrite, or change --out",
        )
    if mode == "resume" and _has_entries(path) and not is_begun:
        raise UsageError(
            f"expected an interrupted job to resume, {path} is finished",
            "start anew with --overwrite, or give another --out",
        )
    for directory in (path, partial):
        _check_ours(directory)


@contextlib.contextmanager
def open_parts(
    path: Path, suffix: str, columns: Columns, *, job: Job, mode: Mode = "new"
) -> Iterator[Parts]:
    """Open a directory for parts; it gets its name when the block succeeds.

    Args:
        path: The directory.
        suffix: A key of `FILE_FORMATS`.
        columns: What the rows hold.
        job: Who may go on with it later.
        mode: As of `row_file.check_row_file`.

    Raises:
        UsageError: See `check_parts`; or parts of another job or format are there.
        DeviceError: The disk is full.
        RunError: It cannot be written, or a part is missing in the end.
    """
    check_parts(path, suffix, mode)
    path = follow_link(path).absolute()
    partial = _partial(path)
    with contextlib.ExitStack() as stack:
        try:
            partial.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(partial / _LOCK_FILE, os.O_WRONLY | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            lock_rows(descriptor, partial)
            parts = Parts(PartWriter(partial, suffix, columns))
            _begin(parts, path, job, mode)
        except OSError as error:
            raise write_error(path, error) from error
        yield parts
        parts.check_all()
        try:
            _finish(partial, path)
        except OSError as error:
            raise write_error(path, error) from error


def _begin(parts: Parts, path: Path, job: Job, mode: Mode) -> None:
    """Go on with the parts that are there, or begin anew."""
    partial = parts.writer.directory
    record = partial / _JOB_FILE
    if mode == "resume" and record.exists():
        may_replace = check_job(record, job, partial)
        if _has_entries(path) and not may_replace:
            raise UsageError(
                f"expected no directory {path} before its job is finished, there is one",
                "move it away, or start anew with --overwrite",
            )
        _read_parts(parts)
        return
    _remove(partial, all_parts=True)
    write_job(record, job, may_replace=mode == "overwrite")


def _finish(partial: Path, path: Path) -> None:
    """Give the directory its name."""
    _remove(partial, all_parts=False)
    (partial / _LOCK_FILE).unlink()
    if path.exists() and not _has_entries(path):
        path.rmdir()
    replace_directory_atomic(partial, path)
    (path / _JOB_FILE).unlink()


def _partial(path: Path) -> Path:
    path = follow_link(path)
    return path.with_name(f"{path.name}.partial")


def _has_entries(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _check_ours(directory: Path) -> None:
    """Refuse to replace a directory that holds anything but parts and what writing them left."""
    for entry in directory.iterdir() if directory.is_dir() else ():
        is_ours = entry.name in {_JOB_FILE, _LOCK_FILE} or entry.name.startswith(_UNFINISHED)
        if not is_ours and not _NAME.fullmatch(entry.name):
            raise UsageError(
                f"expected nothing but parts of a prediction in {directory}, found {entry.name}",
                "give another --out",
            )


def _remove(directory: Path, *, all_parts: bool) -> None:
    """Remove what workers that were lost have left, and the parts as well if they shall go."""
    for entry in list(directory.iterdir()):
        if entry.name.startswith(_UNFINISHED) or (all_parts and _NAME.fullmatch(entry.name)):
            entry.unlink(missing_ok=True)


def _read_parts(parts: Parts) -> None:
    """Count the rows of the parts that are there."""
    for entry in sorted(parts.writer.directory.iterdir()):
        name = _NAME.fullmatch(entry.name)
        if name is None:
            continue
        if name[2] != parts.writer.suffix:
            raise UsageError(
                f"expected parts that end in {name[2]}, as they are in {entry.parent}, "
                f"received {parts.writer.suffix}",
                f"go on with --parts {name[2].removeprefix('.')}, or start anew with --overwrite",
            )
        for cells in _read_part(entry, parts.writer.columns):
            parts.so_far.add(cells)
        parts.add(int(name[1]))
        parts.first = max(parts.first, int(name[1]) + 1)


def _read_part(path: Path, columns: Columns) -> Iterator[dict[str, Cell]]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_READ_ROWS, columns=["path", "label", "error"]):
                for row in batch.to_pylist():
                    yield {**row, "path": _unescape(row["path"])}
        return
    form = FILE_FORMATS[path.suffix].rows
    with path.open("rb") as file:
        file.seek(len(form.heading(columns).encode()))
        for row in form.read(file, columns):
            yield row.cells


def _unescape(path: str) -> str:
    """Give back the bytes of a file name that are no text, which parquet holds escaped."""
    return _ESCAPED.sub(lambda match: chr(int(match[1][1:], 16)), path)
