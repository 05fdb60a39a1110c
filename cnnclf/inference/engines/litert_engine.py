"""LiteRT as an engine: TensorFlow Lite's successor, in a package of its own without TensorFlow."""

import queue
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.engines.batch_streams import stream_in_pieces, stream_in_threads
from cnnclf.inference.engines.converting import cannot_compute, converting
from cnnclf.inference.engines.engine import EngineOptions, Logits, ModelFile, Pixels, Tag
from cnnclf.runtime import quiet, tensorflow_converter_errors

# Each interpreter holds its own packed copy of the weights.
_MOST_INTERPRETERS = 4


class LiteRtEngine:
    """Computes logits with interpreters of LiteRT, each on its own thread.

    Args:
        interpreters: At least one, all of the same model.
        precision: What the graph computes in.
        outputs: K.
    """

    name = "litert"

    def __init__(self, interpreters: list[Any], *, precision: str, outputs: int) -> None:
        self.precision = precision
        self._outputs = outputs
        self._count = len(interpreters)
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for interpreter in interpreters:
            self._idle.put(interpreter)
        self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="litert")

    def logits(self, pixels: Pixels) -> Logits:
        """Compute one batch."""
        [(_, logits)] = self.stream([(None, pixels)])
        return logits

    def stream(
        self, batches: Iterable[tuple[Tag, Pixels]]
    ) -> Generator[tuple[Tag, Logits], None, None]:
        """Compute batches in their order, one piece of them with each interpreter."""
        return stream_in_pieces(
            lambda pieces: stream_in_threads(
                self._compute, pieces, pool=self._pool, threads=self._count
            ),
            batches,
            outputs=self._outputs,
        )

    def _compute(self, pixels: Pixels) -> Logits:
        interpreter = self._idle.get()
        try:
            asked = interpreter.get_input_details()[0]
            if tuple(asked["shape"]) != pixels.shape:
                interpreter.resize_tensor_input(asked["index"], pixels.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(asked["index"], pixels.astype(asked["dtype"], copy=False))
            interpreter.invoke()
            given = interpreter.get_output_details()[0]
            return np.asarray(interpreter.get_tensor(given["index"]), np.float32)
        except (RuntimeError, ValueError) as error:
            raise cannot_compute("LiteRT", error) from error
        finally:
            self._idle.put(interpreter)


def open_litert(model: ModelFile, options: EngineOptions) -> LiteRtEngine:
    """Open a .tflite file.

    Raises:
        RunError: It is none, or it does not fit the bundle.
    """
    from ai_edge_litert.interpreter import Interpreter

    threads = options.threads or count_usable_cpus()
    count = min(threads, _MOST_INTERPRETERS)
    try:
        with quiet():  # it tells of each delegate
            interpreters = [
                Interpreter(model_path=str(model.path), num_threads=threads // count)
                for _ in range(count)
            ]
            for interpreter in interpreters:
                interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"LiteRT cannot open {model.path}: {reason}", "make it again") from error
    first = interpreters[0]
    asked, given = first.get_input_details(), first.get_output_details()
    if len(asked) != 1 or asked[0]["dtype"] not in {np.uint8, np.float32}:
        raise model.damaged(f"its model takes {[each['dtype'].__name__ for each in asked]}")
    model.check(asked[0]["shape_signature"], given[0]["shape_signature"])
    return LiteRtEngine(
        interpreters, precision=options.precision or model.precision, outputs=model.outputs
    )


def convert_to_litert(model: Any, directory: Path) -> Path:
    """Write a Keras model as model.tflite.

    Args:
        model: From uint8 pixels to logits.
        directory: Exists.
    """
    path = directory / "model.tflite"
    with converting("LiteRT", *tensorflow_converter_errors()):
        model.export(str(path), format="litert", verbose=False)
    return path
