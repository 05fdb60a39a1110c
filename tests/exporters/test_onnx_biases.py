"""Biases of a quantized ONNX graph are moved so that its layers give the float graph's means."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cnnclf.config import ExportConfig
from cnnclf.exporters.onnx_biases import correct_biases
from tests.exporters.conftest import Export

IMAGES = np.random.default_rng(1).integers(0, 256, (40, 56, 42, 3), dtype=np.uint8)


def _run(path: Path, output: str | None = None) -> Any:
    model = onnx.load(path)
    if output is not None:
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=output))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {session.get_inputs()[0].name: IMAGES})[0]


@pytest.fixture
def shifted(export: Export, tmp_path: Path) -> tuple[Path, Path, str]:
    """A quantized graph, the same with one bias changed by much, and the tensor it changes."""
    plain = export(ExportConfig(format="onnx", quantize="int8")).directory / "model.onnx"
    model = onnx.load(plain)
    layer = next(node for node in model.graph.node if node.op_type == "Conv")
    maker = next(node for node in model.graph.node if layer.input[2] in node.output)
    bias = next(each for each in model.graph.initializer if each.name == maker.input[0])
    values = numpy_helper.to_array(bias)
    assert values.dtype == np.int32
    bias.CopyFrom(numpy_helper.from_array(values + np.int32(3000), bias.name))
    onnx.save(model, tmp_path / "shifted.onnx")
    return plain, tmp_path / "shifted.onnx", layer.output[0]


def test_a_shifted_bias_is_put_right(shifted: tuple[Path, Path, str]) -> None:
    plain, changed, name = shifted
    wrong = np.abs(
        _run(changed, name).mean(axis=(0, 2, 3)) - _run(plain, name).mean(axis=(0, 2, 3))
    )
    assert wrong.max() > 0.05
    correct_biases(plain, changed, images=IMAGES)
    right = np.abs(
        _run(changed, name).mean(axis=(0, 2, 3)) - _run(plain, name).mean(axis=(0, 2, 3))
    )
    assert right.max() < 0.002
    np.testing.assert_allclose(_run(changed), _run(plain), atol=0.05)


def test_a_graph_without_such_biases_stays_as_it_is(export: Export, tmp_path: Path) -> None:
    plain = export(ExportConfig(format="onnx")).directory / "model.onnx"
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(plain.read_bytes())
    correct_biases(plain, copy, images=IMAGES[:1])
    np.testing.assert_array_equal(_run(copy), _run(plain))
