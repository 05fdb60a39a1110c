"""Files of rows that survive whatever stops the work, and go on where it stopped.

Rows grow in `NAME.partial`, handed to the system batch by batch; only in the end it becomes `NAME`.
`NAME.partial` is the truth: its whole rows are done, a row that is cut off is not. What job it
belongs to stands in `NAME.partial.json`.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cnnclf.errors import UsageError
from cnnclf.files import write_error
from cnnclf.prediction.job import Job, check_job, write_job
from cnnclf.prediction.parquet import check_parquet, write_parquet
from cnnclf.prediction.rows import CSV, JSON_LINES, Columns, Prediction, RowFormat
from cnnclf.prediction.summary import SoFar

Mode = Literal["new", "resume", "overwrite"]
_MOST_LINES = 4096  # kept back from the system at most


@dataclass(frozen=True)
class FileFormat:
    """A row of `FILE_FORMATS`.

    Args:
        rows: How rows are written while the work goes on.
        finish: Makes the file (second) of the rows (first) in the end; None if they are the file.
        check: Refuses where it cannot be written.
    """

    rows: RowFormat
    finish: Callable[[Path, Path, Columns], None] | None = None
    check: Callable[[], None] | None = None


FILE_FORMATS: dict[str, FileFormat] = {
    ".csv": FileFormat(CSV),
    ".jsonl": FileFormat(JSON_LINES),
    ".parquet": FileFormat(JSON_LINES, write_parquet, check_parquet),
}


def check_row_file(path: Path, mode: Mode = "new") -> None:
    """Refuse early what cannot be written, or would take the place of something.

    Args:
        path: The file.
        mode: `new` refuses a file that is there, finished or not; `resume` goes on with one that is
            not finished and begins one that is not there; `overwrite` begins anew.

    Raises:
        UsageError: The suffix is no row of `FILE_FORMATS`, the path is a folder, or there is a
            file already.
        MissingPackageError: The format needs a package that is not installed.
    """
    form = FILE_FORMATS.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            f"expected a file name that ends in {_one_of(list(FILE_FORMATS))}, received {path}",
            f"for example: --out {path.with_suffix('.csv')}" if path.name else "",
        )
    if path.is_dir():
        raise UsageError(f"expected a file to write, {path} is a folder", "give another --out")
    if form.check is not None:
        form.check()
    places = _Places.of(path)
    if places.is_direct:
        if mode == "resume" or form.finish is not None:
            what = "resume" if mode == "resume" else f"write {path.suffix} to"
            raise UsageError(f"expected a file to {what}, {path} is a pipe or device")
        return
    has_rows = _has_content(places.partial)
    if mode == "new" and has_rows:
        raise UsageError(
            f"expected a new file, {places.partial} holds the rows of an interrupted job",
            "go on with --resume, or start anew with --overwrite"
            if places.job.exists()
            else "start anew with --overwrite, or give another --out",
        )
    if mode == "new" and path.exists():
        raise UsageError(
            f"expected a new file, {path} exists", "replace it with --overwrite, or change --out"
        )
    if mode == "resume" and path.exists() and not has_rows and not places.has_begun():
        places.job.unlink(missing_ok=True)  # left by a kill after the last rename
        raise UsageError(
            f"expected an interrupted job to resume, {path} is finished",
            "start anew with --overwrite, or give another --out",
        )


def is_interrupted(path: Path) -> bool:
    """Tell whether there is an interrupted job that wrote anything, if only a heading."""
    places = _Places.of(path)
    return not places.is_direct and _has_content(places.partial)


def name_partial(path: Path) -> Path | None:
    """Name the file in which rows grow; None for a pipe or device, which is written directly."""
    places = _Places.of(path)
    return None if places.is_direct else places.partial


@contextlib.contextmanager
def open_rows(
    path: Path, columns: Columns, *, job: Job | None = None, mode: Mode = "new"
) -> Iterator["RowFile"]:
    """Open a file of rows, its format by its suffix.

    If the work is broken off, `path` stays as it was and the rows so far stay in `path.partial`.

    Args:
        path: The file; a pipe or device is written directly.
        columns: What the rows hold.
        job: Who may go on with it later; None for nobody.
        mode: See `check_row_file`.

    Raises:
        UsageError: See `check_row_file`; or another job's rows are there, or are being written.
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    check_row_file(path, mode)
    places = _Places.of(path)
    form = FILE_FORMATS[path.suffix.lower()]
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
            descriptor = os.open(places.partial, flags, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        stack.callback(os.close, descriptor)
        rows = RowFile(path, columns, form.rows, descriptor)
        if not places.is_direct:
            lock_rows(descriptor, places.partial)
            _begin(rows, places, job, mode)
        rows.write_heading()
        try:
            yield rows
        finally:
            rows.flush()
        if not places.is_direct:
            _finish(rows, places, form, job)


def lock_rows(descriptor: int, partial: Path) -> None:
    """Keep a second process from writing the same rows, where the system can.

    Args:
        descriptor: An open file; the lock lasts as long as it is open.
        partial: What is written, for the message.

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
            return  # not every file system has locks
        raise UsageError(
            f"expected to be the only one, another process is writing {partial}",
            "wait for it, or give another --out",
        ) from error


@dataclass(eq=False)
class RowFile:
    """Rows on their way into a file.

    Attributes:
        so_far: What is in the file, if a job goes on.
    """

    path: Path
    columns: Columns
    form: RowFormat
    descriptor: int
    so_far: SoFar = field(default_factory=SoFar)
    _lines: list[str] = field(default_factory=list, repr=False)
    _written: int = 0
    _flushed: int = 0

    @property
    def kept(self) -> int:
        """Rows that are in the file for certain; if the disk is full there may be a few more."""
        return self.so_far.summary.earlier + self._flushed

    def write(self, prediction: Prediction) -> None:
        """Write a row."""
        self._lines.append(self.form.line(prediction, self.columns))
        self._written += 1
        if len(self._lines) >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Hand all rows written so far to the system.

        Raises:
            DeviceError: The disk is full; whole rows and perhaps a part of one are written.
            RunError: It cannot be written.
            BrokenPipeError: The reader of a pipe went away.
        """
        lines, self._lines = self._lines, []  # broken off, nothing is written twice
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
        """Begin the file, unless it goes on."""
        if not self.so_far.summary.earlier:
            self._lines.append(self.form.heading(self.columns))


@dataclass(frozen=True)
class _Places:
    """Where a file of rows grows, where its job is written down, and where it is made of rows."""

    target: Path
    partial: Path
    job: Path
    made: Path
    is_direct: bool

    def has_begun(self) -> bool:
        """Tell a job killed before its first row from the mere record of a finished one."""
        return self.partial.exists() and self.job.exists()

    @classmethod
    def of(cls, path: Path) -> "_Places":
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():  # a pipe or device
            return cls(target, target, target, target, is_direct=True)
        partial = target.with_name(f"{target.name}.partial")
        job = target.with_name(f"{partial.name}.json")
        # The same name each time, so that nothing stays behind whenever the work is killed.
        made = target.with_name(f"{partial.name}{target.suffix}")
        return cls(target, partial, job, made, is_direct=False)


def _begin(rows: RowFile, places: _Places, job: Job | None, mode: Mode) -> None:
    """Go on with the rows that are there, or begin anew."""
    is_new = os.fstat(rows.descriptor).st_size == 0
    # Killed before its first row, a job that may replace a file is told from others by its record.
    if mode == "resume" and job is not None and (not is_new or places.target.exists()):
        may_replace = check_job(places.job, job, places.partial)
        if places.target.exists() and not may_replace:
            raise UsageError(
                f"expected no file at {places.target} before its job is finished, there is one",
                "move it away, or start anew with --overwrite",
            )
        end = _read_rows(rows, places.partial)
        os.ftruncate(rows.descriptor, end)
        os.lseek(rows.descriptor, end, os.SEEK_SET)
        return
    if mode == "new" and not is_new:
        raise UsageError(f"expected a new file, another process is writing {places.partial}")
    os.ftruncate(rows.descriptor, 0)
    if job is None:
        places.job.unlink(missing_ok=True)
    else:
        write_job(places.job, job, may_replace=mode == "overwrite")


def _read_rows(rows: RowFile, partial: Path) -> int:
    """Count the whole rows of an interrupted job; return where the last one ends."""
    heading = rows.form.heading(rows.columns).encode()
    with partial.open("rb") as file:
        if file.read(len(heading)) != heading:
            return 0
        end = 0
        for row in rows.form.read(file, rows.columns):
            rows.so_far.add(row.cells)
            end = row.end
    return end


def _finish(rows: RowFile, places: _Places, form: FileFormat, job: Job | None) -> None:
    """Give the rows their name."""
    try:
        os.fsync(rows.descriptor)
        if form.finish is None:
            os.replace(places.partial, places.target)  # noqa: PTH105 (says what it does)
        else:
            if job is not None:  # killed from here on, it may find its own file and replace it
                write_job(places.job, job, may_replace=True)
            try:
                form.finish(places.partial, places.made, rows.columns)
                os.replace(places.made, places.target)  # noqa: PTH105 (says what it does)
            finally:
                places.made.unlink(missing_ok=True)
            places.partial.unlink()
        places.job.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(rows.path, error) from error


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:  # not there; or whatever it is, opening it says so
        return False


def _one_of(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
