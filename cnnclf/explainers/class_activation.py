"""Class activation maps by gradient, at any layer: Grad-CAM and LayerCAM.

Grad-CAM (Selvaraju et al., 2017) weights each feature map by its mean gradient; LayerCAM (Jiang et
al., 2021) weights each place by its own positive gradient, which also works at early layers. Both
keep only what is positive, so they do not add up to the logit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.config import ExplainConfig
from cnnclf.explainers.explainer import AnyNetwork, ClassMaps, Pixels
from cnnclf.explainers.heads import find_head

Floats = npt.NDArray[np.float64]


def map_grad_cam(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute Grad-CAM of one image."""
    found = differentiate(network, pixels, classes=classes, layer=config.layer)
    return _keep_positive(found, found.gradients.mean(axis=(1, 2), keepdims=True))


def map_layer_cam(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute LayerCAM of one image."""
    found = differentiate(network, pixels, classes=classes, layer=config.layer)
    return _keep_positive(found, np.maximum(found.gradients, 0))


class Slopes(NamedTuple):
    """Features and gradients of the logits of classes, float64 [k, h, w, C]; all logits [k, K]."""

    layer: str
    features: Floats
    gradients: Floats
    logits: npt.NDArray[np.float32]


def differentiate(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], layer: str | None = None
) -> Slopes:
    """Differentiate logits with respect to a layer, by default the last one with places."""
    graph = network.graph
    tensor: Any = graph.find_layer(layer).output if layer else find_head(graph).maps
    step = graph.producer(tensor)
    weights = np.eye(len(network.labels), dtype=np.float32)[list(classes)]
    images = np.repeat(pixels[None], len(classes), axis=0)
    values, gradients = graph.differentiate([tensor, graph.logits], images, weights=weights)
    features, slopes = (np.asarray(each, np.float64) for each in (values[0], gradients[1]))
    return Slopes(step.name if step else "the pixels", features, slopes, values[1])


def _keep_positive(found: Slopes, weights: Floats) -> ClassMaps:
    maps = np.maximum((found.features * weights).sum(axis=-1), 0)
    method = f"positive part only, at {found.layer}; nothing adds up"
    return ClassMaps(maps, method, is_signed=False)
