"""OpenVINO, for CPUs and for GPUs of Intel.

int8: NNCF quantizes where OpenVINO's kernels need it and corrects the bias of each layer by the
mean shift of its outputs. It uses full ranges instead of averaged ones, and corrects layer by
layer: docs/decisions/0006-exports.md has the measurements.
"""

import contextlib
import io
import logging
import tempfile
from pathlib import Path
from typing import Any

from cnnclf.exporters.exporter import ExportJob
from cnnclf.inference.engines.converting import converting
from cnnclf.inference.engines.openvino_engine import convert_to_openvino, load_openvino
from cnnclf.runs.run_names import CLASSIFIER_FILE

_MODEL = "model.xml"


def export_openvino(job: ExportJob) -> tuple[str, ...]:
    """Write model.xml and model.bin.

    Raises:
        EngineRefusedError: The model cannot be converted or quantized.
    """
    openvino = load_openvino()
    with tempfile.TemporaryDirectory(prefix="cnnclf-") as directory:
        path = convert_to_openvino(job.model, Path(directory))
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the file is deleted while the graph is in use
        with converting("OpenVINO"):
            graph = core.read_model(path)
    if job.quantize == "int8":
        graph = _quantize(graph, job)
    graph.output(0).get_tensor().set_names({job.output})
    graph.set_rt_info(job.description, ["cnnclf", CLASSIFIER_FILE])
    path = job.directory / _MODEL
    with converting("OpenVINO"):
        openvino.save_model(graph, path, compress_to_fp16=job.quantize == "float16")
    return _MODEL, path.with_suffix(".bin").name


def _quantize(graph: Any, job: ExportJob) -> Any:
    import nncf
    from nncf import errors
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    refusals = (errors.InternalError, errors.UnsupportedModelError, errors.ValidationError)
    # It draws progress bars on stdout, which is for results.
    with converting("NNCF", *refusals), contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            graph,
            nncf.Dataset(list(job.calibration_batches())),
            subset_size=len(job.calibration),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                # After a transposition, it would take rows for channels, which OpenVINO cannot run.
                activations_quantization_params=QuantizationParameters(per_channel=False),
            ),
        )
