"""Exporters that do something wrong; they are put into the table by name."""

import contextlib

import numpy as np

from cnnclf.errors import RunError
from cnnclf.exporters.exporter import ExportJob
from cnnclf.exporters.keras_exporter import export_keras


def forget_a_class(job: ExportJob) -> tuple[str, ...]:
    """Write a model that never names the first label."""
    _change_head(job, lambda kernel, bias: (kernel, bias - 1000 * np.eye(len(bias))[0]))
    return export_keras(job)


def double_logits(job: ExportJob) -> tuple[str, ...]:
    """Write a model that names the same labels, much surer."""
    _change_head(job, lambda kernel, bias: (2 * kernel, 2 * bias))
    return export_keras(job)


def give_no_numbers(job: ExportJob) -> tuple[str, ...]:
    """Write a model whose logits are not numbers."""
    _change_head(job, lambda kernel, bias: (kernel, np.full_like(bias, np.nan)))
    return export_keras(job)


def stop_in_the_middle(job: ExportJob) -> tuple[str, ...]:
    """Write something, then fail."""
    export_keras(job)
    raise RunError("the converter gave up")


def write_too_much(job: ExportJob) -> tuple[str, ...]:
    """Fill the disk, then fail as a library does that knows nothing of disks."""
    with contextlib.suppress(OSError), (job.directory / "model.bin").open("wb", 0) as file:
        while file.write(bytes(4096)):
            pass
    raise RuntimeError("basic_ios::clear: iostream error")


def be_interrupted(job: ExportJob) -> tuple[str, ...]:
    """Write something, then hear Ctrl-C."""
    export_keras(job)
    raise KeyboardInterrupt


def _change_head(job: ExportJob, change) -> None:  # type: ignore[no-untyped-def]
    """Change a copy of the last layer's weights; the run's own stay as they are."""
    import keras

    model = keras.models.clone_model(job.model)
    model.set_weights(job.model.get_weights())
    weights = model.get_weights()
    weights[-2:] = change(*weights[-2:])
    model.set_weights(weights)
    object.__setattr__(job, "model", model)
