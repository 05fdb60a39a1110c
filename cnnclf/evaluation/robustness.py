"""How accurate a model is on images that are noisy, blurred, compressed, turned or covered."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.preview import choose_rows
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.drawing.canvas import Tile, draw_canvas, save_canvas
from cnnclf.evaluation.corruptions import CORRUPTIONS, STRENGTHS, Corruption
from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.evaluation.predictions import Predictions
from cnnclf.inference.classifier import Classifier
from cnnclf.progress import Progress

MAX_IMAGES = 500
_FALL = 0.05  # of the accuracy
_BATCH, _SEED = 32, 0


@dataclass(frozen=True)
class CorruptionScores:
    """The accuracy under one change.

    Args:
        name: Of the change.
        strengths: Values of the strengths, in words.
        values: Of the strengths.
        accuracy: At strengths 1 to 5.
        falls_at: The strength at which the accuracy is five points lower; None if at none.
    """

    name: str
    strengths: tuple[str, ...]
    values: tuple[float, ...]
    accuracy: tuple[float, ...]
    falls_at: int | None


@dataclass(frozen=True)
class Robustness:
    """The accuracy under every change, on the same images.

    Args:
        images: Number of images, as many as possible of each class.
        accuracy: Without a change.
        low: Lower end of its Wilson 95 % interval.
        high: Upper end.
        mean: Over all changes and strengths.
        changes: One row per change, in the order of the table.
    """

    images: int
    accuracy: float
    low: float
    high: float
    mean: float
    changes: tuple[CorruptionScores, ...]


def measure_robustness(
    classifier: Classifier,
    dataset: Dataset,
    *,
    predictions: Predictions,
    pixels: Pixels,
    progress: Progress,
) -> tuple[Robustness, npt.NDArray[np.uint8]]:
    """Measure the accuracy under every change at every strength.

    Args:
        classifier: A loaded model.
        dataset: The dataset of the images.
        predictions: Of the images; at most 500 of them are used.
        pixels: Of the dataset.
        progress: Reports images and their changes.

    Returns:
        The accuracies, and an example image, uint8 [H, W, C].
    """
    chosen = choose_rows(dataset, predictions.rows, seed=_SEED)[:MAX_IMAGES]
    rows = np.array(chosen, np.intp)
    images = pixels.gather(rows)
    place = np.searchsorted(predictions.rows, rows)
    truth = predictions.class_indices[place]
    is_correct = predictions.predicted[place] == truth
    low, high = wilson_interval(int(is_correct.sum()), len(rows))
    # Colors of gray images cannot fade.
    table = [each for each in CORRUPTIONS if images.shape[3] == 3 or each.name != "saturation"]
    found = []
    total = len(images) * len(table) * STRENGTHS
    with progress.task("changing images", total, unit="images") as task:
        for row in table:
            accuracy = []
            for strength in range(1, STRENGTHS + 1):
                accuracy.append(_measure(classifier, images, truth, row, strength))
                task.advance(len(images))
            found.append(_describe(row, accuracy, clean=float(is_correct.mean())))
    mean = float(np.mean([each.accuracy for each in found]))
    clean = float(is_correct.mean())
    return Robustness(len(rows), clean, low, high, mean, tuple(found)), images[0]


def draw_robustness(robustness: Robustness, example: npt.NDArray[np.uint8], *, path: Path) -> None:
    """Draw one image under every change, with the accuracy below it.

    Args:
        robustness: The accuracies.
        example: uint8 [H, W, C].
        path: PNG file to write.
    """
    by_name = {row.name: row for row in CORRUPTIONS}
    shape = example.shape[:2] if example.shape[2] == 1 else example.shape
    rows = []
    for scores in robustness.changes:
        tiles: list[Tile | None] = []
        for strength, (words, accuracy) in enumerate(
            zip(scores.strengths, scores.accuracy, strict=True), 1
        ):
            changed = by_name[scores.name].apply(example[None], strength=strength, seed=_SEED)
            title = scores.name if strength == 1 else ""
            has_fallen = scores.falls_at is not None and strength >= scores.falls_at
            caption = f"{words}: {accuracy:.3f}"
            tiles.append(Tile(changed[0].reshape(shape), title, caption, marked=has_fallen))
        rows.append(tiles)
    image = draw_canvas(
        rows,
        title=f"Accuracy {robustness.accuracy:.3f} without a change, {robustness.mean:.3f} on "
        "average over all changes",
        lines=[
            f"Below each image: strength, and accuracy on {robustness.images:,} images changed so.",
            "A dark frame: the accuracy is at least five points lower.",
        ],
        side=110,
    )
    save_canvas(image, path)


def _measure(
    classifier: Classifier,
    images: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.int64],
    row: Corruption,
    strength: int,
) -> float:
    batches = (
        (at, row.apply(images[at : at + _BATCH], strength=strength, seed=at))
        for at in range(0, len(images), _BATCH)
    )
    predicted = [logits.argmax(axis=1) for _, logits in classifier.stream(batches)]
    return float(np.mean(np.concatenate(predicted) == truth))


def _describe(row: Corruption, accuracy: list[float], *, clean: float) -> CorruptionScores:
    fallen = [index for index, value in enumerate(accuracy, 1) if value <= clean - _FALL + 1e-9]
    words = tuple(row.words.format(value) for value in row.values)
    return CorruptionScores(
        row.name, words, row.values, tuple(accuracy), fallen[0] if fallen else None
    )
