"""The LiteRT engine: the successor of TensorFlow Lite, in a package without TensorFlow."""

import queue
from pathlib import Path
from typing import Any

import numpy as np

from cnnclf.errors import RunError
from cnnclf.hardware import count_usable_cpus
from cnnclf.inference.engines.batch_streams import PieceEngine, in_threads
from cnnclf.inference.engines.converting import cannot_compute, converting, first_line
from cnnclf.inference.engines.engine import EngineOptions, Logits, ModelFile, Pixels
from cnnclf.runtime import quiet, tensorflow_converter_errors

# Each interpreter has its own packed copy of the weights.
_MAX_INTERPRETERS = 4


class _Interpreters:
    """Interpreters of one model, of which each computes in one thread at a time."""

    def __init__(self, interpreters: list[Any]) -> None:
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for interpreter in interpreters:
            self._idle.put(interpreter)

    def compute(self, pixels: Pixels) -> Logits:
        interpreter = self._idle.get()
        try:
            input_ = interpreter.get_input_details()[0]
            if tuple(input_["shape"]) != pixels.shape:
                interpreter.resize_tensor_input(input_["index"], pixels.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(input_["index"], pixels.astype(input_["dtype"], copy=False))
            interpreter.invoke()
            output = interpreter.get_output_details()[0]
            return np.asarray(interpreter.get_tensor(output["index"]), np.float32)
        except (RuntimeError, ValueError) as error:
            raise cannot_compute("LiteRT", error) from error
        finally:
            self._idle.put(interpreter)


def open_litert(model: ModelFile, options: EngineOptions) -> PieceEngine:
    """Open a .tflite file.

    Raises:
        RunError: The file is damaged, or does not match the bundle.
    """
    from ai_edge_litert.interpreter import Interpreter

    threads = options.threads or count_usable_cpus()
    count = min(threads, _MAX_INTERPRETERS)
    try:
        with quiet():  # it prints a line for each delegate
            interpreters = [
                Interpreter(model_path=str(model.path), num_threads=threads // count)
                for _ in range(count)
            ]
            for interpreter in interpreters:
                interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise RunError(f"LiteRT cannot open {model.path}: {reason}", "export it again") from error
    inputs, outputs = interpreters[0].get_input_details(), interpreters[0].get_output_details()
    if len(inputs) != 1 or inputs[0]["dtype"] not in {np.uint8, np.float32}:
        dtypes = [each["dtype"].__name__ for each in inputs]
        raise model.damaged(f"the inputs of its model are {dtypes}, not one uint8 or float32")
    model.check(inputs[0]["shape_signature"], outputs[0]["shape_signature"])
    return PieceEngine(
        "litert",
        options.precision or model.precision,
        outputs=model.outputs,
        compute=in_threads(_Interpreters(interpreters).compute, count, name="litert"),
    )


def convert_to_litert(model: Any, directory: Path) -> Path:
    """Write a Keras model as model.tflite.

    Args:
        model: From uint8 pixels to logits.
        directory: An existing directory.
    """
    path = directory / "model.tflite"
    with converting("LiteRT", *tensorflow_converter_errors()):
        model.export(str(path), format="litert", verbose=False)
    return path
