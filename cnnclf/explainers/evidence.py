"""The evidence map: what each place adds to the logit of a class.

Exact for networks with a linear head (`heads.py`). Otherwise HiResCAM (Draelos and Carin, "Use
HiResCAM instead of Grad-CAM", 2020): features times gradient, which is an approximation.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cnnclf.config import ExplainConfig
from cnnclf.explainers.class_activation import differentiate
from cnnclf.explainers.explainer import AnyNetwork, ClassMaps, Pixels
from cnnclf.explainers.heads import Head

# Of the largest logit: what float32 sums of thousands of terms leave; 8 significant bits; weights
# and features of 8 bits, which are rounded between the map and the logit.
_TOLERANCES = {"float32": 1e-5, "bfloat16": 0.03, "float16": 0.005, "int8": 0.1}


def map_evidence(
    network: AnyNetwork,
    pixels: Pixels,
    *,
    classes: Sequence[int],
    config: ExplainConfig,  # noqa: ARG001 (of all methods)
) -> ClassMaps:
    """Compute the evidence maps of one image."""
    head = network.find_head()
    if head.is_linear:
        features, logits = network.look(pixels)
        if not head.is_of_engine:
            logits = network.logits(pixels[None])
        maps = head.contributions(features, np.asarray(classes))
        errors = measure_errors(maps[0], logits[0], classes=classes, head=head)
        terms = [
            f"evidence {each.sum():+z.3f}, bias {head.bias[index]:+z.3f}"
            for each, index in zip(maps[0], classes, strict=True)
        ]
        return ClassMaps(
            maps[0],
            _describe(head),
            errors=errors,
            tolerance=_TOLERANCES[head.precision],
            scale=f"the largest logit, computed in {head.precision}",
            terms=terms,
        )
    found = differentiate(network, pixels, classes=classes)
    maps = (found.features * found.gradients).sum(axis=-1)
    logit = found.logits[np.arange(len(classes)), list(classes)]
    off = np.abs(maps.sum(axis=(1, 2)) - logit) / _scale(found.logits)
    return ClassMaps(
        maps,
        "approximate: features x gradient at the last layer with places (HiResCAM), because the"
        " head has several dense layers",
        errors=off,
        tolerance=float("inf"),
        terms=[
            f"map {each.sum():+z.3f}, logit {at:+z.3f}"
            for each, at in zip(maps, logit, strict=True)
        ],
    )


def measure_errors(
    maps: npt.NDArray[np.float64],
    logits: npt.NDArray[np.float32],
    *,
    classes: Sequence[int],
    head: Head,
) -> npt.NDArray[np.float64]:
    """Return |sum over places + bias - logit| / largest |logit| of each class, [k]."""
    sums = maps.sum(axis=(1, 2)) + head.bias[list(classes)]
    return np.asarray(np.abs(sums - logits[list(classes)]) / _scale(logits), np.float64)


def _scale(logits: npt.NDArray[np.float32]) -> float:
    return max(float(np.abs(logits).max()), 1e-6)


def _describe(head: Head) -> str:
    names = {
        "average": "global average pooling: weights x features at each place",
        "max": "global max pooling: weights x maximum, at the place of the maximum",
        "flatten": "flattened features: weights x features at each place",
    }
    how = " and ".join(names[part] for part in head.parts)
    return f"exact: the sum over all places plus the bias is the logit ({how})"
