"""RISE: random masks show which places raise the probability (Petsiuk, Das and Saenko, 2018).

Drawn as a difference: the mean probability while a place is visible minus that while it is hidden.
In this form the map is zero where a place makes no difference, whatever the image. Needs logits
only.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.config import ExplainConfig
from cnnclf.explainers.explainer import AnyNetwork, ClassMaps, Pixels
from cnnclf.explainers.fills import fill_pixels, resize_map

_CELLS, _VISIBLE = 7, 0.5
_BATCH = 100
_PLACES = 14  # of the map: masks have no finer details


def map_rise(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute the RISE maps of one image; all classes from the same masks."""
    height, width, _ = pixels.shape
    filled = fill_pixels(pixels, config.fill).astype(np.float32)
    rng = np.random.default_rng(config.seed)
    shape = (len(classes), height * width)
    visible, hidden = np.zeros(shape), np.zeros(shape)
    weight = np.zeros(height * width)
    with network.progress.task("rise", config.masks, unit="masks") as task:
        for start in range(0, config.masks, _BATCH):
            count = min(_BATCH, config.masks - start)
            masks = draw_masks(count, (height, width), rng=rng)
            mixed = filled + masks[..., None] * (pixels - filled)
            logits = network.logits(np.round(mixed).astype(np.uint8))
            found = network.probabilities(logits)[:, list(classes)].T
            flat = masks.reshape(count, -1).astype(np.float64)
            visible += found @ flat
            hidden += found @ (1 - flat)
            weight += flat.sum(axis=0)
            task.advance(count)
    maps = visible / np.maximum(weight, 1e-9) - hidden / np.maximum(config.masks - weight, 1e-9)
    small = [
        resize_map(each.reshape(height, width), min(height, _PLACES), width=min(width, _PLACES))
        for each in maps
    ]
    return ClassMaps(
        np.stack(small).astype(np.float64),
        "mean probability while the place is visible minus while it is hidden;"
        f" {config.masks:,} masks of {_CELLS}x{_CELLS} cells, fill {config.fill}, seed"
        f" {config.seed}",
    )


def draw_masks(
    count: int, size: tuple[int, int], *, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Draw smooth random masks, each shifted by a random part of a cell.

    Returns:
        float32 [count, height, width], 0 (hidden) to 1 (visible).
    """
    height, width = size
    tall, wide = -(-height // _CELLS), -(-width // _CELLS)
    cells = (rng.random((count, _CELLS + 1, _CELLS + 1)) < _VISIBLE).astype(np.float32)
    tops, lefts = rng.integers(0, tall, count), rng.integers(0, wide, count)
    large = ((_CELLS + 1) * wide, (_CELLS + 1) * tall)
    masks = np.empty((count, height, width), np.float32)
    for number, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        smooth = Image.fromarray(cells[number]).resize(large, Image.Resampling.BILINEAR)
        masks[number] = np.asarray(smooth)[top : top + height, left : left + width]
    return np.clip(masks, 0, 1)
