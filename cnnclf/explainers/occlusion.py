"""Occlusion: how much a logit falls when a window of the image is replaced.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014. Needs logits only.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from cnnclf.config import ExplainConfig
from cnnclf.explainers.explainer import AnyNetwork, ClassMaps, Pixels
from cnnclf.explainers.fills import fill_pixels

_WINDOWS = 7  # that fit beside each other; each overlaps the next by half
_BATCH = 32


def map_occlusion(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute the occlusion maps of one image."""
    height, width, _ = pixels.shape
    down, across = _place_windows(height), _place_windows(width)
    filled = fill_pixels(pixels, config.fill)
    images = np.repeat(pixels[None], len(down) * len(across), axis=0)
    for image, window in zip(images, product(down, across), strict=True):
        image[window] = filled[window]
    whole = network.logits(pixels[None])[0, list(classes)]
    parts = []
    with network.progress.task("occlusion", len(images), unit="windows") as task:
        for start in range(0, len(images), _BATCH):
            parts.append(network.logits(images[start : start + _BATCH]))
            task.advance(len(parts[-1]))
    logits = np.concatenate(parts)[:, list(classes)]
    drops = np.asarray(whole - logits, np.float64).T.reshape(-1, len(down), len(across))
    return ClassMaps(
        drops,
        f"how much the logit falls when a window of {_size_of(down)}x{_size_of(across)} pixels "
        f"(smaller at the edge) is replaced ({config.fill})",
    )


def _place_windows(side: int) -> list[slice]:
    """Place windows around the centers of equal parts of a side, so that all of it is covered.

    The map has a place for each part, and is drawn where its windows are.
    """
    parts = min(side, 2 * _WINDOWS)
    centers = (np.arange(parts) + 0.5) * side / parts
    half = max(side / _WINDOWS, 1) / 2
    starts = np.floor(centers - half + 0.5).astype(int).clip(0)
    ends = np.floor(centers + half + 0.5).astype(int).clip(None, side)
    return [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _size_of(windows: Sequence[slice]) -> int:
    return max(int(window.stop - window.start) for window in windows)
