"""Resolves `--engine auto` and `--precision auto` without loading any engine."""

import os
import platform
from dataclasses import dataclass

from cnnclf.errors import RunError, UsageError
from cnnclf.hardware import has_bfloat16, is_gpu_usable
from cnnclf.inference.engines.engine_table import (
    ENGINES,
    FORMATS,
    EngineRow,
    check_installed,
    check_precision,
    find_engine,
    find_missing,
)

_FASTEST_ON_CPU = "openvino"


@dataclass(frozen=True)
class EngineChoice:
    """An engine and its precision.

    Args:
        row: The engine.
        precision: One of the row's precisions; None for that of the model file.
        note: A remark on the choice for the user; may be empty.
    """

    row: EngineRow
    precision: str | None
    note: str = ""


def choose_engines(
    form: str = "keras",
    *,
    own_precision: str = "float32",
    engine: str = "auto",
    precision: str = "auto",
    device: str | None = None,
) -> tuple[EngineChoice, ...]:
    """Choose an engine, and the engines to fall back to if its logits differ from those of Keras.

    On a usable GPU that is Keras. On a CPU it is OpenVINO if installed, in bfloat16 if the
    processor supports it.

    Args:
        form: Format of the model, a key of `FORMATS`.
        own_precision: The precision of an exported model.
        engine: auto, or the name of a row.
        precision: auto, or one of `PRECISIONS`.
        device: See `setup_runtime`; None for the CPU.

    Returns:
        At least one choice, in the order in which to try them.

    Raises:
        UsageError: There is no such engine, or it does not support the model, precision or device.
        MissingPackageError: The requested engine is not installed.
        RunError: No engine opens the format.
    """
    if form != "keras":
        return (_choose_for_file(form, own_precision, engine, precision, device),)
    if engine == "auto":
        return _choose_freely(precision, device)
    row = find_engine(engine)
    _check_device(row, device, "use --engine keras")
    check_installed(row)
    if precision != "auto":
        check_precision(row, precision)
        choices = [_as_asked(row, precision)]
    elif row.name == "keras":
        choices = [EngineChoice(row, None)]
    elif "bfloat16" in row.precisions:
        choices = _in_fast_precision(row)
    else:
        choices = [EngineChoice(row, row.precisions[0])]
    return (*choices, *_fallbacks(choices))


def find_fast_precision() -> str:
    """Return the precision in which OpenVINO is fastest on this processor: bfloat16 or float32."""
    is_x86 = platform.machine().casefold() in {"x86_64", "amd64"}  # elsewhere it has no bfloat16
    return "bfloat16" if is_x86 and has_bfloat16() else "float32"


def _choose_for_file(
    form: str, own_precision: str, engine: str, precision: str, device: str | None
) -> EngineChoice:
    """Choose the engine of an exported model; without its Keras model there is no fallback."""
    if form not in FORMATS:
        raise RunError(
            f"the format {form!r} of the model is not one of {', '.join(FORMATS)}",
            "python -m pip install --upgrade cnnclf",
        )
    names = FORMATS[form]
    if engine == "auto":
        installed = [name for name in names if not find_missing(find_engine(name))]
        engine = (installed or list(names))[0]
    row = find_engine(engine)
    if row.name not in names:
        raise UsageError(
            f"the engine {engine} cannot open {form} models; {', '.join(names)} can",
            f"use --engine {names[0]}",
        )
    _check_device(row, device, "use the run it was exported from")
    check_installed(row)
    if precision in {"auto", own_precision}:
        return EngineChoice(row, None)
    if own_precision == "int8":
        raise UsageError(
            f"the model was exported in int8 and cannot be computed in {precision}",
            "remove --precision, or use the run it was exported from",
        )
    check_precision(row, precision)
    return _as_asked(row, precision)


def _check_device(row: EngineRow, device: str | None, instead: str) -> None:
    """Raise if a GPU is requested for an engine that computes on CPUs only."""
    if row.name != "keras" and device is not None and device.startswith("gpu"):
        raise UsageError(
            f"the engine {row.name} computes on the CPU only, not on {device}",
            f"{instead}, or remove --device {device}",
        )


def _choose_freely(precision: str, device: str | None) -> tuple[EngineChoice, ...]:
    keras = find_engine("keras")
    requested = None if precision == "auto" else precision
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if device is not None and (
        device.startswith("gpu") or (device == "auto" and is_gpu_usable(backend))
    ):
        if requested is not None:
            check_precision(keras, requested)
        return (EngineChoice(keras, requested),)
    row = find_engine(_FASTEST_ON_CPU)
    is_missing = bool(find_missing(row, converting=True))
    if is_missing or (requested is not None and requested not in row.precisions):
        if requested is not None:
            check_precision(keras, requested)
        note = f"faster here: python -m pip install 'cnnclf[{row.extra}]'" if is_missing else ""
        return (EngineChoice(keras, requested or "float32", note),)
    choices = [_as_asked(row, requested)] if requested is not None else _in_fast_precision(row)
    return (*choices, *_fallbacks(choices))


def _as_asked(row: EngineRow, precision: str) -> EngineChoice:
    """Say where OpenVINO takes bfloat16 for a wish, and computes in float32."""
    is_wish = row.name == _FASTEST_ON_CPU and precision == "bfloat16"
    is_other = is_wish and find_fast_precision() != precision
    note = "computed in float32: the processor has no bfloat16" if is_other else ""
    return EngineChoice(row, precision, note)


def _in_fast_precision(row: EngineRow) -> list[EngineChoice]:
    """bfloat16 where the processor supports it, then float32."""
    exact = EngineChoice(row, "float32")
    if find_fast_precision() == "bfloat16":
        return [EngineChoice(row, "bfloat16", "exact: float32"), exact]
    return [exact]


def _fallbacks(choices: list[EngineChoice]) -> tuple[EngineChoice, ...]:
    """All other installed engines in their exact precision; Keras, the reference, comes last."""
    used = {choice.row.name for choice in choices}
    if "keras" in used:
        return ()
    others = sorted(ENGINES, key=lambda row: row.name == "keras")
    return tuple(
        EngineChoice(row, row.precisions[0])
        for row in others
        if row.name not in used and not find_missing(row, converting=True)
    )
