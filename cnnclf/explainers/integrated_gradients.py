"""Integrated gradients: what each pixel adds on the way from a filled image to the image.

Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", 2017. The gradients on the
straight way from a filled image to the image, times the difference of both, add up to the
difference of the logits, but for the error of finitely many steps.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cnnclf.config import ExplainConfig
from cnnclf.explainers.explainer import AnyNetwork, ClassMaps, Pixels
from cnnclf.explainers.fills import fill_pixels

_STEPS = 50
_PLACES = 32  # at most, down and across: single pixels are too fine to see
_TOLERANCE = 0.05  # of the difference of the logits


def map_integrated_gradients(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute the integrated gradients of one image, added up over blocks of pixels."""
    graph = network.graph
    start = fill_pixels(pixels, config.fill).astype(np.float32)
    way = pixels.astype(np.float32) - start
    middles = (np.arange(_STEPS, dtype=np.float32) + 0.5) / _STEPS
    images = start + middles[:, None, None, None] * way
    maps = []
    for index in classes:
        weights = np.zeros((_STEPS, len(network.labels)), np.float32)
        weights[:, index] = 1
        _, gradients = graph.differentiate([graph.logits], images, weights=weights)
        maps.append((gradients[0].mean(axis=0, dtype=np.float64) * way).sum(axis=-1))
    values = add_blocks(np.stack(maps))
    (ends,) = graph.compute([graph.logits], np.stack([start, start + way]))
    targets = (ends[1] - ends[0])[list(classes)].astype(np.float64)
    errors = np.abs(values.sum(axis=(1, 2)) - targets) / max(float(np.abs(targets).max()), 1e-6)
    return ClassMaps(
        values,
        f"{_STEPS} steps from the filled image ({config.fill}); the sum is the difference of the"
        " logits",
        errors=errors,
        tolerance=_TOLERANCE,
        scale="the largest difference of logits",
        terms=[
            f"map {each.sum():+z.3f}, logits {target:+z.3f}"
            for each, target in zip(values, targets, strict=True)
        ],
    )


def add_blocks(values: npt.NDArray[np.float64], places: int = _PLACES) -> npt.NDArray[np.float64]:
    """Add up neighbors, so that a map has at most some places and the same sum.

    Args:
        values: [k, h, w].
        places: Largest number of rows, and of columns.

    Returns:
        [k, min(h, places), min(w, places)].
    """
    for axis in (1, 2):
        size = values.shape[axis]
        count = min(size, places)
        values = np.add.reduceat(values, np.arange(count) * size // count, axis=axis)
    return values
