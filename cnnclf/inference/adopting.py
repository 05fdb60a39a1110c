"""Bundles made of models that other programs trained: labels and scaling become part of them."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cnnclf.errors import RunError, UsageError
from cnnclf.files import (
    check_replaceable,
    replace_directory_atomic,
    staging_directory,
    write_json_atomic,
)
from cnnclf.images.input_spec import InputSpec
from cnnclf.inference.bundles import BUNDLE_VERSION, hash_files, save_bundle
from cnnclf.inference.engines.saved_model_check import GRAPH_FILE
from cnnclf.inference.foreign_model import (
    NO_SOFTMAX,
    Scaling,
    are_probabilities,
    check_outputs,
    draw_probes,
    fit_shape,
    multi_label_error,
    read_labels,
)
from cnnclf.packages import read_versions
from cnnclf.runs.run_names import CLASSIFIER_FILE, RECORD_FILE

if TYPE_CHECKING:
    import keras

_KERAS, _ONNX, _SAVED_MODEL = "keras", "onnx", "savedmodel"
_SUFFIXES: Final = {".keras": _KERAS, ".h5": _KERAS, ".hdf5": _KERAS, ".onnx": _ONNX}
_TO_ONNX: Final = "save it as ONNX there: torch.onnx.export(model, example, 'model.onnx')"
_OTHERS: Final = {
    ".pt": ("a model of PyTorch", _TO_ONNX),
    ".pth": ("a model of PyTorch", _TO_ONNX),
    ".ckpt": ("a checkpoint", _TO_ONNX),
    ".safetensors": ("a file of weights", _TO_ONNX),
    ".tflite": ("a LiteRT model", "give the Keras model or SavedModel that it was made from"),
    ".pb": ("a frozen graph", "give the directory of a SavedModel, or an ONNX file"),
}


@dataclass(frozen=True)
class ForeignModel:
    """A model of another program, and what it does not record.

    Args:
        path: A file of Keras or ONNX, or the directory of a SavedModel.
        kind: keras, onnx or savedmodel.
        labels: In the order of the outputs.
        scaling: What the model expects.
        size: Height and width of its input; None for what the model says.
        fit: How images are fitted to it, as in `InputSpec`.
    """

    path: Path
    kind: str
    labels: tuple[str, ...]
    scaling: Scaling
    size: tuple[int, int] | None = None
    fit: str = "crop"


def find_model(
    path: Path, *, labels: Path, scaling: Scaling, size: tuple[int, int] | None, fit: str
) -> ForeignModel:
    """Recognize a model of another program and read its labels; loads no library.

    Args:
        path: A .keras, .h5 or .onnx file, the directory of a SavedModel, or a folder with one of
            them.
        labels: Text file with one label per line, in the order of the outputs; "0 cat" is cat.
        scaling: As in `ForeignModel`.
        size: As in `ForeignModel`.
        fit: As in `ForeignModel`.

    Raises:
        UsageError: It is a run or bundle of cnnclf, or the folder has several models.
        DataError: The labels cannot be read.
        RunError: There is no model, or one of another kind.
    """
    for folder in (path, path.parent):
        name = next((n for n in (RECORD_FILE, CLASSIFIER_FILE) if (folder / n).is_file()), None)
        if name is not None:
            what = "run" if name == RECORD_FILE else "bundle"
            raise UsageError(
                f"{path} is a {what} of cnnclf already, or part of one",
                f"use it as it is: cnnclf predict {shlex.quote(str(folder))} IMAGES...",
            )
    place, kind = _recognize(path)
    return ForeignModel(place, kind, read_labels(labels), scaling, size, fit)


def _recognize(path: Path) -> tuple[Path, str]:
    if (path / GRAPH_FILE).is_file():
        return path, _SAVED_MODEL
    if path.name == GRAPH_FILE and path.is_file():
        return path.parent, _SAVED_MODEL
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() in _SUFFIXES)
        found += sorted(each.parent for each in path.glob(f"*/{GRAPH_FILE}"))
        if len(found) == 1:
            return _recognize(found[0])
        names = ", ".join(each.name for each in found)
        raise UsageError(
            f"{path} is a directory with {len(found)} models: {names}"
            if found
            else f"{path} is a directory without a model",
            "name a .keras, .h5 or .onnx file, or the directory of a SavedModel",
        )
    if not path.exists():
        raise RunError(f"there is no model {path}", "check the path")
    if not path.is_file():  # reading a pipe would never end
        raise RunError(f"{path} is a pipe or device, not a model", "give a file")
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        return path, kind
    what, hint = _OTHERS.get(path.suffix.lower(), ("not a model that is known here", ""))
    hint = hint or "models of Keras (.keras, .h5), ONNX files and SavedModels can be used"
    raise RunError(f"{path} is {what}", hint)


def adopt_model(found: ForeignModel, out: Path, *, overwrite: bool = False) -> None:
    """Write a bundle from a model that another program trained.

    The scaling becomes part of the graph; of a Keras model, a softmax at its end is removed, so
    that it returns logits as every other does.

    Args:
        found: What `find_model` returned.
        out: The bundle; must not exist.
        overwrite: Whether a bundle in `out` is replaced.

    Raises:
        UsageError: `out` exists, and is not a bundle that may be replaced.
        DataError: The labels are of another number than the outputs.
        MissingPackageError: The format needs a package.
        RunError: The model cannot be loaded, or has another input or output, or a softmax that
            cannot be removed.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not overwrite:
            raise UsageError(
                f"{out} already exists", "replace it with --overwrite, or choose another --out"
            )
        if not (out / CLASSIFIER_FILE).is_file():
            raise UsageError(f"{out} is not a bundle: it is not replaced", "choose another --out")
        check_replaceable(out)
    with staging_directory(out) as directory:
        _WRITERS[found.kind](found, directory)
        replace_directory_atomic(directory, out)


