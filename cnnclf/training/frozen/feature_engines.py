"""Engines for frozen layers: OpenVINO on a CPU if it is installed, else Keras.

On two cores with bfloat16 in hardware, OpenVINO computes the features of ResNet50 nearly three
times as fast as Keras trains the frozen network. A network that was converted before is opened from
the engine cache, without being built.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.errors import RunError
from cnnclf.hardware import is_gpu_usable
from cnnclf.inference.engines.choosing import find_fast_precision
from cnnclf.inference.engines.engine import EngineRefusedError
from cnnclf.inference.engines.engine_cache import ConversionKey, EngineCache
from cnnclf.inference.engines.engine_table import find_engine, find_missing, read_engine_version
from cnnclf.progress import Progress

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo

Outputs = list[npt.NDArray[Any]]
Write = Callable[[int, Outputs], None]

_OPENVINO = "openvino"
_PRECISIONS = {"openvino-f32": "float32", "openvino-bf16": "bfloat16"}


@dataclass(frozen=True)
class FrozenNetwork:
    """A network that is built only where it was not converted before.

    Args:
        title: What it is, for people.
        identity: Whatever its outputs depend on: layers, weights, size of the images, and the
            programs that build it.
        build: Returns a model from pixels 0..255 to a list of outputs.
    """

    title: str
    identity: str
    build: Callable[[], Any]


class FeatureEngine(Protocol):
    """Computes a model's outputs."""

    @property
    def name(self) -> str:
        """Engine and precision, such as openvino-bf16."""

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each output for one image."""

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
    is_missing = _is_openvino_missing()
    if is_missing or (precision or runtime.precision) not in {"float32", "auto"}:
        if is_missing:
            progress.note(
                "the frozen layers run in Keras; python -m pip install 'cnnclf[openvino]' "
                "computes them faster on this processor"
            )
        return f"keras-{runtime.precision}"
    return _name_fastest()


def foresee_engine() -> str | None:
    """Return what `choose_engine` will choose, if that is OpenVINO, without loading TensorFlow."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow" or is_gpu_usable(backend) or _is_openvino_missing():
        return None
    return _name_fastest()


def open_engine(
    name: str, network: FrozenNetwork, *, threads: int | None = None, progress: Progress
) -> FeatureEngine:
    """Open an engine by the name that `choose_engine` returned.

    Args:
        name: Of the engine.
        network: What it computes.
        threads: At least 1; None for all that the process may use.
        progress: Receives warnings about the engine cache.

    Raises:
        RunError: The engine cannot compute the network.
        DeviceError: The disk is full.
    """
    if name in _PRECISIONS:
        return OpenVinoFeatureEngine(name, network, threads=threads, progress=progress)
    return KerasFeatureEngine(name, network.build())


class KerasFeatureEngine:
    """Computes with Keras, which also trains."""

    def __init__(self, name: str, model: Any) -> None:
        self.name = name
        self.shapes = [tuple(output.shape[1:]) for output in model.outputs]
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

    def __init__(
        self, name: str, network: FrozenNetwork, *, threads: int | None, progress: Progress
    ) -> None:
        from cnnclf.inference.engines.openvino_engine import OpenVinoGraph

        self.name = name
        path = _find_converted(network, progress)
        self._graph = OpenVinoGraph(path, precision=_PRECISIONS[name], threads=threads)
        self.shapes = [shape[1:] for shape in self._graph.output_shapes]

    def run(self, batches: Iterable[tuple[int, npt.NDArray[np.uint8]]], write: Write) -> None:
        """Compute batches, several at once."""
        with closing(self._graph.stream(batches)) as results:
            for index, outputs in results:
                write(index, outputs)


def _is_openvino_missing() -> bool:
    return bool(find_missing(find_engine(_OPENVINO), converting=True))


def _name_fastest() -> str:
    return "openvino-bf16" if find_fast_precision() == "bfloat16" else "openvino-f32"


def _find_converted(network: FrozenNetwork, progress: Progress) -> Path:
    """Return the graph of a network, which is converted the first time."""
    row, checksum = find_engine(_OPENVINO), hashlib.sha256(network.identity.encode()).hexdigest()
    key = ConversionKey(row.name, read_engine_version(row), checksum)
    cache = EngineCache(None, progress, source=network.title)

    def write(directory: Path) -> Path:
        from cnnclf.inference.engines.keras_engine import set_precision
        from cnnclf.inference.engines.openvino_engine import convert_to_openvino

        # training may have another precision
        return convert_to_openvino(set_precision(network.build(), "float32"), directory)

    found = cache.find(key)
    if found is None:
        try:
            found = cache.make(key, write)
        except EngineRefusedError as error:
            raise RunError(error.message, "use --no-feature-cache") from error
    return found.model
