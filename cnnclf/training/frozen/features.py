"""Outputs of frozen layers for images: the job that computes them, and a source of batches."""

import hashlib
import math
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import Dataset
from cnnclf.errors import RunError
from cnnclf.images.input_spec import InputSpec
from cnnclf.training.feeding.batches import Batches

Rows = npt.NDArray[np.intp]

_VIEW_STREAM = 3  # a random stream beside those of order and augmentation


@dataclass(frozen=True)
class FeatureJob:
    """The features to compute.

    Args:
        dataset: The images.
        spec: Input spec of the network.
        rows: Which images, int [n].
        views: Versions of each image, at least 1; the first is not augmented.
        operations: Augmentation of the other views.
        seed: Random seed of the augmentation.
        graph: Description of the model; with `weights` and `makers` it identifies the model.
        weights: Hash of the frozen weights.
        makers: Versions of the programs that build the graph, and the device.
        shapes: Shape of each output for one image.
        dtype: Of the cached features: float16 or float32.
        backbone: Its name, for people.
    """

    dataset: Dataset
    spec: InputSpec
    rows: Rows
    views: int
    operations: Mapping[str, float]
    seed: int
    graph: str
    weights: str
    makers: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: str = "float16"
    backbone: str = ""

    @property
    def count(self) -> int:
        """Number of images times views."""
        return self.views * len(self.rows)

    @property
    def nbytes(self) -> int:
        """Size of all features, in bytes."""
        each = sum(math.prod(shape) for shape in self.shapes)
        return np.dtype(self.dtype).itemsize * each * self.count


class StoredRows:
    """An array in a file, whose rows are read when they are needed.

    A mapped file would do the same, but the pages read would count as memory of the process until
    another one needs it.

    Args:
        path: The file, raw numbers.
        dtype: Type of a number.
        shape: [n, ...].
    """

    def __init__(self, path: Path, *, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self._stride = self.dtype.itemsize * math.prod(shape[1:])
        self._path = path
        self._lock = threading.Lock()
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Read rows by number, int [k], into a new array; safe from many threads.

        Raises:
            RunError: The file was truncated since it was opened.
        """
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        with self._lock:
            for place, row in enumerate(rows.tolist()):
                self._file.seek(row * self._stride)
                if self._file.readinto(memoryview(values[place]).cast("B")) != self._stride:
                    raise RunError(
                        f"the cached features in {self._path} were truncated: row {row} of "
                        f"{self.shape[0]} is missing",
                        "run the command again: they will be computed again",
                    )
        return values


class Features:
    """One output of frozen layers for all images of a job; a source for batches.

    Args:
        array: float16 or float32 [views * n, ...].
        rows: Rows of the images in the dataset, int [n].
        failed: Positions 0..n-1 of unreadable images, with the reason.
    """

    def __init__(
        self, array: npt.NDArray[Any] | StoredRows, rows: Rows, *, failed: Mapping[int, str]
    ) -> None:
        self.array = array
        self.rows = rows
        self.dtype = array.dtype
        self.shape: tuple[int, ...] = array.shape[1:]
        self.failed = dict(failed)

    @property
    def readable(self) -> Rows:
        """Positions 0..n-1 of the images that could be read."""
        return np.setdiff1d(np.arange(len(self.rows)), list(self.failed))

    def gather(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return features by position, [len(rows), ...]."""
        return self.array[rows]


class FeatureBatches(Batches):
    """Batches of features; each epoch draws one view of each image.

    Args:
        features: Features of one split.
        labels: The class of every row of the dataset.
        **settings: As for `Batches`.
    """

    def __init__(self, features: Features, labels: npt.NDArray[np.int32], **settings: Any) -> None:
        count = len(features.rows)
        self._views = len(features.array) // count
        self._stride = count
        indices = np.tile(labels[features.rows], self._views)
        super().__init__(features, np.arange(count), class_indices=indices, **settings)

    def order(self, epoch: int) -> Rows:
        """Return the positions of an epoch in its order."""
        positions = super().order(epoch)
        if self._views == 1:
            return positions
        rng = np.random.default_rng((_VIEW_STREAM, self.seed, epoch))
        return positions + self._stride * rng.integers(self._views, size=len(positions))


def hash_weights(model: Any) -> str:
    """Return the sha256 of all weights of a model, in order."""
    import keras

    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
