"""What computes frozen layers: OpenVINO on a CPU where it is installed, else Keras.

Measured on two cores with bfloat16 in hardware, OpenVINO gives the features of ResNet50 nearly
three times as fast as Keras trains the frozen network.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.hardware import read_cpu_features
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

Outputs = list[npt.NDArray[Any]]
Write = Callable[[int, Outputs], None]

_BF16 = {"bf16", "amx-bf16"}


class Engine(Protocol):
    """Computes a model's outputs."""

    @property
    def name(self) -> str:
        """What it is and how exactly it computes, such as openvino-bf16."""

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches, each with the number it is handed to `write` with, in any order."""


def choose_engine(runtime: "RuntimeInfo", progress: Progress) -> str:
    """Choose the engine and its precision: openvino-bf16, openvino-f32 or keras-PRECISION."""
    if runtime.kind != "cpu" or runtime.backend != "tensorflow":
        return f"keras-{runtime.precision}"
    missing = [name for name in ("openvino", "scipy") if importlib.util.find_spec(name) is None]
    if missing or runtime.precision != "float32":
        if missing:
            progress.note(
                "the frozen layers run in Keras; python -m pip install 'cnnclf[openvino]' "
                "computes them faster on this processor"
            )
        return f"keras-{runtime.precision}"
    return "openvino-bf16" if _BF16 & set(read_cpu_features()) else "openvino-f32"


def build_engine(name: str, model: Any) -> Engine:
    """Build the engine of a name that `choose_engine` gave.

    Args:
        name: Of the engine.
        model: From pixels 0..255 to a list of outputs.
    """
    if name.startswith("openvino"):
        return OpenVinoEngine(name, model)
    return KerasEngine(name, model)


class KerasEngine:
    """Computes with the framework that also trains."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        # left uncompiled, Keras would hand the graph to XLA, at half the speed on a CPU
        model.compile(jit_compile=False)
        self._model = model

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches in order; smaller ones are padded, so that one graph serves all."""
        size = 0
        for index, pixels in batches:
            count = len(pixels)
            size = max(size, count)
            padded = pixels
            if count < size:
                padded = np.concatenate([pixels, np.repeat(pixels[-1:], size - count, axis=0)])
            outputs = self._model.predict_on_batch(padded)
            several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            write(index, [np.asarray(each)[:count] for each in several])


class OpenVinoEngine:
    """Computes with OpenVINO on all cores, several batches at once."""

    def __init__(self, name: str, model: Any) -> None:
        import openvino

        self.name = name
        with tempfile.TemporaryDirectory(prefix="cnnclf-") as directory:
            path = Path(directory) / "frozen.xml"
            model.export(str(path), format="openvino", verbose=False)
            core = openvino.Core()
            graph = core.read_model(path)
            self._compiled = core.compile_model(
                graph,
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": name.partition("-")[2],
                },
            )
            del graph  # holds the file of weights
        self._count = len(self._compiled.outputs)

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches as fast as they come."""
        import openvino

        errors: list[Exception] = []

        def receive(request: Any, index: int) -> None:
            try:
                write(
                    index,
                    [np.array(request.get_output_tensor(at).data) for at in range(self._count)],
                )
            except (OSError, ValueError, OverflowError) as error:  # told in the thread that asked
                errors.append(error)

        queue = openvino.AsyncInferQueue(self._compiled)
        queue.set_callback(receive)
        for index, pixels in batches:
            queue.start_async({0: pixels.astype(np.float32)}, index)
            if errors:
                break
        queue.wait_all()
        if errors:
            raise errors[0]
