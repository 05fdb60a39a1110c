"""Files of rows that survive any interruption and can be resumed.

Rows are appended to `NAME.partial`, handed to the operating system batch by batch; at the end it is
renamed to `NAME`. `NAME.partial` is the only record of what is done: complete rows are done, an
incomplete last row is not. `NAME.partial.json` describes the job. Decision 0011 says why this is
not a database.
"""

import contextlib
import csv
import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cnnclf.errors import UsageError
from cnnclf.full_disks import write_error
from cnnclf.prediction.job import (
    PredictionJob,
    check_job,
    is_finished,
    remember_finished,
    write_job,
)
from cnnclf.prediction.parquet import check_parquet, read_paths, write_parquet
from cnnclf.prediction.path_set import PathSet
from cnnclf.prediction.rows import CSV, JSON_LINES, Prediction, RowColumns, RowFormat
from cnnclf.prediction.summary import SoFar

Mode = Literal["new", "resume", "overwrite"]
_MAX_LINES = 4096  # buffered at most


@dataclass(frozen=True)
class FileFormat:
    """A row of `FILE_FORMATS`.

    Args:
        rows: How rows are written while the job runs.
        finish: Converts a file of rows at the end to another (`columns=` has their columns); None
            if they are the final file.
        check: Raises if the format cannot be written here.
    """

    rows: RowFormat
    finish: Callable[..., None] | None = None
    check: Callable[[], None] = lambda: None


FILE_FORMATS: dict[str, FileFormat] = {
    ".csv": FileFormat(CSV),
    ".jsonl": FileFormat(JSON_LINES),
    ".parquet": FileFormat(JSON_LINES, write_parquet, check_parquet),
}


def check_row_file(path: Path, mode: Mode = "new") -> None:
    """Check early that the file can be written and replaces nothing unintentionally.

    Args:
        path: The file.
        mode: `new` raises if the file exists, finished or not; `resume` continues an unfinished
            file and starts a missing one; `overwrite` starts again.

    Raises:
        UsageError: The suffix is not in `FILE_FORMATS`, the path is a folder, or the file exists.
        MissingPackageError: The format needs a package that is not installed.
    """
    form = FILE_FORMATS.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"expected a file name that ends in {_one_of(list(FILE_FORMATS))}, received {path}",
            f"for example: --out {path.with_suffix('.csv')}" if path.name else "",
        )
    if path.is_dir():
        raise UsageError(
            f"cannot write rows to {path}: it is a folder", "give a file, such as rows.csv"
        )
    form.check()
    files = _Files.of(path)
    if files.is_direct:
        if mode == "resume" or form.finish is not None:
            what = "resume" if mode == "resume" else f"write {path.suffix} to"
            raise UsageError(f"cannot {what} {path}: it is a pipe or device, not a file")
        return
    has_rows = _has_content(files.partial)
    if mode == "new" and has_rows:
        raise UsageError(
            f"{files.partial} contains the rows of an interrupted job",
            "continue with --resume, or start again with --overwrite"
            if files.job.exists()
            else "start again with --overwrite, or choose another --out",
        )
    if mode == "new" and path.exists():
        raise UsageError(
            f"{path} already exists", "replace it with --overwrite, or choose another --out"
        )
    if mode == "resume" and path.exists() and not has_rows and not files.has_begun():
        raise UsageError(
            f"there is nothing to resume: {path} is finished",
            "start again with --overwrite, or choose another --out",
        )


def settle_finished(
    path: Path, inputs: Sequence[str], *, model: str, asked: Mapping[str, Any] | None = None
) -> bool:
    """Settle a job whose rows are complete under their final name; do nothing otherwise.

    Returns:
        Whether it is such a job; what a kill at its very end left is removed.
    """
    files = _Files.of(path)
    if (
        files.is_direct
        or files.partial.exists()
        or not is_finished(files.target, inputs, model=model, asked=asked or {})
    ):
        return False
    files.job.unlink(missing_ok=True)
    return True


def read_done(path: Path) -> PathSet:
    """Return the paths, as they were written, of a finished file of a job that can be resumed."""
    done = PathSet()
    if path.suffix.lower() == ".parquet":
        for found in read_paths(path):
            done.add(found)
        return done
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        if path.suffix.lower() == ".jsonl":
            for line in file:
                done.add(str(json.loads(line)["path"]))
        else:
            rows = csv.reader(file)
            next(rows, None)  # the heading
            for row in rows:
                done.add(row[0])
    return done


def is_interrupted(path: Path) -> bool:
    """Return whether there is an interrupted job that wrote anything, even only a heading."""
    files = _Files.of(path)
    return not files.is_direct and _has_content(files.partial)


def name_partial(path: Path) -> Path | None:
    """Return the file that rows are appended to; None for a pipe or device."""
    files = _Files.of(path)
    return None if files.is_direct else files.partial


