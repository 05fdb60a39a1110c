"""Draws what augmentation does: images and random changes of them, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.augmentation.table import AUGMENTATIONS, Augmenter
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import Pixels
from cnnclf.drawing.canvas import Tile, draw_canvas, save_canvas
from cnnclf.errors import DataError, ImageError

Images = npt.NDArray[np.uint8]

# In points; a preview of seven variants is about as wide as a page.
_LARGEST_SIDE, _SMALLEST_SIDE, _WIDTH = 120, 40, 960


@dataclass(frozen=True)
class Example:
    """An image of the dataset: its row, and its pixels uint8 [H, W, C]."""

    row: int
    pixels: Images


def choose_rows(dataset: Dataset, rows: npt.NDArray[np.intp], *, seed: int) -> list[int]:
    """Return rows in a random order, one of each class before a second of any.

    Args:
        dataset: The dataset of the rows.
        rows: The rows to choose from, int [n].
        seed: Random seed.
    """
    shuffled = np.random.default_rng(seed).permutation(rows)
    classes = dataset.manifest.class_indices[shuffled]
    turns = np.zeros(len(shuffled), np.intp)
    for index in np.unique(classes):
        turns[classes == index] = np.arange(np.count_nonzero(classes == index))
    return [int(row) for row in shuffled[np.lexsort((classes, turns))]]


def take_examples(pixels: Pixels, rows: list[int], *, count: int) -> list[Example]:
    """Decode the first images that can be decoded.

    Args:
        pixels: The decoded images.
        rows: In the order of preference.
        count: The number of examples, at least 1.

    Raises:
        DataError: None of them can be decoded.
    """
    examples: list[Example] = []
    for row in rows:
        if len(examples) == count:
            break
        try:
            examples.append(Example(row, pixels.gather(np.array([row]))[0]))
        except ImageError:
            continue  # `pixels` has reported it
    if not examples:
        raise DataError(f"nothing to preview: none of {len(rows)} images can be decoded")
    return examples


def vary_together(
    images: Images, operations: Mapping[str, float], *, variants: int, seed: int
) -> Images:
    """Augment images as training does, with all operations at once.

    Args:
        images: uint8 [m, H, W, C].
        operations: Strength by name.
        variants: Augmented versions of each, at least 1.
        seed: Random seed.

    Returns:
        uint8 [m, 1 + variants, H, W, C]; the first of each is unchanged.
    """
    count = len(images)
    augmenter = Augmenter(operations, seed)
    labels = np.repeat(np.eye(count, dtype=np.float32), variants, axis=0)
    changed, _ = augmenter(np.repeat(images, variants, axis=0), labels, rng=augmenter.rng(0, 0))
    changed = changed.reshape(count, variants, *images.shape[1:])
    return np.concatenate([images[:, None], changed], axis=1)


def vary_each(
    images: Images, operations: Mapping[str, float], *, variants: int, seed: int
) -> tuple[list[tuple[str, float]], Images]:
    """Augment the first image with each operation alone.

    Args:
        images: uint8 [m, H, W, C]; all but the first only serve as partners of MixUp and CutMix,
            which a single image has none for.
        operations: Strength by name; other operations get their default strength.
        variants: Augmented versions per operation, at least 1.
        seed: Random seed.

    Returns:
        Name and strength of each operation, and uint8 [operations, 1 + variants, H, W, C].
    """
    rows = [
        (name, operations.get(name, row.default))
        for name, row in AUGMENTATIONS.items()
        if len(images) > 1 or row.stage != "mix"
    ]
    sheets = [
        vary_together(images, {name: strength}, variants=variants, seed=seed)[0]
        for name, strength in rows
    ]
    return rows, np.stack(sheets)


def save_sheet(sheet: Images, path: Path, *, names: Sequence[str], lines: Sequence[str]) -> None:
    """Save images as a grid with the name of each row.

    Args:
        sheet: uint8 [rows, columns, H, W, C].
        path: PNG file to write.
        names: Of the rows.
        lines: Below the grid.

    Raises:
        DeviceError: The disk is full.
        RunError: The file cannot be written.
    """
    columns = sheet.shape[1]
    side = min(_LARGEST_SIDE, max(_SMALLEST_SIDE, _WIDTH // columns))
    rows = [
        [Tile(image.squeeze(), "" if at else name) for at, image in enumerate(images)]
        for name, images in zip(names, sheet, strict=True)
    ]
    save_canvas(draw_canvas(rows, lines=lines, side=side), path)
