"""Decoded images by row: on disk, in memory, or decoded on each access."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.decoding import (
    DecodingJob,
    Failure,
    Failures,
    Images,
    Rows,
    decode_chunks,
    decode_row,
)
from cnnclf.data.manifest import Dataset
from cnnclf.data.pixel_file import find_pixels, make_pixels
from cnnclf.errors import DataError, DeviceError, ImageError, UsageError
from cnnclf.files import format_bytes
from cnnclf.hardware import count_usable_cpus, read_memory
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Progress


class Pixels(ABC):
    """Decoded images of a dataset.

    Attributes:
        shape: Height, width and channels of every image.
        failed: Rows that cannot be decoded, with the reason. With cache `none` they are found only
            when they are accessed; the mapping is then replaced, never changed.
        nbytes: Size of the pixels on disk or in memory.
    """

    shape: tuple[int, int, int]
    failed: dict[int, str]
    nbytes: int

    @abstractmethod
    def gather(self, rows: npt.NDArray[Any]) -> Images:
        """Return images by row of the dataset. Safe to call from many threads.

        Args:
            rows: int [n], in any order.

        Returns:
            uint8 [n, H, W, C], a new array.

        Raises:
            ImageError: One of the rows cannot be decoded; `failed` has all of them.
            DataError: The pixels were not opened for one of the rows.
        """


def keep_readable(rows: npt.NDArray[np.intp], failed: Mapping[int, str]) -> npt.NDArray[np.intp]:
    """Return the rows that are not among those that failed, in their order."""
    return rows[~np.isin(rows, np.fromiter(failed, np.intp, len(failed)))]


def open_pixels(
    dataset: Dataset,
    spec: InputSpec,
    *,
    cache: str = "disk",
    progress: Progress,
    threads: int | None = None,
    rows: npt.NDArray[Any] | None = None,
) -> Pixels:
    """Decode the images of a dataset, or find them in the cache.

    Args:
        dataset: The images.
        spec: Size and channels of the result.
        cache: `disk` keeps them in the directory of the dataset, or in the user's cache directory
            if that cannot be written; `ram` keeps them in memory; `none` decodes on each access.
        progress: Receives the progress, the size of the pixels, and repaired damage.
        threads: Threads that decode; None means one per processor.
        rows: The rows that will be accessed; None means all.

    Raises:
        UsageError: There is no such cache.
        DeviceError: There is not enough disk space or memory.
        DataError: There are no rows.
    """
    everything = np.arange(len(dataset))
    wanted = everything if rows is None else np.unique(np.asarray(rows, np.intp))
    if not len(wanted):
        raise DataError(f"{dataset.place} has no images to decode")
    job = DecodingJob(dataset, spec, wanted, threads or count_usable_cpus(), progress)
    whole = job.select(everything)
    if cache == "none":
        return _DecodedOnAccess(job)
    if cache == "disk":
        for each in (whole, job) if len(wanted) < len(everything) else (whole,):
            stored = find_pixels(each)
            if stored is not None:
                return _InArray(each, stored.array, stored.failures)
        return _InArray(job, *make_pixels(job))
    if cache == "ram":
        return _InArray(job, *_decode_to_memory(job))
    raise UsageError(f"expected disk, ram or none as cache, received {cache!r}")


class _InArray(Pixels):
    """Pixels in an array, which may be mapped from a file."""

    def __init__(self, job: DecodingJob, array: Images, failures: Failures) -> None:
        self.shape = job.spec.shape
        self.nbytes = array.nbytes
        self.failed = {int(job.rows[at]): failures[at].reason for at in sorted(failures)}
        self._array = np.asarray(array)  # a plain view: indexing a memmap itself is slower
        self._positions = np.full(len(job.dataset), -1, np.intp)
        self._positions[job.rows] = np.arange(len(job.rows))
        self._bad = np.zeros(len(array), np.bool_)
        self._bad[list(failures)] = True

    def gather(self, rows: npt.NDArray[Any]) -> Images:
        wanted = np.asarray(rows, np.intp)
        positions = _look_up(self._positions, wanted)
        if self.failed and self._bad[positions].any():
            row = int(wanted[self._bad[positions]][0])
            raise ImageError(f"row {row} of the dataset cannot be decoded: {self.failed[row]}")
        # The positions are known to be in range: all modes but "raise" copy without a buffer.
        return np.take(self._array, positions, axis=0, mode="clip")


class _DecodedOnAccess(Pixels):
    """Pixels that are decoded on each access."""

    def __init__(self, job: DecodingJob) -> None:
        self.shape = job.spec.shape
        self.nbytes = 0
        self.failed = {}
        self._job = job
        self._wanted = np.full(len(job.dataset), -1, np.intp)
        self._wanted[job.rows] = job.rows
        self._pool = ThreadPoolExecutor(job.threads, thread_name_prefix="cnnclf-decode")
        self._lock = threading.Lock()

    def gather(self, rows: npt.NDArray[Any]) -> Images:
        wanted = _look_up(self._wanted, np.asarray(rows, np.intp)).tolist()
        images = np.empty((len(wanted), *self.shape), np.uint8)
        failed = {}
        outcomes = self._pool.map(lambda row: decode_row(self._job, row), wanted)
        for index, (row, outcome) in enumerate(zip(wanted, outcomes, strict=True)):
            if isinstance(outcome, Failure):
                failed[row] = outcome.reason
            else:
                images[index] = outcome
        if failed:
            self._note(failed)
            row, reason = next(iter(failed.items()))
            raise ImageError(f"{self._job.dataset.file(row)} cannot be decoded: {reason}")
        return images

    def _note(self, failed: dict[int, str]) -> None:
        with self._lock:
            new = {row: reason for row, reason in failed.items() if row not in self.failed}
            self.failed = self.failed | new
        for row, reason in new.items():
            self._job.progress.warn(f"{self._job.dataset.file(row)} is skipped: {reason}")


def _look_up(table: Rows, rows: Rows) -> Rows:
    found = table[np.clip(rows, 0, len(table) - 1)]
    known = (found >= 0) & (rows >= 0) & (rows < len(table))
    if not known.all():
        raise DataError(f"row {rows[~known][0]} is not among the rows that were opened")
    return found


def _decode_to_memory(job: DecodingJob) -> tuple[Images, Failures]:
    memory = read_memory()
    if job.nbytes > (memory.total_bytes or job.nbytes):
        raise DeviceError(
            f"not enough memory for decoded images: {format_bytes(job.nbytes)} needed, this "
            f"machine has {format_bytes(memory.total_bytes or 0)}",
            "use --cache disk",
        )
    if job.nbytes > (memory.available_bytes or job.nbytes):
        job.progress.warn(
            f"decoded images need {format_bytes(job.nbytes)} of memory, "
            f"{format_bytes(memory.available_bytes or 0)} is free: --cache disk is safer"
        )
    job.progress.note(f"decoding {job.describe()}, to memory")
    try:
        array = np.empty(job.shape, np.uint8)
    except MemoryError as error:
        raise DeviceError(
            f"not enough memory for decoded images: {format_bytes(job.nbytes)} needed",
            "use --cache disk",
        ) from error
    failures: Failures = {}
    done = 0
    for images, failed in decode_chunks(job):
        array[done : done + len(images)] = images
        done += len(images)
        failures |= failed
    return array, failures