def _write_keras(found: ForeignModel, directory: Path) -> None:
    from cnnclf.inference.engines.keras_engine import load_other_model

    model, path = load_other_model(found.path), found.path
    shape, output = model.input_shape, model.output_shape
    if not (isinstance(shape, tuple) and len(shape) == 4) or not (
        isinstance(output, tuple) and len(output) == 2
    ):
        raise RunError(
            f"{path} is no classifier of images: it takes {shape} and returns {output}",
            "a model of images [N, height, width, channels] with one output per class can be used",
        )
    spec = _fit(found, shape[1:])
    check_outputs(path, output[1], labels=found.labels)
    wrapped = _wrap(model, found, spec=spec)
    if are_probabilities(np.asarray(wrapped(draw_probes(spec.shape).astype(np.float32)))):
        raise RunError(
            f"{path} returns probabilities from a softmax that is not its last layer", NO_SOFTMAX
        )
    save_bundle(
        directory,
        wrapped,
        labels=found.labels,
        input_spec=spec,
        dataset={},
        extra={"adopted": path.name},
    )


def _write_onnx(found: ForeignModel, directory: Path) -> None:
    from cnnclf.inference.foreign_onnx import read_shape, scale_onnx

    shape = read_shape(found.path)
    spec = _fit(found, shape)
    target = directory / "model.onnx"
    outputs = scale_onnx(found.path, target, shape=spec.shape, scaling=found.scaling)
    _describe(found, directory, model=target.name, spec=spec, outputs=outputs)


def _write_saved_model(found: ForeignModel, directory: Path) -> None:
    from cnnclf.inference.foreign_saved_model import read_shape, scale_saved_model

    spec = _fit(found, read_shape(found.path))
    target = directory / "saved_model"
    outputs = scale_saved_model(found.path, target, shape=spec.shape, scaling=found.scaling)
    _describe(found, directory, model=target.name, spec=spec, outputs=outputs)


_WRITERS: Final[dict[str, Callable[[ForeignModel, Path], None]]] = {
    _KERAS: _write_keras,
    _ONNX: _write_onnx,
    _SAVED_MODEL: _write_saved_model,
}


def _fit(found: ForeignModel, shape: Any) -> InputSpec:
    height, width, channels = fit_shape(
        found.path, shape=shape, scaling=found.scaling, size=found.size
    )
    return InputSpec(height, width, channels=channels, fit=found.fit)


def _describe(
    found: ForeignModel, directory: Path, *, model: str, spec: InputSpec, outputs: np.ndarray
) -> None:
    """Write classifier.json of a model that is not of Keras, as an export has it."""
    check_outputs(found.path, outputs.shape[1], labels=found.labels)
    content = {
        "schema_version": BUNDLE_VERSION,
        "labels": list(found.labels),
        "input_spec": spec.to_dict(),
        "format": found.kind,
        "pixels": {"dtype": "uint8", "order": "NHWC", "range": [0, 255]},
        "output": "probabilities" if are_probabilities(outputs) else "logits",
        "temperature": 1.0,
        "threshold": None,
        "precision": "float32",
        "dataset": {},
        "model": model,
        "files": [],
        "sha256": hash_files(directory, [model]),
        "versions": read_versions(()),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "extra": {"adopted": found.path.name},
    }
    write_json_atomic(directory / CLASSIFIER_FILE, content)


def _wrap(model: "keras.Model", found: ForeignModel, *, spec: InputSpec) -> "keras.Model":
    import keras

    pixels = keras.Input(spec.shape, name="pixels")
    scaled = keras.layers.Rescaling(
        _one_or_all(found.scaling.factors),
        offset=_one_or_all(found.scaling.offsets),
        name="adopted_scaling",
    )(pixels)
    return keras.Model(pixels, _without_softmax(model, found.path)(scaled))


def _one_or_all(values: list[float]) -> float | list[float]:
    return values[0] if len(values) == 1 else values


def _without_softmax(model: "keras.Model", path: Path) -> "keras.Model":
    """Return the model up to its logits."""
    import keras

    last, is_nested = _find_last(model), False
    while isinstance(last, keras.Model):
        last, is_nested = _find_last(last), True
    # A layer, or keras.ops.softmax, which is no layer.
    is_activation = isinstance(last, keras.layers.Activation)
    activation = getattr(last, "activation", keras.activations.linear)
    name = getattr(activation, "__name__", str(activation))
    if not is_activation and type(last).__name__ in {"Softmax", "Sigmoid", "LogSigmoid"}:
        name = type(last).__name__.lower()
    if "sigmoid" in name:
        raise multi_label_error(path, name)
    is_whole = is_activation or type(last).__name__ == "Softmax"
    if name == "softmax" and is_whole and is_nested:
        # Its input is in another graph than that of the whole model.
        raise RunError(f"{path} ends in a softmax layer of a model inside it", NO_SOFTMAX)
    if name == "softmax" and is_whole:
        return keras.Model(model.inputs, last.input)
    if name == "softmax":
        last.activation = keras.activations.linear
    elif activation is not keras.activations.linear:
        raise RunError(
            f"{path} ends in {name}, not in a softmax or logits",
            "only models that give one class per image can be used",
        )
    return model


def _find_last(model: "keras.Model") -> Any:
    """Return the layer or operation that gives the output of a model."""
    history = getattr(model.outputs[0], "_keras_history", None)
    operation = getattr(history, "operation", None)
    return model.layers[-1] if operation is None else operation
