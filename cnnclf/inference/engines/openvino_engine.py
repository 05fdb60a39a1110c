"""The OpenVINO engine: all cores, several batches at once, bfloat16 where the CPU supports it.

The conversion from uint8 is part of the graph, so batches are passed in a quarter of the bytes.
"""

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.engines.batch_streams import PieceEngine, Pieces
from cnnclf.inference.engines.converting import cannot_compute, converting, first_line
from cnnclf.inference.engines.engine import EngineOptions, ModelFile, Pixels, Tag
from cnnclf.inference.engines.onnx_check import check_onnx

Outputs = list[npt.NDArray[Any]]

# Sends telemetry about each import and conversion, unless the user has opted out.
_TELEMETRY = "openvino_telemetry"

_CORES: list[Any] = []  # see `load_openvino`

# One batch is queued while the others are computed, so that no core waits for Python.
_SPARE_REQUESTS = 1
_WORDS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenVinoGraph:
    """A compiled graph from uint8 images to one or more outputs.

    Attributes:
        path: Its file.
        precision: Its precision.
        threads: CPU threads, as given.
        input_shape: Shape of the input, -1 for a dynamic dimension.
        output_shapes: Shape of each output.

    Args:
        path: The .xml file of OpenVINO's own format, an .onnx or a .tflite file.
        precision: float32 or bfloat16; int8 for a quantized graph.
        threads: CPU threads; None for all that the process may use.
        change: Receives the graph before it is compiled, and may add outputs.

    Raises:
        RunError: The graph cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str,
        threads: int | None = None,
        change: Callable[[Any], None] | None = None,
    ) -> None:
        openvino, core = load_openvino(), load_core()
        self.path, self.precision, self.threads = path, precision, threads
        try:
            graph = _accept_uint8(openvino, core.read_model(path))
            if change is not None:
                change(graph)
            self._compiled = core.compile_model(
                graph,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": _WORDS[precision],
                    "INFERENCE_NUM_THREADS": threads or count_usable_cpus(),
                    # Decoding, and other processes, share the cores.
                    "ENABLE_CPU_PINNING": False,
                },
            )
        except RuntimeError as error:
            raise RunError(
                f"OpenVINO cannot open {path}: {first_line(error)}", "export it again"
            ) from error
        self.input_shape = _shape(self._compiled.input(0))
        self.output_shapes = [_shape(output) for output in self._compiled.outputs]
        self._requests: list[Any] = []
        self._lock = threading.Lock()

    def compute(self, pixels: Pixels) -> Outputs:
        """Compute one batch."""
        [(_, outputs)] = self.stream([(None, pixels)])
        return outputs

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Outputs], None, None]:
        """Compute batches in order; an empty batch drains those before it."""
        idle = self._take_requests()
        busy: deque[tuple[Tag, Any]] = deque()
        try:
            for tag, pixels in batches:
                if not len(pixels):
                    while busy:
                        yield self._finish(busy, idle)
                    yield tag, []
                    continue
                if not idle:
                    yield self._finish(busy, idle)
                request = idle.pop()
                try:
                    request.start_async({0: pixels})
                except RuntimeError as error:
                    idle.append(request)
                    raise cannot_compute("OpenVINO", error) from error
                busy.append((tag, request))
            while busy:
                yield self._finish(busy, idle)
        finally:
            for _, request in busy:
                with suppress(RuntimeError):  # raised already, or the caller has stopped
                    request.wait()
            with self._lock:
                self._requests = idle + [request for _, request in busy]

    def first_outputs(self, pieces: Iterable[tuple[None, Pixels]]) -> Pieces:
        """Compute pieces in order, as many at once as keep all cores busy."""
        with closing(self.stream(pieces)) as results:
            for _, outputs in results:
                yield None, np.asarray(outputs[0] if outputs else (), np.float32)

    def _take_requests(self) -> list[Any]:
        """Return idle requests; they own the memory of the graph's tensors and are reused."""
        with self._lock:
            requests, self._requests = self._requests, []
        if not requests:
            count = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            requests = [
                self._compiled.create_infer_request() for _ in range(count + _SPARE_REQUESTS)
            ]
        return requests

    def _finish(self, busy: deque[tuple[Tag, Any]], idle: list[Any]) -> tuple[Tag, Outputs]:
        tag, request = busy[0]
        try:
            request.wait()
        except RuntimeError as error:
            raise cannot_compute("OpenVINO", error) from error
        busy.popleft()
        count = len(self.output_shapes)
        outputs = [np.array(request.get_output_tensor(index).data) for index in range(count)]
        idle.append(request)
        return tag, outputs


