"""Occlusion: how much a logit falls when a window of the image is replaced.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014. Needs logits only.
"""

from collections.abc import Sequence

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
    tall, wide = (max(1, round(side / _WINDOWS)) for side in (height, width))
    tops = np.arange(0, height - tall + 1, max(1, tall // 2))
    lefts = np.arange(0, width - wide + 1, max(1, wide // 2))
    filled = fill_pixels(pixels, config.fill)
    images = np.repeat(pixels[None], len(tops) * len(lefts), axis=0)
    for number, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        window = slice(top, top + tall), slice(left, left + wide)
        images[number][window] = filled[window]
    whole = network.logits(pixels[None])[0, list(classes)]
    parts = []
    with network.progress.task("occlusion", len(images), unit="windows") as task:
        for start in range(0, len(images), _BATCH):
            parts.append(network.logits(images[start : start + _BATCH]))
            task.advance(len(parts[-1]))
    logits = np.concatenate(parts)[:, list(classes)]
    drops = np.asarray(whole - logits, np.float64).T.reshape(-1, len(tops), len(lefts))
    return ClassMaps(
        drops,
        f"how much the logit falls when a window of {tall} x {wide} pixels is replaced"
        f" ({config.fill})",
    )
