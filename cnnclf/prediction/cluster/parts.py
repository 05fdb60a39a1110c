"""A directory of parts: each worker writes the rows of its chunks as files of their own.

Parts are written to `NAME.partial/`, each under a temporary name first; when all are complete, the
driver renames the directory to `NAME/`. A chunk that is computed again rewrites the same part. A
hidden file in the directory describes the job.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnclf.errors import RunError, UsageError
from cnnclf.files import atomic_path, check_replaceable, follow_link, replace_directory_atomic
from cnnclf.full_disks import write_error
from cnnclf.prediction.job import PredictionJob, check_job, write_job
from cnnclf.prediction.parquet import unescape_path
from cnnclf.prediction.row_file import FILE_FORMATS, Mode, lock_rows
from cnnclf.prediction.rows import Cell, Prediction, RowColumns
from cnnclf.prediction.summary import SoFar

PART_FORMATS = tuple(suffix.removeprefix(".") for suffix in FILE_FORMATS)

_NAME = re.compile(r"part-([0-9]{6,})(\.[a-z]+)")
_UNFINISHED = ".part-"
_JOB_FILE, _LOCK_FILE = ".job.json", ".lock"
_READ_ROWS = 32_768


@dataclass(frozen=True)
class PartWriter:
    """Writes parts; sent to the workers.

    Args:
        directory: The directory, an absolute path.
        suffix: A key of `FILE_FORMATS`.
        columns: Columns of the rows.
    """

    directory: Path
    suffix: str
    columns: RowColumns

    def check(self) -> None:
        """Check that this node can write parts.

        Raises:
            RunError: The directory does not exist here.
            MissingPackageError: The format needs a package that is not installed.
        """
        if not self.directory.is_dir():
            raise RunError(
                f"the directory {self.directory} does not exist",
                "write to a disk that all nodes share, or to one file: --out rows.csv",
            )
        FILE_FORMATS[self.suffix].check()

    def path(self, index: int) -> Path:
        """Return the path of the part of a chunk."""
        return self.directory / f"part-{index:06d}{self.suffix}"

    def write(self, index: int, predictions: Sequence[Prediction]) -> None:
        """Write the rows of a chunk atomically.

        Raises:
            DeviceError: The disk is full.
            RunError: The part cannot be written.
        """
        form = FILE_FORMATS[self.suffix]
        lines = [form.rows.line(prediction, self.columns) for prediction in predictions]
        text = "".join([form.rows.heading(self.columns), *lines])
        data = text.encode("utf-8", "surrogateescape")
        with atomic_path(self.path(index)) as temporary:
            rows = temporary if form.finish is None else temporary.with_suffix(".rows")
            try:
                rows.write_bytes(data)
                if form.finish is not None:
                    form.finish(rows, temporary, columns=self.columns)
                    rows.unlink()
            except OSError as error:
                raise write_error(self.path(index), error) from error


@dataclass(eq=False)
class Parts:
    """A directory of parts that is being written.

    Attributes:
        writer: Writes parts; sent to the workers.
        so_far: The rows that were there when the job was resumed.
        first: Number of the next chunk.
    """

    writer: PartWriter
    so_far: SoFar = field(default_factory=SoFar)
    first: int = 0
    _written: set[int] = field(default_factory=set, repr=False)

    def add(self, index: int) -> None:
        """Record that a worker wrote the part of a chunk."""
        self._written.add(index)

    @property
    def count(self) -> int:
        """Number of parts."""
        return len(self._written)

    def check_all(self) -> None:
        """Check that all parts exist.

        Raises:
            RunError: A part is missing.
        """
        for index in sorted(self._written):
            if not self.writer.path(index).exists():
                raise RunError(
                    f"a worker wrote {self.writer.path(index)}, but it does not exist here",
                    "write to a disk that all nodes share, or to one file: --out rows.csv",
                )


def check_parts(path: Path, suffix: str, *, mode: Mode) -> None:
    """Check early that the parts can be written and replace nothing unintentionally.

    Args:
        path: The directory.
        suffix: A key of `FILE_FORMATS`.
        mode: See `row_file.check_row_file`.

    Raises:
        UsageError: The path exists already.
        RunError: The directory cannot be replaced.
        MissingPackageError: The format needs a package that is not installed.
    """
    check_replaceable(path)
    FILE_FORMATS[suffix].check()
    partial = _partial(path)
    is_begun = (partial / _JOB_FILE).exists()
    if path.exists() and not path.is_dir():
        raise UsageError(
            f"cannot write parts to {path}: it is a file, not a directory", "choose another --out"
        )
    if mode == "new" and is_begun:
        raise UsageError(
            f"{partial} contains the parts of an interrupted job",
            "continue with --resume, or start again with --overwrite",
        )
    if mode == "new" and _has_entries(path):
        raise UsageError(
            f"{path} already exists", "replace it with --overwrite, or choose another --out"
        )
    if mode == "resume" and _has_entries(path) and not is_begun:
        raise UsageError(
            f"there is nothing to resume: {path} is finished",
            "start again with --overwrite, or choose another --out",
        )
    for directory in (path, partial):
        _check_ours(directory)


@contextlib.contextmanager
def open_parts(
    path: Path, suffix: str, *, columns: RowColumns, job: PredictionJob, mode: Mode = "new"
) -> Iterator[Parts]:
    """Open a directory for parts; it is renamed to `path` when the block succeeds.

    Args:
        path: The directory.
        suffix: A key of `FILE_FORMATS`.
        columns: Columns of the rows.
        job: The job, recorded so that it can be resumed.
        mode: See `row_file.check_row_file`.

    Raises:
        UsageError: See `check_parts`; or there are parts of another job or format.
        DeviceError: The disk is full.
        RunError: The directory cannot be written, or a part is missing at the end.
    """
    check_parts(path, suffix, mode=mode)
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


def _begin(parts: Parts, path: Path, job: PredictionJob, mode: Mode) -> None:
    """Continue after the existing parts, or start again."""
    partial = parts.writer.directory
    record = partial / _JOB_FILE
    if mode == "resume" and record.exists():
        may_replace = check_job(record, job, rows=partial)
        if _has_entries(path) and not may_replace:
            raise UsageError(
                f"{path} was created while its job was interrupted",
                "move it away, or start again with --overwrite",
            )
        _read_parts(parts)
        return
    _remove(partial, all_parts=True)
    write_job(record, job, may_replace=mode == "overwrite")


def _finish(partial: Path, path: Path) -> None:
    """Rename the directory to its final name."""
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
    """Refuse to replace a directory with files other than parts and leftovers of writing them."""
    for entry in directory.iterdir() if directory.is_dir() else ():
        is_ours = entry.name in {_JOB_FILE, _LOCK_FILE} or entry.name.startswith(_UNFINISHED)
        if not is_ours and not _NAME.fullmatch(entry.name):
            raise UsageError(
                f"{directory} contains {entry.name}, which is not part of a prediction",
                "choose another --out",
            )


def _remove(directory: Path, *, all_parts: bool) -> None:
    """Remove the temporary files of lost workers, and with `all_parts` also the parts."""
    for entry in list(directory.iterdir()):
        if entry.name.startswith(_UNFINISHED) or (all_parts and _NAME.fullmatch(entry.name)):
            entry.unlink(missing_ok=True)


def _read_parts(parts: Parts) -> None:
    """Count the rows of the existing parts."""
    for entry in sorted(parts.writer.directory.iterdir()):
        name = _NAME.fullmatch(entry.name)
        if name is None:
            continue
        if name[2] != parts.writer.suffix:
            raise UsageError(
                f"the parts in {entry.parent} are {name[2]} files, not {parts.writer.suffix}",
                f"continue with --parts {name[2].removeprefix('.')}, or start again with "
                "--overwrite",
            )
        for cells in _read_part(entry, parts.writer.columns):
            parts.so_far.add(cells)
        parts.add(int(name[1]))
        parts.first = max(parts.first, int(name[1]) + 1)


def _read_part(path: Path, columns: RowColumns) -> Iterator[dict[str, Cell]]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_READ_ROWS, columns=["path", "label", "error"]):
                for row in batch.to_pylist():
                    yield {**row, "path": unescape_path(row["path"])}
        return
    form = FILE_FORMATS[path.suffix].rows
    with path.open("rb") as file:
        file.seek(len(form.heading(columns).encode()))
        for row in form.read(file, columns):
            yield row.cells