class OpenVinoEngine(PieceEngine):
    """Computes logits with an OpenVINO graph.

    Args:
        graph: From uint8 images to logits.
        precision: The precision of the graph.
        outputs: K.
    """

    def __init__(self, graph: OpenVinoGraph, *, precision: str, outputs: int) -> None:
        super().__init__("openvino", precision, outputs=outputs, compute=graph.first_outputs)
        self.graph = graph


@functools.cache
def load_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    Every core, also those that other libraries such as NNCF create, is kept until the process ends.
    OpenVINO's CPU plugin gives the thread that creates a core an alternate signal stack and frees
    it with the core. If another thread frees the core, such as one that runs the garbage collector,
    the first thread is left without a stack and crashes at its next signal, such as Ctrl-C. A core
    takes about 40 kB.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type] # makes its import fail
    import openvino

    make = openvino.Core.__init__

    def make_and_keep(core: Any, *args: Any, **how: Any) -> None:
        make(core, *args, **how)
        _CORES.append(core)

    openvino.Core.__init__ = make_and_keep
    return openvino


@functools.cache
def load_core() -> Any:
    """Create the core that all our graphs share."""
    return load_openvino().Core()


def open_openvino(model: ModelFile, options: EngineOptions) -> OpenVinoEngine:
    """Open a graph in the format of OpenVINO, ONNX or LiteRT.

    None of OpenVINO's operations reads or writes files, and no extension is ever loaded.

    Raises:
        RunError: The file is damaged, does not match the bundle, or has parts in other files.
    """
    precision = options.precision or model.precision
    if model.path.suffix == ".onnx":
        check_onnx(model.path)
    graph = OpenVinoGraph(model.path, precision=precision, threads=options.threads)
    model.check(graph.input_shape, graph.output_shapes[0])
    return OpenVinoEngine(graph, precision=precision, outputs=model.outputs)


def convert_to_openvino(model: Any, directory: Path) -> Path:
    """Write a Keras model as OpenVINO's model.xml and model.bin.

    Args:
        model: From pixels 0..255 to one or more outputs.
        directory: An existing directory.
    """
    openvino = load_openvino()
    refusals = (
        openvino.frontend.GeneralFailure,
        openvino.frontend.NotImplementedFailure,
        openvino.frontend.OpConversionFailure,
        openvino.frontend.OpValidationFailure,
    )
    whole, path = directory / "whole.xml", directory / "model.xml"
    _skip_version_check()
    with converting("OpenVINO", *refusals):
        model.export(str(whole), format="openvino", verbose=False)
        graph = load_core().read_model(whole)
        had_more = _keep_outputs(graph, len(model.outputs))
        if had_more:
            openvino.save_model(graph, path, compress_to_fp16=False)
    del graph  # it keeps its files open
    for suffix in (".xml", ".bin"):
        file = whole.with_suffix(suffix)
        if had_more:
            file.unlink()
        else:
            file.replace(path.with_suffix(suffix))
    return path


def _skip_version_check() -> None:
    """Give OpenVINO's converter the version of TensorFlow, which it does not find in Python 3.13.

    It imports and deletes a name by `exec`, which no longer changes local names there (PEP 667).
    """
    from openvino.frontend.tensorflow import utils

    utils.get_environment_setup = lambda _: {"tensorflow": sys.modules["tensorflow"].__version__}


def _keep_outputs(graph: Any, count: int) -> bool:
    """Remove all outputs of a graph that are not outputs of the model.

    OpenVINO turns every unused tensor into an output, such as those that each swish (EfficientNet)
    stores for its gradient. They take most of the time and may come before the model's own outputs.

    Args:
        graph: Changed in place.
        count: Number of outputs of the model.

    Returns:
        Whether there were more.
    """
    results = graph.get_results()
    if len(results) == count:
        return False
    # TensorFlow's names for the return values of a function
    own = {f"Identity_{number}:0" if number else "Identity:0" for number in range(count)}
    extra = [result for result in results if result.get_friendly_name() not in own]
    if len(results) - len(extra) != count:
        raise RuntimeError(f"expected {count} outputs, received {len(results)}")
    for result in extra:
        graph.remove_result(result)
    return True


def _accept_uint8(openvino: Any, graph: Any) -> Any:
    """Change the type of the input to uint8."""
    if graph.input().get_element_type() == openvino.Type.u8:
        return graph
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    return steps.build()


def _shape(port: Any) -> tuple[int, ...]:
    """Return the shape of an input or output; -1 for a dynamic dimension."""
    sizes = port.get_partial_shape()
    return tuple(size.get_length() if size.is_static else -1 for size in sizes)
