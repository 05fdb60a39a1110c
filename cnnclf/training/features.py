"""What frozen layers make of each picture: computed once, kept on disk, read in every epoch.

A set of features is one file of float16 per output and beside them a description, which is written
last: what was not finished is not there. The name is a hash of everything that the numbers depend
on: weights, graph, input spec, content of the pictures in order, views, engine and precision.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.augment import Augmenter
from cnnclf.data.batches import Batches
from cnnclf.data.cache import cache_dir
from cnnclf.data.decoding import Job, in_words
from cnnclf.data.input_spec import InputSpec
from cnnclf.data.manifest import Dataset
from cnnclf.data.pixel_file import pixel_key
from cnnclf.data.store import Pixels
from cnnclf.errors import DeviceError, ImageError, RunError
from cnnclf.files import atomic_path, write_json_atomic
from cnnclf.progress import Progress
from cnnclf.training.engines import Engine

Rows = npt.NDArray[np.intp]

_FORMAT_VERSION = 1
_BATCH = 16
_SPARE_BYTES = 64 << 20  # left free on the disk for everything else a run writes
_VIEW_STREAM = 3  # chance of its own, beside the order of pictures and their augmentation


@dataclass(frozen=True)
class FeatureJob:
    """What to compute.

    Args:
        dataset: The pictures.
        spec: What the network sees.
        rows: Which pictures, int [n].
        views: Versions of each, at least 1; the first is the picture as it is.
        operations: Augmentation of the further views.
        seed: Of the augmentation.
        graph: What the model is, in words; with `weights` it identifies the model.
        weights: Hash of the frozen weights.
        shapes: Shape of each output for one picture.
    """

    dataset: Dataset
    spec: InputSpec
    rows: Rows
    views: int
    operations: Mapping[str, float]
    seed: int
    graph: str
    weights: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all features together."""
        each = sum(math.prod(shape) for shape in self.shapes)
        return 2 * each * self.views * len(self.rows)


