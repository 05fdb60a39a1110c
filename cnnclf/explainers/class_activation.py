"""Class activation maps by gradient, at any layer: Grad-CAM and LayerCAM.

Grad-CAM (Selvaraju et al., 2017) weights each feature map by its mean gradient; LayerCAM (Jiang et
al., 2021) weights each place by its own positive gradient, which also works at early layers. Both
keep only what is positive, so they do not add up to the logit.
"""

from collections.abc import Sequence
from typing import Any

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
    layer, features, gradients = _differentiate(
        network, pixels, classes=classes, layer=config.layer
    )
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    maps = np.maximum((features * weights).sum(axis=-1), 0)
    return ClassMaps(
        maps, f"Grad-CAM at {layer}: positive part only; nothing adds up", is_signed=False
    )


def map_layer_cam(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], config: ExplainConfig
) -> ClassMaps:
    """Compute LayerCAM of one image."""
    layer, features, gradients = _differentiate(
        network, pixels, classes=classes, layer=config.layer
    )
    maps = np.maximum((features * np.maximum(gradients, 0)).sum(axis=-1), 0)
    return ClassMaps(
        maps, f"LayerCAM at {layer}: positive part only; nothing adds up", is_signed=False
    )


def _differentiate(
    network: AnyNetwork, pixels: Pixels, *, classes: Sequence[int], layer: str | None
) -> tuple[str, Floats, Floats]:
    """Return layer, features and gradients [k, h, w, C], one per class."""
    graph = network.graph
    tensor: Any = graph.find_layer(layer).output if layer else find_head(graph).maps
    step = graph.producer(tensor)
    weights = np.eye(len(network.labels), dtype=np.float32)[list(classes)]
    images = np.repeat(pixels[None], len(classes), axis=0)
    values, gradients = graph.differentiate([tensor, graph.logits], images, weights=weights)
    name = step.name if step else "the pixels"
    return name, np.asarray(values[0], np.float64), np.asarray(gradients[1], np.float64)
