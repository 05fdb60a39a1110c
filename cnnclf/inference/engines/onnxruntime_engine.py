"""The ONNX Runtime engine: one session, and one thread per core, each with its own images."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.engines.batch_streams import PieceEngine, in_threads
from cnnclf.inference.engines.converting import cannot_compute, converting
from cnnclf.inference.engines.engine import EngineOptions, Logits, ModelFile, Pixels
from cnnclf.inference.engines.onnx_check import check_onnx

_ONE = "cnnclf/one"
_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def open_onnxruntime(model: ModelFile, options: EngineOptions) -> PieceEngine:
    """Open an .onnx file.

    Raises:
        RunError: The file is damaged, does not match the bundle, or has weights in other files.
    """
    import onnxruntime

    check_onnx(model.path)

    settings = onnxruntime.SessionOptions()
    # Threads that wait for each other inside an operation would leave cores idle.
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(model.path), settings, providers=["CPUExecutionProvider"]
        )
    except onnxruntime_errors() as error:
        raise RunError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {model.path}: {str(error)[:200]}",
            "export it again",
        ) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type not in _DTYPES:
        types = [each.type for each in inputs]
        raise model.damaged(f"the inputs of its model are {types}, not one uint8 or float")
    model.check(inputs[0].shape, outputs[0].shape)
    name, dtype, errors = inputs[0].name, _DTYPES[inputs[0].type], onnxruntime_errors()

    def compute(pixels: Pixels) -> Logits:
        try:
            feed = {name: pixels.astype(dtype, copy=False)}
            return np.asarray(session.run(None, feed)[0], np.float32)
        except errors as error:
            raise cannot_compute("ONNX Runtime", error) from error

    return PieceEngine(
        "onnxruntime",
        options.precision or model.precision,
        outputs=model.outputs,
        compute=in_threads(compute, options.threads or count_usable_cpus(), name="onnxruntime"),
    )


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as module

    kinds = [each for each in vars(module).values() if isinstance(each, type)]
    return tuple(kind for kind in kinds if issubclass(kind, Exception))


def onnx_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that ONNX raises for an invalid graph."""
    from onnx import checker, shape_inference

    return checker.ValidationError, shape_inference.InferenceError


def convert_to_onnx(model: Any, directory: Path) -> Path:
    """Write a Keras model as model.onnx.

    Args:
        model: From uint8 pixels to logits.
        directory: An existing directory.
    """
    path = directory / "model.onnx"
    with converting("ONNX Runtime", *onnx_errors()):
        model.export(str(path), format="onnx", verbose=False)
    _repair(path)
    return path


def _repair(path: Path) -> None:
    """Fix the graphs of tf2onnx.

    It leaves folded constants as inputs of the graph, and the erfc of a GELU, though ONNX has only
    erf: erfc becomes 1 - erf.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    inputs = [each for each in graph.input if each.name in used]
    has_erfc = any(node.op_type == "Erfc" for node in graph.node)
    if len(inputs) == len(graph.input) and not has_erfc:
        return
    del graph.input[:]
    graph.input.extend(inputs)
    if has_erfc:
        nodes = [part for node in graph.node for part in _without_erfc(onnx, node)]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), _ONE))
    onnx.save(model, path)


def _without_erfc(onnx: Any, node: Any) -> list[Any]:
    if node.op_type != "Erfc":
        return [node]
    [result] = node.output
    make = onnx.helper.make_node
    return [
        make("Erf", node.input, [f"{result}/erf"]),
        make("Sub", [_ONE, f"{result}/erf"], [result]),
    ]
