"""Corrects the biases of a quantized LiteRT model by the mean shift of its layers' outputs.

The method of `onnx_biases` for TensorFlow Lite files. In these, the activation is part of the
layer, so that only means after it can be compared; the shift is divided by the fraction of values
that the activation does not clip.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.engines.engine import Pixels

_IMAGES = 32
_BATCH = 4
# Lower bound of that fraction.
_MIN_GAIN = 0.3

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Layer:
    """A layer with a bias.

    Args:
        operator: The operator in the model.
        kind: Its code in the schema.
        size: Length of the bias.
        low: Lower limit of the activation.
        high: Upper limit of the activation.
    """

    operator: Any
    kind: int
    size: int
    low: float
    high: float

    @property
    def output(self) -> int:
        return int(self.operator.outputs[0])


def correct_biases(plain: bytes, quantized: bytes, *, images: Pixels) -> bytes:
    """Correct the biases of a quantized model.

    Args:
        plain: The float model of the same graph.
        quantized: The model in int8, with biases in int32.
        images: uint8 [n, H, W, C], n >= 1; evenly spaced ones are used.

    Returns:
        The corrected model; `quantized` itself if the layers of the two differ.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    chosen = images[np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(int)]
    chosen = chosen[: max(len(chosen) // _BATCH, 1) * _BATCH]
    originals = _find_layers(flatbuffer_utils.convert_bytearray_to_object(bytearray(plain)))
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(quantized))
    layers = _find_layers(model)
    if [(each.kind, each.size) for each in layers] != [
        (each.kind, each.size) for each in originals
    ]:
        return quantized
    content = quantized
    expected = _measure(plain, originals, chosen)
    for layer, (wanted, gain) in zip(layers, expected, strict=True):
        tensor = model.subgraphs[0].tensors[layer.operator.inputs[2]]
        if tensor.type != _INT32:
            continue
        [(found, _)] = _measure(content, [layer], chosen)
        steps = np.round((wanted - found) / gain / np.asarray(tensor.quantization.scale))
        _change_bias(model, layer, tensor, steps)
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return content


def _change_bias(model: Any, layer: _Layer, tensor: Any, steps: Values) -> None:
    """Change the bias of one layer only: equal biases are stored once and shared."""
    graph = model.subgraphs[0]
    buffer = model.buffers[tensor.buffer]
    values = np.frombuffer(bytes(bytearray(buffer.data)), np.int32)
    changed = np.frombuffer((values + steps).astype(np.int32).tobytes(), np.uint8)
    users = [each for each in graph.operators if layer.operator.inputs[2] in each.inputs]
    if len(users) == 1 and [each.buffer for each in graph.tensors].count(tensor.buffer) == 1:
        buffer.data = changed
        return
    buffer, tensor = copy.copy(buffer), copy.copy(tensor)
    buffer.data = changed
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
    graph.tensors.append(tensor)
    layer.operator.inputs = [*layer.operator.inputs[:2], len(graph.tensors) - 1]


# Codes of the TensorFlow Lite schema.
_INT32 = 2
_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED = 3, 4, 9
_ACTIVATIONS = {1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # ReLU, ReLU -1..1, ReLU6


def _find_layers(model: Any) -> list[_Layer]:
    """Find the layers with a bias, in the order of the model."""
    graph = model.subgraphs[0]
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if kind not in {_CONV_2D, _DEPTHWISE_CONV_2D, _FULLY_CONNECTED}:
            continue
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            continue
        activation = operator.builtinOptions.fusedActivationFunction
        low, high = _ACTIVATIONS.get(activation, (-np.inf, np.inf))
        [size] = graph.tensors[operator.inputs[2]].shape
        found.append(_Layer(operator, kind, int(size), low, high))
    return found


def _measure(
    content: bytes, layers: Sequence[_Layer], images: Pixels
) -> list[tuple[Values, Values]]:
    """Return per layer the means of its channels and the fraction that is not clipped."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        num_threads=count_usable_cpus(),
    )
    feed = interpreter.get_input_details()[0]["index"]
    size = min(_BATCH, len(images))
    interpreter.resize_tensor_input(feed, (size, *images.shape[1:]))
    interpreter.allocate_tensors()
    scales = {each["index"]: each["quantization"] for each in interpreter.get_tensor_details()}
    sums = [[np.zeros(1), np.zeros(1)] for _ in layers]
    starts = range(0, len(images), size)
    for start in starts:
        interpreter.set_tensor(feed, images[start : start + size])
        interpreter.invoke()
        for layer, total in zip(layers, sums, strict=True):
            values = interpreter.get_tensor(layer.output).astype(np.float32)
            scale, zero = scales[layer.output]
            values = (values - zero) * np.float32(scale) if scale else values
            places = tuple(range(values.ndim - 1))
            total[0] = total[0] + values.mean(axis=places, dtype=np.float64)
            total[1] = total[1] + ((values > layer.low) & (values < layer.high)).mean(axis=places)
    return [
        (mean / len(starts), np.maximum(open_ / len(starts), _MIN_GAIN)) for mean, open_ in sums
    ]
