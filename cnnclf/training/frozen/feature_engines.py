"""Engines for frozen layers: OpenVINO on a CPU if it is installed, else Keras.

On two cores with bfloat16 in hardware, OpenVINO computes the features of ResNet50 nearly three
times as fast as Keras trains the frozen network.
"""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.inference.engines.choosing import find_fast_precision
from cnnclf.inference.engines.engine import EngineRefusedError
from cnnclf.inference.engines.engine_table import find_engine, find_missing
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

Outputs = list[npt.NDArray[Any]]
Write = Callable[[int, Outputs], None]

_PRECISIONS = {"openvino-f32": "float32", "openvino-bf16": "bfloat16"}


class FeatureEngine(Protocol):
    """Computes a model's outputs."""

    @property
    def name(self) -> str:
        """Engine and precision, such as openvino-bf16."""

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches in order, and pass each number on to `write`."""


def choose_engine(
    runtime: "RuntimeInfo", progress: Progress, *, precision: str | None = None
) -> str:
    """Choose the engine and its precision: openvino-bf16, openvino-f32 or keras-PRECISION.

    Args:
        runtime: Device and backend.
        progress: Receives a note if a faster engine could be installed.
        precision: That was asked for, if any; None: that of the runtime.
    """
    if runtime.kind != "cpu" or runtime.backend != "tensorflow":
        return f"keras-{runtime.precision}"
    is_missing = bool(find_missing(find_engine("openvino"), converting=True))
    if is_missing or (precision or runtime.precision) not in {"float32", "auto"}:
        if is_missing:
            progress.note(
                "the frozen layers run in Keras; python -m pip install 'cnnclf[openvino]' "
                "computes them faster on this processor"
            )
        return f"keras-{runtime.precision}"
    return "openvino-bf16" if find_fast_precision() == "bfloat16" else "openvino-f32"


def build_engine(name: str, model: Any) -> FeatureEngine:
    """Build an engine by the name that `choose_engine` returned.

    Args:
        name: Of the engine.
        model: From pixels 0..255 to a list of outputs.

    Raises:
        RunError: The engine cannot compute the model.
    """
    if name in _PRECISIONS:
        return OpenVinoFeatureEngine(name, model)
    return KerasFeatureEngine(name, model)


class KerasFeatureEngine:
    """Computes with Keras, which also trains."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        # without compiling, Keras would use XLA, at half the speed on a CPU
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


class OpenVinoFeatureEngine:
    """Computes with OpenVINO on all cores, several batches at once."""

    def __init__(self, name: str, model: Any) -> None:
        from cnnclf.inference.engines.keras_engine import set_precision
        from cnnclf.inference.engines.openvino_engine import OpenVinoGraph, convert_to_openvino

        self.name = name
        model = set_precision(model, "float32")  # training may have another one
        with tempfile.TemporaryDirectory(prefix="cnnclf-") as directory:
            try:
                path = convert_to_openvino(model, Path(directory))
            except EngineRefusedError as error:
                raise RunError(error.message, "use --no-feature-cache") from error
            self._graph = OpenVinoGraph(path, precision=_PRECISIONS[name])

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches, several at once."""
        with closing(self._graph.stream(batches)) as results:
            for index, outputs in results:
                write(index, outputs)