class Features:
    """One output of frozen layers for all pictures of a job; a source for batches.

    Args:
        array: float16 [views * n, ...], mapped from a file.
        rows: The pictures' rows in the dataset, int [n].
        failed: Positions 0..n-1 of pictures that turned out unreadable, with the reason.
    """

    def __init__(
        self, array: npt.NDArray[np.float16], rows: Rows, failed: Mapping[int, str]
    ) -> None:
        self.array = array
        self.rows = rows
        self.dtype = array.dtype
        self.shape: tuple[int, ...] = array.shape[1:]
        self.failed = dict(failed)

    def gather(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
        """Return features by position, [len(rows), ...]."""
        return np.take(self.array, rows, axis=0, mode="clip")


class FeatureBatches(Batches):
    """Batches of features, each epoch with a view of each picture drawn anew.

    Args:
        features: Of the pictures of one split.
        labels: The class of every row of the dataset.
        **settings: As of `Batches`.
    """

    def __init__(self, features: Features, labels: npt.NDArray[np.int32], **settings: Any) -> None:
        count = len(features.rows)
        self._views = len(features.array) // count
        self._stride = count
        indices = np.tile(labels[features.rows], self._views)
        super().__init__(features, np.arange(count), indices, **settings)

    def order(self, epoch: int) -> Rows:
        """Return the positions of an epoch in its order."""
        positions = super().order(epoch)
        if self._views == 1:
            return positions
        rng = np.random.default_rng((_VIEW_STREAM, self.seed, epoch))
        return positions + self._stride * rng.integers(self._views, size=len(positions))


def open_features(
    job: FeatureJob,
    pixels: Pixels,
    build: Any,
    engine: str,
    *,
    threads: int,
    progress: Progress,
) -> list[Features]:
    """Find features on disk, or compute them.

    Args:
        job: What to compute.
        pixels: The decoded pictures.
        build: Makes the `Engine`; only called if there is something to compute.
        engine: Its name.
        threads: Threads of the machine, for the name of pictures without a hash.
        progress: Told the size beforehand, and the rate.

    Returns:
        One for each output of the model.

    Raises:
        DeviceError: The disk has not enough room.
        RunError: A value is too large for float16.
    """
    directory = cache_dir() / "features"
    name = _key(job, engine, threads, progress)
    found = _find(directory / f"{name}.json", job)
    if found is not None:
        progress.note(f"found the frozen layers' features of {len(job.rows):,} pictures on disk")
        return found
    check_room(directory, job.nbytes)
    views = f" in {job.views} views" if job.views > 1 else ""
    progress.note(
        f"frozen layers of {len(job.rows):,} pictures{views} with {engine}, once: "
        f"{in_words(job.nbytes)} in {directory}"
    )
    started = time.perf_counter()
    failed = _compute(job, pixels, build(), directory, name, progress)
    seconds = time.perf_counter() - started
    rate = job.views * len(job.rows) / max(seconds, 1e-9)
    progress.note(f"frozen layers took {seconds:.1f} s, {rate:.1f} pictures/s")
    write_json_atomic(
        directory / f"{name}.json",
        {"version": _FORMAT_VERSION, "shapes": job.shapes, "failed": failed},
    )
    features = _find(directory / f"{name}.json", job)
    if features is None:
        raise RunError(f"the features in {directory} vanished while they were made")
    return features


def hash_weights(model: Any) -> str:
    """Return the sha256 of all weights of a model, in order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def check_room(directory: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        DeviceError: It says how much is needed and how much is free.
    """
    present = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(present).free
    if free < needed + _SPARE_BYTES:
        raise DeviceError(
            f"expected {in_words(needed + _SPARE_BYTES)} of free disk for the frozen layers' "
            f"features, {directory} has {in_words(free)}",
            "use --no-feature-cache, fewer --views, or free some space",
        )


def _key(job: FeatureJob, engine: str, threads: int, progress: Progress) -> str:
    content = pixel_key(Job(job.dataset, job.spec, job.rows, threads, progress))
    augmentation = [dict(job.operations), job.seed] if job.views > 1 else None
    parts = [_FORMAT_VERSION, content, job.views, augmentation, job.graph, job.weights, engine]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _find(description: Path, job: FeatureJob) -> list[Features] | None:
    """Map what lies there, None if nothing whole does."""
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        failed = {int(at): str(reason) for at, reason in content["failed"].items()}
        features = []
        for index, shape in enumerate(job.shapes):
            path = _file(description.parent, description.stem, index)
            whole = (job.views * len(job.rows), *shape)
            if path.stat().st_size != 2 * math.prod(whole):
                return None
            array = np.asarray(np.memmap(path, np.float16, mode="r", shape=whole))
            features.append(Features(array, job.rows, failed))
    except (OSError, ValueError, KeyError, AttributeError):
        return None  # it is made again
    return features


def _compute(
    job: FeatureJob,
    pixels: Pixels,
    engine: Engine,
    directory: Path,
    name: str,
    progress: Progress,
) -> dict[int, str]:
    count = len(job.rows)
    failed: dict[int, str] = {}
    with ExitStack() as stack:
        arrays = []
        for index, shape in enumerate(job.shapes):
            temporary = stack.enter_context(atomic_path(_file(directory, name, index)))
            whole = (job.views * count, *shape)
            arrays.append(np.memmap(temporary, np.float16, mode="w+", shape=whole))
        task = stack.enter_context(progress.task("frozen layers", job.views * count, "pictures"))

        def write(start: int, outputs: list[npt.NDArray[Any]]) -> None:
            for array, output in zip(arrays, outputs, strict=True):
                with np.errstate(over="ignore"):
                    values = output.astype(np.float16)
                if not np.isfinite(values).all():
                    raise OverflowError(float(np.abs(output).max()))
                array[start : start + len(values)] = values
            task.advance(len(outputs[0]))

        try:
            engine.run(_make_batches(job, pixels, failed), write)
        except OverflowError as error:
            raise RunError(
                f"expected features of frozen layers within float16, received {error}",
                "use --no-feature-cache",
            ) from error
        for array in arrays:
            array.flush()
    return failed


def _make_batches(
    job: FeatureJob, pixels: Pixels, failed: dict[int, str]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield the position of each batch and its pictures, view after view."""
    augmenter = Augmenter(job.operations, seed=job.seed)
    no_labels = np.zeros((_BATCH, 1), np.float32)
    count = len(job.rows)
    for view in range(job.views):
        for number, start in enumerate(range(0, count, _BATCH)):
            x = _gather(pixels, job.rows, start, failed)
            if view:
                x, _ = augmenter(x, no_labels[: len(x)], augmenter.rng(view, number))
            yield view * count + start, x


def _gather(
    pixels: Pixels, rows: Rows, start: int, failed: dict[int, str]
) -> npt.NDArray[np.uint8]:
    """Fetch a batch; a picture that cannot be read is noted and its place left blank."""
    wanted = rows[start : start + _BATCH]
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


def _file(directory: Path, name: str, index: int) -> Path:
    return directory / f"{name}-{index}.f16"
