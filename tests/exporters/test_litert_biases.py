"""Biases of a quantized LiteRT model are moved so that its layers give the float model's means."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.config import ExportConfig
from cnnclf.exporters.litert_biases import correct_biases
from tests.exporters.conftest import Export

IMAGES = np.random.default_rng(1).integers(0, 256, (12, 56, 42, 3), dtype=np.uint8)


def _read(export: Export, quantize: str | None) -> bytes:
    return (
        export(ExportConfig(format="litert", quantize=quantize)).directory / "model.tflite"
    ).read_bytes()


def _run(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner()
    return runner(pixels=IMAGES).popitem()[1]


def _shift_first_bias(content: bytes, *, is_shared: bool) -> bytes:
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    layer = next(each for each in graph.operators if len(each.inputs) == 3)
    tensor = graph.tensors[layer.inputs[2]]
    buffer = model.buffers[tensor.buffer]
    values = np.frombuffer(bytes(bytearray(buffer.data)), np.int32) + np.int32(2500)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    if is_shared:
        graph.tensors.append(tensor)  # whose it is does not matter, only that there is another
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_shifted_bias_is_put_right(export: Export, is_shared: bool) -> None:
    plain, quantized = _read(export, None), _read(export, "int8")
    changed = _shift_first_bias(quantized, is_shared=is_shared)
    expected = _run(plain)
    wrong = np.abs(_run(changed) - expected).mean()
    corrected = correct_biases(plain, changed, images=IMAGES)
    right = np.abs(_run(corrected) - expected).mean()
    assert wrong > 0.1
    assert right < wrong / 4
    assert is_shared or abs(len(corrected) - len(changed)) < 200


@pytest.mark.parametrize("count", [1, 5])
def test_few_images_will_do(export: Export, count: int, tmp_path: Path) -> None:
    plain, quantized = _read(export, None), _read(export, "int8")
    corrected = correct_biases(plain, quantized, images=IMAGES[:count])
    np.testing.assert_allclose(_run(corrected), _run(plain), atol=0.5)


def test_a_float_model_stays_as_it_is(export: Export) -> None:
    plain = _read(export, None)
    assert correct_biases(plain, plain, images=IMAGES) == plain
