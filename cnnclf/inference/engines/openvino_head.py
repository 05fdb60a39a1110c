"""The last feature maps in a graph of OpenVINO: of converted runs, and of exports.

They become an output of the graph beside the logits, so one pass gives both, and neither TensorFlow
nor gradients are needed to see what each place adds to a logit.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.inference.engines.batch_streams import MAX_PIECE
from cnnclf.inference.engines.engine import Engine, ModelFile
from cnnclf.inference.engines.engine_table import find_engine, find_missing
from cnnclf.inference.engines.openvino_engine import OpenVinoEngine, OpenVinoGraph, load_openvino

_PARTS = {"ReduceMean": "average", "ReduceMax": "max", "Reshape": "flatten"}
# What may lie between pooling, dense layer and logits, and changes no number.
_PASSED = {"Convert", "FakeQuantize", "Reshape", "Squeeze", "Transpose"}
_DEQUANTIZED = {"Convert", "Multiply", "Subtract"}  # in this order up from FakeQuantize, in ONNX
_RESCALED = {"Softmax", "Multiply", "Divide"}  # probabilities of logits / temperature


class OpenVinoHead:
    """Computes the last feature maps and the logits in one pass.

    Attributes:
        head: What is done to the maps; None if that is not pooling and one dense layer.

    Args:
        path: The file of the graph.
        precision: float32, bfloat16 or int8.
        outputs: K.
        threads: CPU threads; None for all that the process may use.

    Raises:
        RunError: The graph cannot be read.
    """

    def __init__(
        self, path: Path, *, precision: str, outputs: int, threads: int | None = None
    ) -> None:
        self.head: LinearHead | None = None
        self.precision = precision
        self._outputs = outputs
        self._graph = OpenVinoGraph(
            path, precision=precision, threads=threads, change=self._add_outputs
        )

    def compute(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Compute uint8 [n, H, W, C], n >= 1, to maps [n, h, w, C] and logits [n, K]."""
        assert self.head is not None
        pieces = ((None, pixels[at : at + MAX_PIECE]) for at in range(0, len(pixels), MAX_PIECE))
        with closing(self._graph.stream(pieces)) as results:
            # logits that are the first output already are no output twice
            parts = [outputs[-2:] for _, outputs in results]
        logits, maps = (np.concatenate(each) for each in zip(*parts, strict=True))
        return [np.moveaxis(maps, 1, -1) if self.head.is_channels_first else maps, logits]

    def _add_outputs(self, graph: Any) -> None:
        self.head = _find_head(graph, self._outputs)
        if self.head is not None:
            graph.add_outputs([self.head.logits, self.head.maps])


def open_openvino_head(engine: Engine, model: ModelFile) -> OpenVinoHead | None:
    """Open the graph of an engine, or of an export to a format that OpenVINO opens.

    Returns:
        None if there is no such graph, or its head is not pooling and one dense layer.
    """
    row = find_engine("openvino")
    path, threads = model.path, None
    if isinstance(engine, OpenVinoEngine):
        path, threads = engine.graph.path, engine.graph.threads
    elif model.format not in row.opens or find_missing(row):
        return None
    opened = OpenVinoHead(path, precision=engine.precision, outputs=model.outputs, threads=threads)
    return opened if opened.head is not None else None


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Pooling and one dense layer at the end of a graph.

    Args:
        logits: Output of a node, before any softmax.
        maps: Output of a node: the last features that have places.
        parts: What is done to the maps before the dense layer: average, max and flatten, in the
            order of the kernel's rows.
        kernel: float64 [features, K] of the dense layer.
        bias: float64 [K].
        is_channels_first: Whether the maps are [n, C, h, w] instead of [n, h, w, C].
    """

    logits: Any
    maps: Any
    parts: tuple[str, ...]
    kernel: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    is_channels_first: bool


def _find_head(graph: Any, outputs: int) -> LinearHead | None:
    """Walk back from the result; None if the head is not pooling and one dense layer."""
    logits = _skip(graph.get_results()[0].input_value(0), _PASSED)
    if _kind(logits) == "Concat":  # of logits and features
        logits = _skip(logits.get_node().input_value(0), _PASSED)
    if _kind(logits) == "Softmax":
        logits = _skip(logits, _PASSED | _RESCALED)
    product, bias, factor = logits, np.zeros(1), np.ones(1)
    if _kind(logits) == "Add":
        product, bias = _split(logits.get_node())
        product = _skip(product, _PASSED)
    if _kind(product) == "Multiply":  # of ONNX's Gemm
        product, factor = _split(product.get_node())
    if _kind(product) != "MatMul":
        return None
    node = product.get_node()
    features, kernel = _split(node)
    if kernel.ndim != 2 or not bias.size or factor.size != 1:
        return None
    if node.get_attributes()["transpose_b"]:
        kernel = kernel.T
    if kernel.shape[1] != outputs:
        return None
    pools = list(_find_pools(features))
    parts = tuple(_PARTS.get(_kind(pool), "") for pool in pools)
    sources = [each for pool in pools for each in pool.get_node().input_values()[:1]]
    names = {(each.get_node().get_friendly_name(), each.get_index()) for each in sources}
    if not all(parts) or len(names) != 1 or _rank(sources[0]) != 4:
        return None
    axes = [_read(pool.get_node().input_value(1)) for pool in pools if "Reduce" in _kind(pool)]
    # only the global pooling of ONNX computes its axes, which are the last ones
    first = bool(axes) and (not axes[0].size or sorted(axes[0]) == [2, 3])
    return LinearHead(
        logits,
        sources[0],
        parts,
        kernel * factor,
        np.broadcast_to(bias.ravel(), kernel.shape[1:]),
        first,
    )


def _find_pools(port: Any) -> Iterator[Any]:
    port = _skip(port, _PASSED - {"Reshape"})
    inputs = port.get_node().input_values()
    if _kind(port) == "Concat":
        for each in inputs:
            yield from _find_pools(each)
    elif _kind(port) == "Reshape" and _rank(inputs[0]) != 4:
        yield from _find_pools(inputs[0])
    else:
        yield port


def _skip(port: Any, kinds: set[str]) -> Any:
    """Return the first output, from a port back, of a node of another kind."""
    while True:
        source = port
        while _kind(source) in _DEQUANTIZED:
            source = source.get_node().input_value(0)
        if _kind(source) in kinds & {"FakeQuantize"}:
            port = source
        elif _kind(port) not in kinds:
            return port
        port = port.get_node().input_value(0)


def _split(node: Any) -> tuple[Any, npt.NDArray[np.float64]]:
    """Return what a sum or product is computed of, and its constant; empty if there is none."""
    for at in (1, 0):
        value = _read(node.input_value(at))
        if value.size:
            return node.input_value(1 - at), value
    return node.input_value(0), np.zeros(0)


def _read(port: Any) -> npt.NDArray[np.float64]:
    """Return the value of an output that depends on no input; empty if it does."""
    openvino = load_openvino()
    if _kind(_skip(port, {*_PASSED, *_RESCALED, "Subtract"})) != "Constant":
        return np.zeros(0)
    graph = openvino.Model([port], [])
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled([])[0], np.float64)


def _kind(port: Any) -> str:
    return str(port.get_node().get_type_name())


def _rank(port: Any) -> int:
    return len(port.get_partial_shape())
