"""ONNX, for ONNX Runtime and other programs that read it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.exporters.exporter import ExportJob
from cnnclf.exporters.onnx_biases import correct_biases
from cnnclf.inference.engines.converting import converting
from cnnclf.inference.engines.engine import Pixels
from cnnclf.inference.engines.onnxruntime_engine import (
    convert_to_onnx,
    onnx_errors,
    onnxruntime_errors,
)
from cnnclf.runs.run_names import CLASSIFIER_FILE

_MIN_WEIGHTS = 64  # smaller constants stay in float32
_MAX_FLOAT16 = 65_504.0


def export_onnx(job: ExportJob) -> tuple[str, ...]:
    """Write model.onnx.

    Raises:
        EngineRefusedError: The model cannot be converted or quantized.
    """
    import onnx

    path = convert_to_onnx(job.model, job.directory)
    if job.quantize == "int8":
        _quantize(path, job)
    model = onnx.load(path)
    if job.quantize == "float16":
        _halve_weights(onnx, model)
    _name_ends(model.graph, job.output)
    onnx.helper.set_model_props(model, {CLASSIFIER_FILE: job.description})
    onnx.save(model, path)
    return (path.name,)


def _quantize(path: Path, job: ExportJob) -> None:
    """Quantize to 8 bits: weights per channel, activations by their minimum and maximum."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc] # untyped
        def __init__(self, name: str) -> None:
            self._feeds = ({name: batch} for batch in job.calibration_batches())

        def get_next(self) -> dict[str, Pixels] | None:
            return next(self._feeds, None)

    with (
        converting("ONNX Runtime's quantizer", *onnxruntime_errors(), *onnx_errors()),
        tempfile.TemporaryDirectory(prefix="cnnclf-") as directory,
    ):
        simple = Path(directory) / "simple.onnx"
        # Its symbolic shape inference needs one more package and adds nothing for such a graph.
        quant_pre_process(str(path), str(simple), skip_symbolic_shape=True)
        graph = onnx.load(simple).graph
        quantization.quantize_static(
            str(simple),
            str(path),
            Reader(graph.input[0].name),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_list_kinds(graph),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        correct_biases(simple, path, images=job.calibration)


def _list_kinds(graph: Any) -> list[str]:
    """Return the kinds of nodes to quantize: all that ONNX Runtime supports except the softmax.

    In 8 bits, probabilities below 1/256 would become 0.
    """
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    known = QDQRegistry.keys() | QLinearOpsRegistry.keys()
    return sorted(({node.op_type for node in graph.node} & known) - {"Softmax"})


def _halve_weights(onnx: Any, model: Any) -> None:
    """Store large constants in float16; ONNX Runtime converts them to float32 when it loads."""
    graph = model.graph
    widenings = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size < _MIN_WEIGHTS or np.abs(values).max() > _MAX_FLOAT16:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        widenings.append(
            onnx.helper.make_node(
                "Cast", [tensor.name], [name], name=f"{name}/widen", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*widenings, *graph.node]  # constants before the nodes that use them
    del graph.node[:]
    graph.node.extend(nodes)


def _name_ends(graph: Any, output: str) -> None:
    """Name the output and the dynamic batch size."""
    old = graph.output[0].name
    for node in graph.node:
        node.output[:] = [output if name == old else name for name in node.output]
        node.input[:] = [output if name == old else name for name in node.input]
    graph.output[0].name = output
    for end in (graph.input[0], graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # shapes under the old names
