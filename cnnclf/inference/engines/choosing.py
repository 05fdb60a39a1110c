"""What `--engine auto` and `--precision auto` become, without loading any engine."""

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
    """An engine, and what it shall compute in.

    Args:
        row: The engine.
        precision: One that the row names; None for what the model file has.
        note: What a user may want to know about the choice; may be empty.
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
    """Choose an engine, and those that take over should it compute something else than Keras.

    On a usable GPU that is Keras. On a CPU it is OpenVINO if it is installed, in bfloat16 where the
    processor computes in it.

    Args:
        form: Format of the model, a key of `FORMATS`.
        own_precision: What an exported model computes in as it is.
        engine: auto, or the name of a row.
        precision: auto, or one of `PRECISIONS`.
        device: As of `setup_runtime`; None for the CPU.

    Returns:
        At least one; the first is to be tried first.

    Raises:
        UsageError: There is no such engine, or it does not compute this.
        MissingPackageError: It is asked for and not installed.
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
        choices = [EngineChoice(row, precision)]
    elif row.name == "keras":
        choices = [EngineChoice(row, None)]
    elif "bfloat16" in row.precisions:
        choices = _in_what_is_fast(row)
    else:
        choices = [EngineChoice(row, row.precisions[0])]
    return (*choices, *_fallbacks(choices))


def find_fast_precision() -> str:
    """Return what OpenVINO is fastest in on this processor: bfloat16 or float32."""
    is_x86 = platform.machine().casefold() in {"x86_64", "amd64"}  # on others it has no bfloat16
    return "bfloat16" if is_x86 and has_bfloat16() else "float32"


def _choose_for_file(
    form: str, own_precision: str, engine: str, precision: str, device: str | None
) -> EngineChoice:
    """The engine of an exported model; nothing takes over, since there is no Keras beside it."""
    if form not in FORMATS:
        raise RunError(
            f"expected a model of the format {', '.join(FORMATS)}, received {form!r}",
            "python -m pip install --upgrade cnnclf",
        )
    names = FORMATS[form]
    if engine == "auto":
        installed = [name for name in names if not find_missing(find_engine(name))]
        engine = (installed or list(names))[0]
    row = find_engine(engine)
    if row.name not in names:
        raise UsageError(
            f"expected an engine that opens {form} ({', '.join(names)}), received {engine}",
            f"use --engine {names[0]}",
        )
    _check_device(row, device, "give the run it was exported from")
    check_installed(row)
    if precision in {"auto", own_precision}:
        return EngineChoice(row, None)
    if own_precision == "int8":
        raise UsageError(
            f"expected --precision int8, which the model was exported in, received {precision}",
            "leave --precision out, or give the run it was exported from",
        )
    check_precision(row, precision)
    return EngineChoice(row, precision)


def _check_device(row: EngineRow, device: str | None, instead: str) -> None:
    """Refuse a GPU to an engine that computes on processors only."""
    if row.name != "keras" and device is not None and device.startswith("gpu"):
        raise UsageError(
            f"expected --device cpu with the engine {row.name}, received {device}",
            f"{instead}, or leave --device {device} out",
        )


def _choose_freely(precision: str, device: str | None) -> tuple[EngineChoice, ...]:
    keras = find_engine("keras")
    wanted = None if precision == "auto" else precision
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if device is not None and (
        device.startswith("gpu") or (device == "auto" and is_gpu_usable(backend))
    ):
        if wanted is not None:
            check_precision(keras, wanted)
        return (EngineChoice(keras, wanted),)
    row = find_engine(_FASTEST_ON_CPU)
    is_missing = bool(find_missing(row, converting=True))
    if is_missing or (wanted is not None and wanted not in row.precisions):
        if wanted is not None:
            check_precision(keras, wanted)
        note = f"faster here: python -m pip install 'cnnclf[{row.extra}]'" if is_missing else ""
        return (EngineChoice(keras, wanted or "float32", note),)
    choices = [EngineChoice(row, wanted)] if wanted is not None else _in_what_is_fast(row)
    return (*choices, *_fallbacks(choices))


def _in_what_is_fast(row: EngineRow) -> list[EngineChoice]:
    """bfloat16 where the processor computes in it, and in any case float32."""
    exact = EngineChoice(row, "float32")
    if find_fast_precision() == "bfloat16":
        return [EngineChoice(row, "bfloat16", "exact: --precision float32"), exact]
    return [exact]


def _fallbacks(choices: list[EngineChoice]) -> tuple[EngineChoice, ...]:
    """Whatever else is installed, exactly; Keras, which is always right, at the end."""
    used = {choice.row.name for choice in choices}
    if "keras" in used:
        return ()
    others = sorted(ENGINES, key=lambda row: row.name == "keras")
    return tuple(
        EngineChoice(row, row.precisions[0])
        for row in others
        if row.name not in used and not find_missing(row, converting=True)
    )
