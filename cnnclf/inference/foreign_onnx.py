"""ONNX files of other programs: scaling, order of channels and batch become part of the graph."""

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.errors import MissingPackageError, RunError
from cnnclf.inference.foreign_model import Scaling, draw_probes, multi_label_error
from cnnclf.packages import suggest_install

_FLOAT, _FLOAT16, _UINT8 = 1, 10, 2  # onnx.TensorProto.DataType
_PREFIX: Final = "cnnclf/"
_MIN_OPSET: Final = 7  # the first whose Mul and Add broadcast
_AGAIN: Final = "export it again, with one input [N, 3, height, width] and one output [N, classes]"


def read_shape(path: Path) -> tuple[int | None, int | None, int]:
    """Read height, width and channels of the images that an ONNX file takes; None for any.

    Raises:
        MissingPackageError: onnx or onnxruntime is not installed.
        RunError: It cannot be read, has weights in other files, or takes no images.
    """
    model = _load(path)
    dims, is_planar = _read_input(path, _find_input(path, model))
    return (dims[2], dims[3], dims[1] or 0) if is_planar else (dims[1], dims[2], dims[3] or 0)


def scale_onnx(
    path: Path, target: Path, *, shape: tuple[int, int, int], scaling: Scaling
) -> npt.NDArray[np.float32]:
    """Write a model of uint8 images [N, H, W, C] that scales them for the model in a file.

    Args:
        path: The file.
        target: The file to write.
        shape: Height, width and channels.
        scaling: What the model expects.

    Returns:
        Its outputs [N, K] for `draw_probes`.

    Raises:
        RunError: The model is multi-label, or cannot be computed for several images at once.
    """
    import onnx

    model = _load(path)
    graph = model.graph
    old = _find_input(path, model)
    _, is_planar = _read_input(path, old)
    opsets = [each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}]
    if max(opsets, default=0) < _MIN_OPSET:
        raise RunError(f"{path} is of a version of ONNX before 1.2", _AGAIN)
    [output] = graph.output if len(graph.output) == 1 else [None]
    if output is None:
        names = ", ".join(each.name for each in graph.output)
        raise RunError(f"{path} has {len(graph.output)} outputs: {names}", _AGAIN)
    last = next((node for node in graph.node if output.name in node.output), None)
    if last is not None and last.op_type in {"Sigmoid", "HardSigmoid"}:
        raise multi_label_error(path, last.op_type.lower())
    nodes, constants = _scale(onnx, old, scaling=scaling, is_planar=is_planar)
    inner = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(inner)
    graph.initializer.extend(constants)
    pixels = onnx.helper.make_tensor_value_info(f"{_PREFIX}pixels", _UINT8, ["batch", *shape])
    rest = [each for each in graph.input if each.name != old.name]
    del graph.input[:]
    graph.input.extend([pixels, *rest])
    output.type.tensor_type.shape.dim[0].Clear()
    output.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]  # shapes of the old batch
    onnx.save(model, target)
    return _compute(path, target, shape=shape)


def _load(path: Path) -> Any:
    from cnnclf.inference.engines.onnx_check import check_onnx

    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                f"{path} needs {name}, which is not installed", suggest_install(name)
            )
    import onnx
    from google.protobuf.message import DecodeError

    check_onnx(path)
    try:
        return onnx.load(path)
    except (DecodeError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", "copy it again") from error


def _find_input(path: Path, model: Any) -> Any:
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise RunError(f"{path} has {len(inputs)} inputs: {names}", _AGAIN)
    return inputs[0]


def _read_input(path: Path, found: Any) -> tuple[list[int | None], bool]:
    """Return the dimensions of the input, None for any, and whether channels come first."""
    kind = found.type.tensor_type
    dims = [each.dim_value or None for each in kind.shape.dim]
    is_image = len(dims) == 4 and kind.elem_type in {_FLOAT, _FLOAT16, _UINT8}
    is_planar = is_image and dims[1] in (1, 3)
    if not is_image or not (is_planar or dims[3] in (1, 3)):
        from onnx import TensorProto

        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise RunError(f"{path} is no classifier of images: it takes {name} {dims}", _AGAIN)
    return dims, is_planar


def _scale(
    onnx: Any, old: Any, *, scaling: Scaling, is_planar: bool
) -> tuple[list[Any], list[Any]]:
    """Return nodes from uint8 [N, H, W, C] to what the model takes, and their constants."""
    make, kind = onnx.helper.make_node, old.type.tensor_type.elem_type
    constants = [
        onnx.numpy_helper.from_array(np.array(values, np.float32), f"{_PREFIX}{name}")
        for name, values in (("factors", scaling.factors), ("offsets", scaling.offsets))
    ]
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": _FLOAT}),
        ("Mul", [constants[0].name], {}),
        ("Add", [constants[1].name], {}),
    ]
    if is_planar:
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if kind != _FLOAT:
        steps.append(("Cast", [], {"to": kind}))
    nodes, name = [], f"{_PREFIX}pixels"
    for number, (operation, more, settings) in enumerate(steps, 1):
        result = old.name if number == len(steps) else f"{_PREFIX}step{number}"
        nodes.append(
            make(operation, [name, *more], [result], name=f"{_PREFIX}{number}", **settings)
        )
        name = result
    return nodes, constants


def _compute(path: Path, target: Path, *, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Compute a few images together and one by one, which must agree."""
    import onnxruntime

    from cnnclf.inference.engines.onnxruntime_engine import onnxruntime_errors

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    pixels = draw_probes(shape)
    try:
        session = onnxruntime.InferenceSession(
            str(target), settings, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        [single] = session.run(None, {name: pixels[:1]})
    except onnxruntime_errors() as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"ONNX Runtime cannot compute {path}: {reason}", _AGAIN) from error
    if single.ndim != 2:
        raise RunError(f"{path} is no classifier: it returns {list(single.shape)}", _AGAIN)
    try:
        [outputs] = session.run(None, {name: pixels})
    except onnxruntime_errors():
        outputs = single
    if len(outputs) != len(pixels) or not np.allclose(outputs[:1], single, rtol=1e-2, atol=1e-2):
        raise RunError(
            f"{path} computes one image at a time",
            "export it with a batch of any size: dynamic_axes={'input': {0: 'batch'}, "
            "'output': {0: 'batch'}} of torch.onnx.export",
        )
    return np.asarray(outputs, np.float32)
