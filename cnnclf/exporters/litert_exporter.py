"""LiteRT, for phones, browsers and small boards.

TensorFlow's converter quantizes to float16 and int8. Labels and input spec are appended to the
model file as a zip archive, as Android's tools expect.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnclf.exporters.exporter import ExportJob
from cnnclf.exporters.litert_biases import correct_biases
from cnnclf.inference.engines.converting import converting
from cnnclf.inference.engines.litert_engine import convert_to_litert
from cnnclf.runs.run_names import CLASSIFIER_FILE
from cnnclf.runtime import tensorflow_converter_errors


def export_litert(job: ExportJob) -> tuple[str, ...]:
    """Write model.tflite, with uint8 input and float32 output, quantized or not.

    Raises:
        EngineRefusedError: TensorFlow's converter does not support this model.
    """
    if job.quantize is None:
        path = convert_to_litert(job.model, job.directory)
    else:
        path = job.directory / "model.tflite"
        with converting("LiteRT", *tensorflow_converter_errors()):
            job.model.export(str(path), format="litert", verbose=False, **_choose_options(job))
            if job.quantize == "int8":
                _correct(path, job)
    _append_description(path, job.description)
    return (path.name,)


def _choose_options(job: ExportJob) -> dict[str, Any]:
    import tensorflow as tf

    if job.quantize == "float16":
        return {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "target_spec": {"supported_types": [tf.float16]},
        }

    def calibrate() -> Iterator[list[Any]]:
        for images in job.calibration_batches():
            yield [images]

    return {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": calibrate}


def _correct(path: Path, job: ExportJob) -> None:
    with tempfile.TemporaryDirectory(prefix="cnnclf-") as directory:
        plain = convert_to_litert(job.model, Path(directory)).read_bytes()
    path.write_bytes(correct_biases(plain, path.read_bytes(), images=job.calibration))


def _append_description(path: Path, description: str) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CLASSIFIER_FILE, description)
