"""Caches the features of frozen layers on disk: computed once, read in every epoch.

A set of features is one file of floats per output, and a description, which is written last:
incomplete files have none, and its checksums reveal what was lost in a crash. The name is a hash of
everything that the numbers depend on: weights, graph and the programs that build it, input spec,
content of the images in order, views, engine, device and precision. Files are written in order of
computation and read row by row, so they need not fit in memory.
"""

import hashlib
import json
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.table import Augmenter
from cnnclf.bounded import parse_json, read_bytes
from cnnclf.data.cache import cache_dir
from cnnclf.data.decoding import DecodingJob
from cnnclf.data.pixel_file import pixel_key
from cnnclf.data.store import Pixels
from cnnclf.errors import DeviceError, ImageError, RunError
from cnnclf.files import atomic_path, format_bytes, free_bytes, remove_abandoned, write_json_atomic
from cnnclf.progress import Progress, Task
from cnnclf.training.frozen.feature_engines import FeatureEngine
from cnnclf.training.frozen.features import FeatureJob, Features, Rows, StoredRows

_FORMAT_VERSION = 3
BATCH = 16
_CHECKED_ROWS = 32
_TIMED_BATCHES = 5  # after these, the remaining time is estimated
_SPARE_BYTES = 64 << 20  # kept free on the disk for everything else a run writes


class NoRoomError(DeviceError):
    """Not enough disk space for features; there is another way to train."""


def open_features(
    jobs: Sequence[FeatureJob],
    pixels: Pixels,
    *,
    build: Callable[[], FeatureEngine],
    engine: str,
    threads: int,
    progress: Progress,
) -> list[list[Features]]:
    """Load features from disk, or compute them.

    Args:
        jobs: The features to compute.
        pixels: The decoded images.
        build: Builds the engine; only called if features are missing.
        engine: Its name.
        threads: Threads of the machine, for the name of images without a hash.
        progress: Receives sizes and free disk space first, then the time.

    Returns:
        For each job, the features of each output of the model.

    Raises:
        NoRoomError: Not enough disk space for the missing features.
        DeviceError: The disk became full.
        RunError: A value is too large for float16.
    """
    directory = cache_dir() / "features"
    paths = [directory / f"{_key(job, engine, threads, progress)}.json" for job in jobs]
    found = [_find_current(path, job, pixels) for path, job in zip(paths, jobs, strict=True)]
    for job, features in zip(jobs, found, strict=True):
        if features is not None:
            progress.note(f"using the cached features of frozen layers for {_describe(job)}")
    missing = [index for index, features in enumerate(found) if features is None]
    if missing:
        needed = sum(jobs[index].nbytes for index in missing)
        free = check_room(directory, needed)
        progress.note(
            f"frozen layers of {' and '.join(_describe(jobs[index]) for index in missing)} with "
            f"{engine}, once: {format_bytes(needed)} in {directory} ({format_bytes(free)} free)"
        )
        made = build()
        for index in missing:
            _make(jobs[index], pixels, made, paths[index], progress)
    return [
        _require(features or _find(path, job), directory)
        for path, job, features in zip(paths, jobs, found, strict=True)
    ]


def check_room(directory: Path, needed: int) -> int:
    """Refuse features that the disk has no room for; return the free bytes.

    Raises:
        NoRoomError: Not enough disk space; it says how much is needed and how much is free.
    """
    free = free_bytes(directory)
    if free < needed + _SPARE_BYTES:
        raise NoRoomError(
            f"not enough disk space: the features of frozen layers need "
            f"{format_bytes(needed + _SPARE_BYTES)} in {directory}, {format_bytes(free)} are free",
            # a run continues with the settings it started with, which may be too many views
            "start again with --feature-fallback, which computes them in every epoch instead, or "
            "with fewer --views; or free some space, or set another CNNCLF_CACHE_DIR",
        )
    return free


def _describe(job: FeatureJob) -> str:
    views = f" in {job.views} views" if job.views > 1 else ""
    return f"{len(job.rows):,} images{views}"


def _key(job: FeatureJob, engine: str, threads: int, progress: Progress) -> str:
    content = pixel_key(DecodingJob(job.dataset, job.spec, job.rows, threads, progress))
    augmentation = [dict(job.operations), job.seed] if job.views > 1 else None
    model = [job.graph, job.weights, job.makers, job.shapes, engine]
    parts = [_FORMAT_VERSION, content, job.views, augmentation, model, job.dtype]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _find_current(description: Path, job: FeatureJob, pixels: Pixels) -> list[Features] | None:
    """Open cached features, unless images that were unreadable then can be read now.

    Reading them again marks those that are still unreadable in the pixels, as if the features were
    computed now.
    """
    features = _find(description, job)
    for at in features[0].failed if features else ():
        with suppress(ImageError):
            pixels.gather(job.rows[at : at + 1])
            return None
    return features


def _find(description: Path, job: FeatureJob) -> list[Features] | None:
    """Open cached features; None if there are none, or not all."""
    try:
        content = parse_json(read_bytes(description))
        failed = {int(at): str(reason) for at, reason in content["failed"].items()}
        features = []
        for index, shape in enumerate(job.shapes):
            path = _file(description, index)
            whole = (job.count, *shape)
            if path.stat().st_size != np.dtype(job.dtype).itemsize * math.prod(whole):
                return None
            rows = StoredRows(path, dtype=job.dtype, shape=whole)
            if content["checks"][index] != _checks(rows):
                return None
            features.append(Features(rows, job.rows, failed=failed))
    except (OSError, ValueError, OverflowError, LookupError, TypeError, AttributeError):
        return None  # they are computed again
    return features


