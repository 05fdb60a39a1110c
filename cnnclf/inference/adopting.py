"""Bundles made of models that other programs trained: labels and scaling become part of them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cnnclf.errors import DataError, RunError, UsageError
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers.importer import read_classes_file
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.engines.keras_engine import load_other_model

if TYPE_CHECKING:
    import keras

MODEL_SUFFIXES: Final = (".keras", ".h5", ".hdf5")
_NUMBERED: Final = re.compile(r"(\d+)[ :,\t]+(.+)")
_PIXEL_MAX: Final = 255.0
_PROBES: Final = 4  # random images that show whether a model still returns probabilities
_SUM_TOLERANCE: Final = 2e-3  # of half-precision probabilities
_NO_SOFTMAX: Final = "save the model without its softmax, so that it returns logits"


@dataclass(frozen=True)
class Scaling:
    """What pixels of 0 and 255 become before they enter a model.

    Args:
        low: Of 0.
        high: Of 255.
    """

    low: float
    high: float


def parse_scaling(text: str) -> Scaling:
    """Read a scaling such as "0:1" or "-1:1".

    Raises:
        UsageError: It is not two numbers.
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise UsageError(
            f"expected --scale as LOW:HIGH, what pixels of 0 and 255 become, received {text!r}",
            "0:1 for x / 255, -1:1 for x / 127.5 - 1, 0:255 for no scaling",
        ) from error
    if not low < high:
        raise UsageError(f"--scale {text}: the first number must be below the second")
    return Scaling(low, high)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read a size such as "224" or "48x64" (height, width).

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise UsageError(f"expected --size as 224 or 48x64 (height x width), received {text!r}")
    return int(match[1]), int(match[2] or match[1])


def adopt_model(
    model: Path,
    out: Path,
    *,
    labels: Path,
    scaling: Scaling,
    size: tuple[int, int] | None = None,
    fit: str = "crop",
) -> tuple[str, ...]:
    """Write a bundle from a model that another program trained.

    The scaling becomes a layer of the graph, and a softmax at its end is removed, so that the model
    takes pixels and returns logits as every other does.

    Args:
        model: A .keras or .h5 file of Keras.
        out: The bundle; must not exist.
        labels: Text file with one label per line, in the order of the outputs; "0 cat" is cat.
        scaling: What the model expects.
        size: Height and width of its input; None for what the model says.
        fit: How images are fitted to it, as in `InputSpec`.

    Returns:
        The labels.

    Raises:
        UsageError: `out` exists.
        DataError: The labels cannot be read, or are of another number than the outputs.
        RunError: The model cannot be loaded, or has another input or output, or a softmax that
            cannot be removed.
    """
    if out.exists():
        raise UsageError(f"{out} already exists", "choose another --out")
    names = read_labels(labels)
    found = load_other_model(model)
    sides = _check_shapes(found, model, names=names, size=size)
    spec = InputSpec(*sides, channels=int(found.input_shape[3]), fit=fit)
    wrapped = _wrap(found, model, spec=spec, scaling=scaling)
    _refuse_probabilities(wrapped, model, spec=spec)
    save_bundle(
        out, wrapped, labels=names, input_spec=spec, dataset={}, extra={"adopted": model.name}
    )
    return names


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one per line; numbers in front of all of them (0 cat, 1 dog) are not part.

    Raises:
        DataError: The file cannot be read, or a label is empty or occurs twice.
    """
    try:
        names = read_classes_file(path)
    except DataError as error:
        hint = "give --labels a UTF-8 text file with one label per line, each of them once"
        raise DataError(error.message, hint) from error
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    in_order = [match and int(match[1]) == at for at, match in enumerate(numbered)]
    if not all(in_order):
        return names
    plain = tuple(match[2].strip() for match in numbered if match)
    repeated = next((name for at, name in enumerate(plain) if name in plain[:at]), None)
    if repeated is not None:
        raise DataError(
            f"{path} has the label {repeated!r} more than once",
            "give --labels a file in which each label occurs once, such as crane_bird",
        )
    return plain


def _check_shapes(
    found: "keras.Model", path: Path, *, names: tuple[str, ...], size: tuple[int, int] | None
) -> tuple[int, int]:
    """Compare what a model takes and returns with the size and the labels; return the size."""
    shape, output = found.input_shape, found.output_shape
    is_image = isinstance(shape, tuple) and len(shape) == 4 and shape[3] in (1, 3)
    if not is_image or not isinstance(output, tuple) or len(output) != 2:
        raise RunError(
            f"{path} is no classifier of images: it takes {shape} and returns {output}",
            "a model of images [N, height, width, 1 or 3] with one output per class can be used",
        )
    if size is None and None in shape[1:3]:
        raise UsageError(f"{path} takes images of any size", "add --size, such as --size 224")
    size = (shape[1], shape[2]) if size is None else size
    if any(own not in (None, side) for own, side in zip(shape[1:3], size, strict=True)):
        raise RunError(
            f"{path} takes images of {shape[1]}x{shape[2]}, not {size[0]}x{size[1]}",
            f"add --size {shape[1]}x{shape[2]}",
        )
    if output[1] != len(names):
        raise DataError(
            f"{path} has {output[1]} outputs, but there are {len(names)} labels",
            "give --labels a file with one label per line for each output"
            + (", a model with one output is not supported" if output[1] == 1 else ""),
        )
    return size


def _wrap(found: "keras.Model", path: Path, *, spec: InputSpec, scaling: Scaling) -> "keras.Model":
    import keras

    pixels = keras.Input(spec.shape, name="pixels")
    factor = (scaling.high - scaling.low) / _PIXEL_MAX
    scaled = keras.layers.Rescaling(factor, offset=scaling.low, name="adopted_scaling")(pixels)
    logits = _without_softmax(found, path)(scaled)
    return keras.Model(pixels, logits)


def _refuse_probabilities(wrapped: "keras.Model", path: Path, *, spec: InputSpec) -> None:
    """Refuse a model whose outputs are probabilities: a second softmax would flatten them."""
    pixels = np.random.default_rng(0).integers(0, 256, (_PROBES, *spec.shape), np.uint8)
    values = np.asarray(wrapped(pixels.astype(np.float32), training=False), np.float64)
    if (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=_SUM_TOLERANCE):
        raise RunError(
            f"{path} returns probabilities from a softmax that is not its last layer", _NO_SOFTMAX
        )


def _without_softmax(found: "keras.Model", path: Path) -> "keras.Model":
    """Return the model up to its logits."""
    import keras

    last, is_nested = found.layers[-1], False
    while isinstance(last, keras.Model):
        last, is_nested = last.layers[-1], True
    is_layer = isinstance(last, keras.layers.Softmax) or (
        isinstance(last, keras.layers.Activation) and last.activation is keras.activations.softmax
    )
    if is_layer and is_nested:  # its input is in another graph than that of the whole model
        raise RunError(f"{path} ends in a softmax layer of a model inside it", _NO_SOFTMAX)
    if is_layer:
        return keras.Model(found.inputs, last.input)
    activation = getattr(last, "activation", keras.activations.linear)
    if activation is keras.activations.softmax:
        last.activation = keras.activations.linear
    elif activation is not keras.activations.linear:
        name = getattr(activation, "__name__", str(activation))
        raise RunError(
            f"{path} ends in {name}, not in a softmax or logits",
            "only models that give one class per image can be used",
        )
    return found