@contextlib.contextmanager
def open_rows(
    path: Path, columns: RowColumns, *, job: PredictionJob | None = None, mode: Mode = "new"
) -> Iterator["RowFile"]:
    """Open a file of rows; the suffix determines its format.

    After an interruption `path` is unchanged and the rows so far are in `path.partial`.

    Args:
        path: The file; a pipe or device is written directly.
        columns: Columns of the rows.
        job: The job, recorded so that it can be resumed; None if it cannot.
        mode: See `check_row_file`.

    Raises:
        UsageError: See `check_row_file`; or the rows belong to another job or are being written by
            another process.
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    check_row_file(path, mode)
    files = _Files.of(path)
    form = FILE_FORMATS[path.suffix.lower()]
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
            descriptor = os.open(files.partial, flags, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        stack.callback(os.close, descriptor)
        rows = RowFile(path, columns, form.rows, descriptor)
        if not files.is_direct:
            lock_rows(descriptor, files.partial)
            _begin(rows, files, job, mode)
        rows.write_heading()
        try:
            yield rows
        finally:
            rows.flush()
        if not files.is_direct:
            _finish(rows, files, form, job)


def lock_rows(descriptor: int, partial: Path) -> None:
    """Prevent a second process from writing the same rows, where the system supports locks.

    Raises:
        UsageError: Another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            return  # not every file system supports locks
        raise UsageError(
            f"another process is writing {partial}",
            "wait until it ends, or choose another --out",
        ) from error


@dataclass(eq=False)
class RowFile:
    """Writes rows to a file.

    Attributes:
        so_far: The rows that were in the file when the job was resumed.
    """

    path: Path
    columns: RowColumns
    form: RowFormat
    descriptor: int
    so_far: SoFar = field(default_factory=SoFar)
    _lines: list[str] = field(default_factory=list, repr=False)
    _written: int = 0
    _flushed: int = 0

    @property
    def kept(self) -> int:
        """Rows that are certainly in the file; if the disk is full there may be a few more."""
        return self.so_far.summary.earlier + self._flushed

    def write(self, prediction: Prediction) -> None:
        """Write a row."""
        self._lines.append(self.form.line(prediction, self.columns))
        self._written += 1
        if len(self._lines) >= _MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand all rows written so far to the operating system.

        Raises:
            DeviceError: The disk is full; complete rows and perhaps a part of one are written.
            RunError: The file cannot be written.
            BrokenPipeError: The reader closed the pipe.
        """
        lines, self._lines = self._lines, []  # if interrupted, nothing is written twice
        data = memoryview("".join(lines).encode("utf-8", "surrogateescape"))
        try:
            while data:
                data = data[os.write(self.descriptor, data) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise write_error(self.path, error) from error
        self._flushed = self._written

    def write_heading(self) -> None:
        """Write the column names, unless the file has rows already."""
        if not self.so_far.summary.earlier:
            self._lines.append(self.form.heading(self.columns))


@dataclass(frozen=True)
class _Files:
    """The final file, the rows so far, the record of the job, and the converted rows."""

    target: Path
    partial: Path
    job: Path
    converted: Path
    is_direct: bool

    def has_begun(self) -> bool:
        """Tell a job killed before its first row from a leftover record of a finished one."""
        return self.partial.exists() and self.job.exists()

    @classmethod
    def of(cls, path: Path) -> "_Files":
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():  # a pipe or device
            return cls(target, target, target, target, is_direct=True)
        partial = target.with_name(f"{target.name}.partial")
        job = target.with_name(f"{partial.name}.json")
        # Always the same name, so that a killed process leaves at most one such file.
        converted = target.with_name(f"{partial.name}{target.suffix}")
        return cls(target, partial, job, converted, is_direct=False)


def _begin(rows: RowFile, files: _Files, job: PredictionJob | None, mode: Mode) -> None:
    """Continue after the existing rows, or start again."""
    is_new = os.fstat(rows.descriptor).st_size == 0
    # A job killed before its first row that may replace a file is recognized by its record.
    if mode == "resume" and job is not None and (not is_new or files.target.exists()):
        may_replace = check_job(files.job, job, rows=files.partial)
        if files.target.exists() and not may_replace:
            raise UsageError(
                f"{files.target} was created while its job was interrupted",
                "move it away, or start again with --overwrite",
            )
        end = _read_rows(rows, files.partial)
        os.ftruncate(rows.descriptor, end)
        os.lseek(rows.descriptor, end, os.SEEK_SET)
        return
    if mode == "new" and not is_new:
        raise UsageError(f"another process is writing {files.partial}")
    os.ftruncate(rows.descriptor, 0)
    if job is None:
        files.job.unlink(missing_ok=True)
    else:
        write_job(files.job, job, may_replace=mode == "overwrite")


def _read_rows(rows: RowFile, partial: Path) -> int:
    """Count the complete rows of an interrupted job; return the end of the last one in bytes."""
    heading = rows.form.heading(rows.columns).encode()
    with partial.open("rb") as file:
        if file.read(len(heading)) != heading:
            return 0
        end = 0
        for row in rows.form.read(file, rows.columns):
            rows.so_far.add(row.cells)
            end = row.end
    return end


def _finish(rows: RowFile, files: _Files, form: FileFormat, job: PredictionJob | None) -> None:
    """Convert the rows if necessary and rename them to the final file."""
    try:
        os.fsync(rows.descriptor)
        if form.finish is None:
            os.replace(files.partial, files.target)  # noqa: PTH105 (says what it does)
            _remember(files, job)
        else:
            if job is not None:  # if killed after this, resuming may replace its own target
                write_job(files.job, job, may_replace=True)
            try:
                form.finish(files.partial, files.converted, columns=rows.columns)
                os.replace(files.converted, files.target)  # noqa: PTH105 (says what it does)
                _remember(files, job)
            finally:
                files.converted.unlink(missing_ok=True)
            files.partial.unlink()
        files.job.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(rows.path, error) from error


def _remember(files: _Files, job: PredictionJob | None) -> None:
    if job is not None:
        remember_finished(files.target, job)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:  # missing; opening it reports any other problem
        return False


def _one_of(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
