"""The table of engines; reading it imports none of them, nor NumPy."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnclf.errors import MissingPackageError, UsageError
from cnnclf.names import suggest

PRECISIONS = ("float32", "bfloat16", "float16", "int8")

_HERE = "cnnclf.inference.engines"


@dataclass(frozen=True)
class Tolerance:
    """How far the logits of an engine may differ from those of Keras.

    Args:
        difference: Largest absolute difference as a fraction of the range of Keras' logits.
        agreement: Smallest fraction of images with the same best label, 0..1; images whose two
            best logits are closer together than `difference` do not count.
    """

    difference: float
    agreement: float = 1.0


@dataclass(frozen=True)
class EngineRow:
    """One row of `ENGINES`.

    Args:
        name: The value of `--engine`.
        title: Its name in messages.
        extra: The extra of cnnclf that installs it; empty if it is always installed.
        modules: Modules it needs to compute.
        converting: Modules it also needs to convert a Keras model.
        distribution: The package whose version is that of the engine.
        precisions: Precisions in which it can compute a Keras model, the exact one first.
        tolerances: Largest difference from Keras for each precision.
        opens: Formats of models it can open without conversion, its own first.
        opener: "module:function" of (ModelFile, EngineOptions) -> Engine.
        converter: "module:function" of (Keras model with uint8 input, directory) -> file in it, of
            the format `opens[0]`; empty if it opens Keras files.
    """

    name: str
    title: str
    extra: str
    modules: tuple[str, ...]
    converting: tuple[str, ...]
    distribution: str
    precisions: tuple[str, ...]
    tolerances: Mapping[str, Tolerance]
    opens: tuple[str, ...]
    opener: str
    converter: str = ""


# Rounding only: the same sums in another order, other kernels.
EXACT = Tolerance(1e-3)
# bfloat16 keeps 8 significant bits of each number, float16 11.
BFLOAT16 = Tolerance(0.1)
FLOAT16 = Tolerance(0.02)

ENGINES: tuple[EngineRow, ...] = (
    EngineRow(
        name="keras",
        title="Keras",
        extra="",
        modules=("keras",),
        converting=(),
        distribution="keras",
        precisions=("float32", "bfloat16", "float16"),
        tolerances={"float32": EXACT, "bfloat16": BFLOAT16, "float16": FLOAT16},
        opens=("keras", "savedmodel"),
        opener=f"{_HERE}.keras_engine:open_keras",
    ),
    EngineRow(
        name="openvino",
        title="OpenVINO",
        extra="openvino",
        modules=("openvino",),
        # Keras' export needs both on any backend, without declaring scipy
        converting=("tensorflow", "scipy"),
        distribution="openvino",
        precisions=("float32", "bfloat16"),
        tolerances={"float32": EXACT, "bfloat16": BFLOAT16},
        opens=("openvino", "onnx", "litert"),
        opener=f"{_HERE}.openvino_engine:open_openvino",
        converter=f"{_HERE}.openvino_engine:convert_to_openvino",
    ),
    EngineRow(
        name="onnxruntime",
        title="ONNX Runtime",
        extra="onnx",
        modules=("onnxruntime",),
        converting=("tensorflow", "tf2onnx", "onnx"),
        distribution="onnxruntime",
        precisions=("float32",),
        tolerances={"float32": EXACT},
        opens=("onnx",),
        opener=f"{_HERE}.onnxruntime_engine:open_onnxruntime",
        converter=f"{_HERE}.onnxruntime_engine:convert_to_onnx",
    ),
    EngineRow(
        name="litert",
        title="LiteRT",
        extra="litert",
        modules=("ai_edge_litert",),
        converting=("tensorflow",),
        distribution="ai-edge-litert",
        precisions=("float32",),
        tolerances={"float32": EXACT},
        opens=("litert",),
        opener=f"{_HERE}.litert_engine:open_litert",
        converter=f"{_HERE}.litert_engine:convert_to_litert",
    ),
)

# The engines that open each format without conversion, the best first.
FORMATS: dict[str, tuple[str, ...]] = {
    form: tuple(
        row.name
        for row in sorted(ENGINES, key=lambda row: row.opens[0] != form)
        if form in row.opens
    )
    for form in dict.fromkeys(form for row in ENGINES for form in row.opens)
}


def find_engine(name: str) -> EngineRow:
    """Find an engine by name.

    Raises:
        UsageError: There is no engine of that name.
    """
    for row in ENGINES:
        if row.name == name:
            return row
    names = [row.name for row in ENGINES]
    near = suggest(name.casefold(), names, cutoff=0.4, option="--engine ")
    raise UsageError(
        f"expected one of the engines {', '.join(names)}, received {name!r}",
        near or "use --engine auto",
    )


def find_missing(row: EngineRow, *, converting: bool = False) -> tuple[str, ...]:
    """Return the modules of an engine that are not installed, without importing them."""
    needed = (*row.modules, *row.converting) if converting else row.modules
    return tuple(name for name in needed if importlib.util.find_spec(name) is None)


def check_installed(row: EngineRow, *, converting: bool = False) -> None:
    """Check that an engine is installed.

    Raises:
        MissingPackageError: It is not installed; the hint names the extra.
    """
    missing = find_missing(row, converting=converting)
    if missing:
        is_converter = converting and missing[0] in row.converting
        purpose = " to convert the model" if is_converter else ""
        raise MissingPackageError(
            f"the engine {row.name} needs {', '.join(missing)}{purpose}, "
            f"which {'is' if len(missing) == 1 else 'are'} not installed",
            f"python -m pip install 'cnnclf[{row.extra}]'",
        )


def check_precision(row: EngineRow, precision: str) -> None:
    """Check that an engine supports a precision.

    Raises:
        UsageError: It does not; the hint names an engine that does.
    """
    if precision in row.precisions:
        return
    if precision not in PRECISIONS:
        raise UsageError(
            f"expected a precision among {', '.join(PRECISIONS)}, received {precision!r}",
            "use --precision auto",
        )
    able = [other.name for other in ENGINES if precision in other.precisions]
    # int8 needs an exported model, calibrated with images.
    hint = (
        f"use --engine {able[0]}"
        if able
        else f"export such a model: cnnclf export RUN --format openvino --quantize {precision}"
    )
    raise UsageError(
        f"the engine {row.name} computes this model in {' or '.join(row.precisions)}, "
        f"not in {precision}",
        hint,
    )


def read_engine_version(row: EngineRow) -> str:
    """Return the version of an installed engine."""
    from importlib import metadata

    return metadata.version(row.distribution)


def load_function(dotted: str) -> Callable[..., Any]:
    """Import "module:function"."""
    module, _, name = dotted.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
