"""The head of a network: how logits follow from the last feature maps, and which place gave what.

With pooling or flattening and a single dense layer, a logit is a sum over places plus a bias. The
terms of this sum are the evidence of each place: class activation maps (Zhou et al., 2016) for
average pooling; HiResCAM (Draelos and Carin, 2020) for flattening. No gradient is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import UsageError
from cnnclf.explainers.flat_graph import FlatGraph, GraphStep
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.openvino_engine import OpenVinoEngine
from cnnclf.inference.engines.openvino_head import open_openvino_head

_TRAINING_ONLY = {"Dropout", "SpatialDropout2D", "GaussianNoise", "ActivityRegularization"}
_POOLINGS = {
    "GlobalAveragePooling2D": "average",
    "GlobalMaxPooling2D": "max",
    "Flatten": "flatten",
}


Look = Callable[[npt.NDArray[Any]], Sequence[npt.NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Head:
    """From feature maps to logits.

    Args:
        maps: Symbolic tensor [n, h, w, C]: the last features that have places; None in an engine.
        parts: What is done to the maps before the dense layer: average, max and flatten, in the
            order of the kernel's rows; empty if there is more than one dense layer.
        kernel: float64 [features, K] of the dense layer; empty without parts.
        bias: float64 [K].
        look: From uint8 pixels [n, H, W, C], n >= 1, to the values of the maps and all logits.
        precision: Of what computes them.
        is_of_engine: Whether `look` gives the logits of the engine; OpenVINO rounds the numbers of
            an export in int8 in other ways than the engine that opens it.
    """

    maps: Any
    parts: tuple[str, ...]
    kernel: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    look: Look
    precision: str = "float32"
    is_of_engine: bool = True

    @property
    def is_linear(self) -> bool:
        """Whether a logit is a sum over places plus a bias."""
        return bool(self.parts)

    def pool(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return what the dense layer reads, [n, features], of the values of `maps`."""
        values = np.asarray(features, np.float64)
        pools = {
            "average": values.mean(axis=(1, 2)),
            "max": values.max(axis=(1, 2)),
            "flatten": values.reshape(len(values), -1),
        }
        return np.concatenate([pools[part] for part in self.parts], axis=1)

    def contributions(
        self, features: npt.NDArray[Any], classes: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Return what each place adds to the logits.

        Args:
            features: [n, h, w, C], the values of `maps`.
            classes: int [k], class indices.

        Returns:
            [n, k, h, w]; the sum over places plus the bias is the logit.
        """
        features = np.asarray(features, np.float64)
        _, height, width, channels = features.shape
        total: npt.NDArray[np.float64] = np.zeros(())
        start = 0
        for part in self.parts:
            count = channels * height * width if part == "flatten" else channels
            kernel = self.kernel[start : start + count][:, classes]
            start += count
            if part == "average":
                each = np.tensordot(features, kernel, 1) / (height * width)
            elif part == "flatten":
                places = kernel.reshape(height, width, channels, len(classes))
                each = np.einsum("nhwc,hwck->nhwk", features, places, optimize=True)
            else:
                each = _place_maxima(features, kernel)
            total = total + each
        return np.moveaxis(total, -1, 1)


def find_head(graph: FlatGraph) -> Head:
    """Find the head of a network.

    Raises:
        UsageError: No layer has an output with places.
    """
    dense = graph.steps[-1]
    if dense.kind == "Dense" and dense.operation.activation.__name__ == "linear":
        found = _find_pooling(graph, dense)
        if found is not None:
            kernel = np.asarray(dense.operation.kernel, np.float64)
            bias = dense.operation.bias
            values = np.zeros(kernel.shape[1]) if bias is None else np.asarray(bias, np.float64)
            return Head(*found, kernel, values, _look_at(graph, found[0]))
    if not graph.spatial_steps:
        raise UsageError("no layer of the network has an output with places", "")
    maps = graph.spatial_steps[-1].output
    return Head(maps, (), np.zeros((0, 0)), np.zeros(0), _look_at(graph, maps))


def find_engine_head(classifier: Classifier) -> Head | None:
    """Find the head in the graph that OpenVINO computes; None if there is none, or none linear."""
    found = open_openvino_head(classifier.engine, classifier.source.model)
    if found is None or found.head is None:
        return None
    head, precision = found.head, found.precision
    is_same = precision == "float32" or isinstance(classifier.engine, OpenVinoEngine)
    return Head(None, head.parts, head.kernel, head.bias, found.compute, precision, is_same)


def _look_at(graph: FlatGraph, maps: Any) -> Look:
    return partial(graph.compute, [maps, graph.logits])


def _find_pooling(graph: FlatGraph, dense: GraphStep) -> tuple[Any, tuple[str, ...]] | None:
    step = graph.producer(dense.inputs[0])
    while step is not None and step.kind in _TRAINING_ONLY:
        step = graph.producer(step.inputs[0])
    if step is None:
        return None
    if step.kind == "Concatenate":
        pools = [graph.producer(tensor) for tensor in step.inputs]
    else:
        pools = [step]
    kinds = tuple(_POOLINGS.get(pool.kind, "") if pool else "" for pool in pools)
    sources = {id(pool.inputs[0]): pool.inputs[0] for pool in pools if pool}
    if "" in kinds or len(sources) != 1:
        return None
    maps = next(iter(sources.values()))
    return (maps, kinds) if len(maps.shape) == 4 else None


def _place_maxima(
    features: npt.NDArray[np.float64], kernel: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Give each channel's maximum, times its weights, to the first place that has it."""
    count, height, width, channels = features.shape
    flat = features.reshape(count, height * width, channels)
    places = flat.argmax(axis=1)
    result = np.zeros((count, height * width, kernel.shape[1]))
    for number in range(count):
        np.add.at(result[number], places[number], flat[number].max(axis=0)[:, None] * kernel)
    return result.reshape(count, height, width, -1)
