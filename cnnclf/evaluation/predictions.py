"""Predictions of a classifier for the labeled images of a dataset."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels, keep_readable
from cnnclf.errors import DataError, ImageError, RunError
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.promise import read_cutoff, score_confidence
from cnnclf.names import name_some
from cnnclf.parallel import map_ahead
from cnnclf.progress import Progress

_BATCH_VALUES = 4_000_000  # maximum pixel values of a batch whose size is chosen here


@dataclass(frozen=True)
class Predictions:
    """The predictions of a classifier for some rows of the manifest.

    Args:
        rows: int [n], rows of the manifest in order, without the failed ones.
        class_indices: int64 [n], true classes in the order of the classifier's labels.
        probabilities: float64 [n, K].
        scores: Confidence in the best label as the bundle scores it, float64 [n], 0..1.
        failed: Row of the manifest to the reason why its image cannot be decoded.
    """

    rows: NDArray[np.intp]
    class_indices: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    scores: NDArray[np.float64]
    failed: dict[int, str]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image, int64 [n]."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def check_labels(labels: tuple[str, ...], dataset: Dataset) -> None:
    """Check that a dataset has no other labels than the model; it may have fewer, in any order.

    Raises:
        DataError: It has a label that the model does not know.
    """
    unknown = [label for label in dataset.labels if label not in set(labels)]
    missing = [label for label in labels if label not in set(dataset.labels)]
    if unknown:
        parts = [
            f"{words} {name_some([*map(repr, names)])}"
            for words, names in (
                ("the model does not know", unknown),
                ("the data lacks", missing),
            )
            if names
        ]
        raise DataError(
            f"the labels in {dataset.place} are not those of the model: {' and '.join(parts)}",
            "use data with labels of the model, or cnnclf predict, which needs no labels",
        )


def predict_rows(
    classifier: Classifier,
    dataset: Dataset,
    *,
    rows: NDArray[np.intp],
    pixels: Pixels,
    batch_size: int | None = None,
    progress: Progress,
) -> Predictions:
    """Run a classifier on rows of a dataset, reading the next batch during computation.

    Args:
        classifier: A loaded model.
        dataset: The dataset of the rows; its labels are matched by name.
        rows: int [n], rows of the manifest.
        pixels: Of the dataset, for the classifier's input spec.
        batch_size: Images per batch, at least 1; None: chosen for their size.
        progress: Reports evaluated images.

    Returns:
        The predictions for the images that can be decoded; n x K x 8 bytes of memory.

    Raises:
        RunError: The model returns values that are not finite.
    """
    probabilities = np.empty((len(rows), len(classifier.labels)), dtype=np.float64)
    scores = np.empty(len(rows), dtype=np.float64)
    norm = read_cutoff(classifier.bundle).norm
    kept = np.empty(len(rows), dtype=np.intp)
    done = 0
    with progress.task("evaluating", len(rows), unit="images") as task:
        task.advance(len(rows) - len(keep_readable(rows, pixels.failed)))
        for batch, logits in stream_logits(
            classifier, dataset, rows=rows, pixels=pixels, batch_size=batch_size
        ):
            stop = done + len(batch)
            probabilities[done:stop] = classifier.probabilities(logits)
            scores[done:stop] = score_confidence(logits, probabilities[done:stop], norm=norm)
            kept[done:stop] = batch
            done = stop
            task.advance(len(batch))
    kept = kept[:done]
    return Predictions(
        rows=kept,
        class_indices=look_up_classes(classifier.labels, dataset, rows=kept),
        probabilities=probabilities[:done],
        scores=scores[:done],
        failed={row: pixels.failed[row] for row in rows.tolist() if row in pixels.failed},
    )


def stream_logits(
    classifier: Classifier,
    dataset: Dataset,
    *,
    rows: NDArray[np.intp],
    pixels: Pixels,
    batch_size: int | None = None,
    with_features: bool = False,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield the logits of rows of a dataset by batches, reading the next batch meanwhile.

    Args:
        classifier: A loaded model.
        dataset: The dataset of the rows.
        rows: int [n], rows of the manifest.
        pixels: Of the dataset, for the classifier's input spec.
        batch_size: Images per batch, at least 1; None: chosen for their size.
        with_features: Yield the features that the classifier was loaded with after the logits.

    Yields:
        Rows that can be decoded, int [b], in order, and their logits, float32 [b, K].

    Raises:
        RunError: The model returns values that are not finite.
    """
    size = batch_size or _batch_size(classifier.input_spec)
    stream = classifier.stream_outputs if with_features else classifier.stream
    for batch, logits in stream(_read_batches(pixels, rows, size)):
        if not np.isfinite(logits).all():
            row = int(batch[np.flatnonzero(~np.isfinite(logits).all(axis=1))[0]])
            raise RunError(
                f"the model in {classifier.directory} returned NaN or infinity for "
                f"{dataset.file(row)}",
                "its weights are damaged: evaluate another checkpoint, or train again",
            )
        yield batch, logits


def find_seen(dataset: Dataset, rows: NDArray[np.intp], *, training: Dataset) -> NDArray[np.bool_]:
    """Return which images of a dataset have the bytes of a training image.

    Args:
        dataset: The images.
        rows: int [n], rows of its manifest.
        training: The dataset that a model was trained on.

    Returns:
        bool [n].
    """
    seen = {training.manifest.sha256[row] for row in training.manifest.select("train")} - {""}
    return np.array([dataset.manifest.sha256[row] in seen for row in rows.tolist()], np.bool_)


def look_up_classes(
    labels: tuple[str, ...], dataset: Dataset, *, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return the true classes of rows, int64 [n], in the order of a classifier's labels."""
    position = {label: index for index, label in enumerate(labels)}
    lookup = np.array([position[label] for label in dataset.labels], dtype=np.int64)
    return lookup[dataset.manifest.class_indices[rows]]


def _batch_size(spec: InputSpec) -> int:
    return max(16, min(256, _BATCH_VALUES // (spec.height * spec.width * spec.channels)))


def _read_batches(
    pixels: Pixels, rows: NDArray[np.intp], batch_size: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Yield (rows, pixels) of the images that can be decoded; read the next batch meanwhile."""

    def read(batch: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        while True:
            readable = keep_readable(batch, pixels.failed)
            try:
                return readable, pixels.gather(readable)
            except ImageError:
                # Without a cache, a bad image is found only now, and added to `failed`.
                if len(keep_readable(readable, pixels.failed)) == len(readable):
                    raise

    rows = keep_readable(rows, pixels.failed)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    with closing(map_ahead(read, batches, threads=1, ahead=2, name="read")) as found:
        yield from ((batch, values) for batch, values in found if len(batch))