def _require(features: list[Features] | None, directory: Path) -> list[Features]:
    if features is None:
        raise RunError(f"the features in {directory} disappeared while they were computed")
    return features


def _make(
    job: FeatureJob, pixels: Pixels, engine: FeatureEngine, description: Path, progress: Progress
) -> None:
    failed: dict[int, str] = {}
    remove_abandoned(description.parent, ".*.features")
    with ExitStack() as stack:
        files: list[BinaryIO] = [
            stack.enter_context(
                stack.enter_context(atomic_path(_file(description, index))).open("wb")
            )
            for index in range(len(job.shapes))
        ]
        task = stack.enter_context(progress.task("frozen layers", job.count, unit="images"))
        writer = _Writer(files, job.dtype, task)
        batches = _make_batches(job, pixels, failed)
        try:
            engine.run(islice(batches, _TIMED_BATCHES), writer.write)
            rest = writer.seconds_for(job.count)
            if rest >= 1:
                progress.note(f"frozen layers: about {rest:,.0f} s left")
            engine.run(batches, writer.write)
        except OverflowError as error:
            raise RunError(
                f"the frozen layers give features up to {error}, too large for {job.dtype}",
                "use --feature-dtype float32",
            ) from error
    whole = [
        StoredRows(_file(description, index), dtype=job.dtype, shape=(job.count, *shape))
        for index, shape in enumerate(job.shapes)
    ]
    content = {"version": _FORMAT_VERSION, "shapes": job.shapes, "failed": failed}
    size = f"{job.spec.height}x{job.spec.width}"
    source = f"{job.dataset.directory.absolute()}, {_describe(job)} at {size}, {job.backbone}"
    write_json_atomic(
        description, content | {"source": source, "checks": [_checks(rows) for rows in whole]}
    )


def _checks(rows: StoredRows) -> list[int]:
    """Return checksums of some rows, which reveal data lost in a crash."""
    chosen = np.linspace(0, len(rows) - 1, _CHECKED_ROWS).astype(np.intp)
    return [zlib.crc32(rows[chosen[at : at + 1]].tobytes()) for at in range(len(chosen))]


class _Writer:
    """Writes batches of outputs to their places, from any thread, in any order.

    With ordinary writes a full disk is an error; with a mapped file it would end the process.
    """

    def __init__(self, files: list[BinaryIO], dtype: str, task: Task) -> None:
        self._files = files
        self._dtype = np.dtype(dtype)
        self._task = task
        self._lock = threading.Lock()
        self._times: list[tuple[float, int]] = []

    def write(self, start: int, outputs: list[npt.NDArray[Any]]) -> None:
        """Write the outputs of a batch; `start` is the position of its first image.

        Raises:
            OverflowError: A value is too large; its argument is the maximum.
        """
        count = len(outputs[0])
        with self._lock:
            for file, output in zip(self._files, outputs, strict=True):
                with np.errstate(over="ignore"):
                    values = np.ascontiguousarray(output, self._dtype)
                if not np.isfinite(values).all():
                    raise OverflowError(float(np.abs(output).max()))
                file.seek(start * (values.nbytes // count))
                file.write(values.data)
            self._times.append((time.perf_counter(), count))
        self._task.advance(count)

    def seconds_for(self, total: int) -> float:
        """Estimate the remaining time; the first batch, a warm-up, does not count."""
        done = sum(count for _, count in self._times)
        timed = sum(count for _, count in self._times[1:])
        if not timed:
            return 0.0
        return (self._times[-1][0] - self._times[0][0]) / timed * (total - done)


def _make_batches(
    job: FeatureJob, pixels: Pixels, failed: dict[int, str]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the position of each batch and its images, view after view."""
    augmenter = Augmenter(job.operations, seed=job.seed)
    no_labels = np.zeros((BATCH, 1), np.float32)
    count = len(job.rows)
    for view in range(job.views):
        for number, start in enumerate(range(0, count, BATCH)):
            x = gather_batch(pixels, job.rows, start=start, failed=failed)
            if view:
                x, _ = augmenter(x, no_labels[: len(x)], rng=augmenter.rng(view, number))
            yield view * count + start, x


def gather_batch(
    pixels: Pixels, rows: Rows, *, start: int, failed: dict[int, str]
) -> npt.NDArray[np.uint8]:
    """Fetch a batch; images that cannot be decoded are zero.

    Args:
        pixels: The images.
        rows: Of all batches.
        start: The position of the first one of this batch.
        failed: Receives the positions of images that cannot be decoded, with the reason.

    Returns:
        uint8 [at most `BATCH`, H, W, C].
    """
    wanted = rows[start : start + BATCH]
    try:
        return pixels.gather(wanted)
    except ImageError:
        x = np.zeros((len(wanted), *pixels.shape), np.uint8)
        for at, row in enumerate(wanted):
            try:
                x[at] = pixels.gather(np.array([row]))[0]
            except ImageError as error:
                failed[start + at] = error.message
        return x


def _file(description: Path, index: int) -> Path:
    return description.with_name(f"{description.stem}-{index}.features")
