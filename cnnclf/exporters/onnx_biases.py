"""Corrects the biases of a quantized ONNX graph by the mean shift of its layers' outputs.

Rounded weights and activations shift the mean of each output channel, and the shifts accumulate
from layer to layer. Layer by layer, the mean over some images is compared with that of the float
graph and the difference is subtracted from the bias (empirical bias correction: Nagel et al.,
Data-free quantization through weight equalization and bias correction, 2019).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.inference.engines.engine import Pixels

_IMAGES = 32
_BATCH = 4
_KINDS = {"Conv", "ConvTranspose", "Gemm"}

Means = npt.NDArray[np.float64]


def correct_biases(plain: Path, quantized: Path, *, images: Pixels) -> None:
    """Correct the biases of a quantized graph in its file.

    Args:
        plain: The float graph it was made from; nodes have the same names.
        quantized: With QuantizeLinear and DequantizeLinear nodes, biases in int32.
        images: uint8 [n, H, W, C], n >= 1; evenly spaced ones are used.
    """
    import onnx

    chosen = images[np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(int)]
    original, model = onnx.load(plain), onnx.load(quantized)
    ends = {node.name: node.output[0] for node in original.graph.node if node.op_type in _KINDS}
    layers = [
        (node, bias)
        for node in model.graph.node
        if node.name in ends and (bias := _find_bias(model.graph, node)) is not None
    ]
    if not layers:
        return
    names = [ends[node.name] for node, _ in layers]
    expected = _measure_means(onnx, original, names, chosen)
    for (node, (bias, scale)), wanted in zip(layers, expected, strict=True):
        [found] = _measure_means(onnx, model, [node.output[0]], chosen)
        values = onnx.numpy_helper.to_array(bias)
        steps = np.round((wanted - found) / onnx.numpy_helper.to_array(scale))
        bias.CopyFrom(onnx.numpy_helper.from_array((values + steps).astype(np.int32), bias.name))
    onnx.save(model, quantized)


def _find_bias(graph: Any, node: Any) -> tuple[Any, Any] | None:
    """Return the int32 bias of a layer and its scale; None without a bias of its own."""
    if len(node.input) < 3:
        return None
    makers = {name: maker for maker in graph.node for name in maker.output}
    maker = makers.get(node.input[2])
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    constants = {tensor.name: tensor for tensor in graph.initializer}
    bias, scale = (constants.get(name) for name in maker.input[:2])
    users = [other for other in graph.node for name in other.input if name == maker.input[0]]
    return None if bias is None or scale is None or len(users) > 1 else (bias, scale)


def _measure_means(onnx: Any, model: Any, names: Sequence[str], images: Pixels) -> list[Means]:
    """Return the channel means of some tensors of a graph, over images and positions."""
    import onnxruntime

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]  # nothing is computed that the tensors do not depend on
    cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        cut.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    feed = session.get_inputs()[0].name
    sums = [np.zeros(1)] * len(names)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH]
        for at, values in enumerate(session.run(list(names), {feed: batch})):
            places = tuple(axis for axis in range(values.ndim) if axis != 1)
            sums[at] = sums[at] + values.mean(axis=places, dtype=np.float64) * len(batch)
    return [each / len(images) for each in sums]
