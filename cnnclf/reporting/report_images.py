"""Which images a report shows, as thumbnails and with evidence maps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnclf.errors import CnnclfError, ImageError
from cnnclf.pages.html_page import as_data
from cnnclf.progress import Progress
from cnnclf.reporting.prediction_table import PredictionTable
from cnnclf.reporting.run_files import Evaluation, RunFiles
from cnnclf.runs.run_directory import RunDirectory, section

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.explainers.network import Network

_SIDE = 96  # pixels of a thumbnail
_MAP_SIDE = 112
_SAMPLES = 240  # thumbnails of the data sheet
_MAX_SAMPLES = 6  # of one class
_CELLS = 400  # thumbnails of the confusion matrix
_MAX_CELL = 8  # of one cell


@dataclass(frozen=True)
class ShownImage:
    """An image with what is known about it.

    Args:
        path: As in the manifest.
        source: A data URI; empty if there is no image.
        label: The true label.
        predicted: The predicted label; empty for none.
        probability: Of it.
        maps: Label and data URI of evidence maps.
    """

    path: str
    source: str
    label: str
    predicted: str = ""
    probability: float | None = None
    maps: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class MatrixCell:
    """The images of one cell of the confusion matrix that are shown, and how many there are."""

    true: int
    predicted: int
    count: int
    images: Sequence[ShownImage]


def open_images(files: RunFiles, evaluation: Evaluation | None, *, progress: Progress) -> "Dataset":
    """Open the dataset of a run, or that of an evaluation on other data, with the run's values.

    Raises:
        CnnclfError: It is not there, or cannot be read.
    """
    from cnnclf.inference.origins import Origin, quote
    from cnnclf.planning.plan import read_origin
    from cnnclf.planning.value_range import show_as_trained

    run = files.directory
    origin = Origin(run.path, run.path, run, read_origin(run.plan))
    data = section(evaluation.metrics, "dataset") if evaluation else {}
    other = data.get("directory") if data.get("trained_on") is False else None
    place = None if other is None else Path(str(other))
    opened = origin.open_data(place, progress, command=quote("cnnclf", "evaluate", run.path))
    return show_as_trained(opened, run)


def make_thumbnail(dataset: "Dataset", path: str, *, side: int = _SIDE) -> str:
    """Return an image of a dataset as a data URI, or "" if it cannot be decoded."""
    try:
        return as_data(dataset.reduce(dataset.root / path, side).image)
    except ImageError:
        return ""


def choose_samples(dataset: "Dataset") -> dict[str, list[ShownImage]]:
    """Return training images of each class, evenly chosen; fewer of each if there are many."""
    each = max(1, min(_MAX_SAMPLES, _SAMPLES // max(1, len(dataset.labels))))
    manifest = dataset.manifest
    rows = manifest.training_rows()
    found = {}
    for index, label in enumerate(dataset.labels[:_SAMPLES]):
        own = rows[manifest.class_indices[rows] == index]
        some = own[np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(np.intp)]
        found[label] = [
            ShownImage(
                manifest.paths[row], make_thumbnail(dataset, manifest.paths[row], side=64), label
            )
            for row in some.tolist()
        ]
    return found


def choose_cells(
    table: PredictionTable,
    dataset: "Dataset | None",
    *,
    classes: Sequence[int],
    labels: Sequence[str],
) -> list[MatrixCell]:
    """Return images of the cells of a confusion matrix, those of mistakes first.

    Args:
        table: Predictions.
        dataset: Where the images are; None: no cell has images.
        classes: Class indices that the matrix shows.
        labels: Of the classifier.
    """
    shown = np.isin(table.truth, classes) & np.isin(table.predicted, classes)
    keys = np.where(shown, table.truth * len(labels) + table.predicted, -1)
    found, counts = np.unique(keys[shown], return_counts=True)
    is_right = found // len(labels) == found % len(labels)
    order = np.lexsort((found, -counts, is_right))
    left, cells = _CELLS if dataset is not None else 0, []
    for waiting, at in zip(range(len(order) - 1, -1, -1), order.tolist(), strict=True):
        true, predicted = divmod(int(found[at]), len(labels))
        # one image is kept for each of the cells that follow, as long as there are enough
        each = min(_MAX_CELL, max(left - waiting, 1), left)
        rows = np.flatnonzero(keys == found[at])[:each]
        left -= len(rows)
        images = show_predictions(table, dataset, rows=rows.tolist(), labels=labels)
        cells.append(MatrixCell(true, predicted, int(counts[at]), images))
    return cells


def show_predictions(
    table: PredictionTable,
    dataset: "Dataset | None",
    *,
    rows: Iterable[int],
    labels: Sequence[str],
    maps: "dict[int, list[tuple[str, str]]] | None" = None,
) -> list[ShownImage]:
    """Return images with their labels and predictions."""
    return [
        ShownImage(
            table.paths[row],
            make_thumbnail(dataset, table.paths[row]) if dataset is not None else "",
            labels[table.truth[row]],
            labels[table.predicted[row]],
            float(table.probability[row]),
            (maps or {}).get(row, ()),
        )
        for row in rows
    ]


def map_images(
    run: RunDirectory,
    table: PredictionTable,
    *,
    dataset: "Dataset",
    rows: Sequence[int],
    progress: Progress,
) -> tuple[dict[int, list[tuple[str, str]]], str]:
    """Compute evidence maps for the predicted and the true class of some images.

    Returns:
        Label and data URI of the maps by row of the table, and why there are none, or "".
    """
    from cnnclf.explainers.network import Network
    from cnnclf.inference.classifier import Classifier

    found: dict[int, list[tuple[str, str]]] = {}
    try:
        classifier = Classifier.load(run.path, engine="keras", device="auto", progress=progress)
        network = Network(classifier)
        with progress.task("evidence maps", len(rows), unit="images") as task:
            for row in rows:
                classes = list(dict.fromkeys([table.predicted[row], table.truth[row]]))
                try:
                    pixels = classifier.decode(dataset.root / table.paths[row])
                    found[row] = _draw_maps(network, pixels, [int(each) for each in classes])
                except ImageError:
                    found[row] = []  # its place says that it cannot be decoded
                task.advance()
    except CnnclfError as error:
        return {}, error.message
    return found, ""


def _draw_maps(
    network: "Network", pixels: "np.ndarray", classes: Sequence[int]
) -> list[tuple[str, str]]:
    from PIL import Image

    from cnnclf.config import ExplainConfig
    from cnnclf.explainers.evidence import map_evidence
    from cnnclf.explainers.map_figure import overlay, to_rgb

    maps = map_evidence(network, pixels, classes=classes, config=ExplainConfig())
    limit = float(np.abs(maps.values).max()) or 1.0
    drawn = []
    for values, index in zip(maps.values, classes, strict=True):
        image = Image.fromarray(overlay(to_rgb(pixels), values, limit=limit))
        is_small = max(image.size) < _MAP_SIDE
        if not is_small:
            image.thumbnail((_MAP_SIDE, _MAP_SIDE))
        drawn.append((network.labels[index], as_data(image, lossless=is_small)))
    return drawn
