"""A filter that a network has learned, with the maps that its layer really sees for an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError, UsageError
from cnnclf.explainers.convolution import Maps, Sliding
from cnnclf.explainers.filter_table import Kernel
from cnnclf.explainers.flat_graph import FlatGraph, GraphStep
from cnnclf.inference.classifier import Classifier
from cnnclf.names import name_some, suggest
from cnnclf.progress import Progress

_KINDS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")


@dataclass(frozen=True, eq=False)
class LearnedFilter:
    """A filter in its place.

    Args:
        pixels: The image as the network sees it, uint8 [H, W, C].
        maps: Input of the layer, float64 [h, w, C']; of a depthwise layer, the one channel that
            the filter reads.
        kernel: Weights [kh, kw, C'] and bias.
        sliding: Stride, dilation and padding of the layer.
    """

    pixels: npt.NDArray[np.uint8]
    maps: Maps
    kernel: Kernel
    sliding: Sliding


def parse_learned(text: str) -> tuple[Path, str, int] | None:
    """Read RUN:LAYER:INDEX; None if a text has no two colons.

    Raises:
        UsageError: The index is no whole number.
    """
    parts = text.rsplit(":", 2)
    if len(parts) < 3:
        return None
    run, layer, index = parts
    if not (index.isascii() and index.isdigit()):
        raise UsageError(
            f"--filter {text}: expected RUN:LAYER:INDEX, and {index!r} is no index of a filter",
            f"the first filter is {run}:{layer}:0",
        )
    return Path(run), layer, int(index)


def open_learned(
    run: Path,
    image: Path,
    *,
    layer: str,
    index: int,
    verbose: bool = False,
    progress: Progress | None = None,
) -> LearnedFilter:
    """Load a network and compute what one of its convolutions reads for an image.

    Args:
        run: A run directory, a checkpoint or a bundle.
        image: An image file.
        layer: Name of a convolution.
        index: Number of the filter, from 0.
        verbose: Do not silence libraries.
        progress: Shows what takes long.

    Raises:
        RunError: There is no network with layers.
        UsageError: The network has no such layer, or the layer no such filter.
        ImageError: The image cannot be read.
    """
    from cnnclf.inference.engines.keras_engine import set_precision

    classifier = Classifier.load(run, device="cpu", verbose=verbose, progress=progress)
    if classifier.source.model.format != "keras":
        raise RunError(
            f"{classifier.directory} is an export, whose layers cannot be seen",
            "use the run it was exported from",
        )
    graph = FlatGraph(set_precision(classifier.model, "float32"))
    step = _find_step(graph, layer)
    pixels = classifier.decode(image)
    maps = graph.compute([step.inputs[0]], pixels[None])[0][0].astype(np.float64)
    kernel, channels = _read_filter(step.operation, index)
    operation = step.operation
    sliding = Sliding(operation.strides[0], operation.dilation_rate[0], operation.padding)
    return LearnedFilter(pixels, maps[:, :, channels], kernel, sliding)


def _find_step(graph: FlatGraph, name: str) -> GraphStep:
    steps = {step.name: step for step in graph.convolutions if step.kind in _KINDS}
    if name in steps:
        return steps[name]
    if not steps:
        raise UsageError("the network has no convolution")
    is_other = any(step.name == name for step in graph.steps)
    reason = "is no convolution of the network" if is_other else "is no layer of the network"
    raise UsageError(
        f"--filter: {name} {reason}",
        suggest(name, steps, count=3, cutoff=0.4) or f"convolutions: {name_some([*steps])}",
    )


def _read_filter(layer: Any, index: int) -> tuple[Kernel, slice]:
    """Return a filter, and the channels that it reads."""
    is_separable = type(layer).__name__ == "SeparableConv2D"
    weights = _join_separable(layer) if is_separable else np.asarray(layer.kernel, np.float64)
    is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
    count = weights.shape[2] * weights.shape[3] if is_depthwise else weights.shape[3]
    if index >= count:
        raise UsageError(
            f"--filter: {layer.name} has {count} filters, so the index is 0 to {count - 1}, not "
            f"{index}"
        )
    bias = float(np.asarray(layer.bias)[index]) if layer.use_bias else 0.0
    name = f"{layer.name}, filter {index}"
    if is_depthwise:
        channel, multiple = divmod(index, weights.shape[3])
        kernel = weights[:, :, channel : channel + 1, multiple]
        return Kernel(name, kernel, bias), slice(channel, channel + 1)
    width = weights.shape[2]  # channels of one group
    first = 0 if is_separable else index // (count // layer.groups) * width
    return Kernel(name, weights[:, :, :, index], bias), slice(first, first + width)


def _join_separable(layer: Any) -> npt.NDArray[np.float64]:
    """Return the kernel of a usual convolution that gives the same, [kh, kw, C, filters]."""
    depth = np.asarray(layer.depthwise_kernel, np.float64)  # [kh, kw, C, multiplier]
    point = np.asarray(layer.pointwise_kernel, np.float64)[0, 0]
    joined: npt.NDArray[np.float64] = np.einsum(
        "yxcm,cmf->yxcf", depth, point.reshape(*depth.shape[2:], -1)
    )
    return joined
