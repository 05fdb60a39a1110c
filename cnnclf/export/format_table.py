"""The table of formats a model can be exported to; reading it imports none of them, nor NumPy."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cnnclf.errors import MissingPackageError, UsageError
from cnnclf.runs import MODEL_FILE, SAVED_MODEL

_HERE = "cnnclf.export"


@dataclass(frozen=True)
class Needs:
    """What must be installed.

    Args:
        extra: The extra of cnnclf that installs it; empty if it is always there.
        modules: What must be importable.
    """

    extra: str = ""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExporterRow:
    """One row of `EXPORTERS`.

    Args:
        name: What `--format` takes, and the `format` in classifier.json.
        title: What people call it.
        needs: To write a model and to run it.
        quantizations: What `--quantize` may be, and what that needs besides.
        distributions: Packages whose versions are kept with the artifact.
        model: Name of the file, or of the directory, that is opened.
        exporter: "module:function" of (ExportJob) -> names of the files it wrote, `model` first.
    """

    name: str
    title: str
    needs: Needs
    quantizations: Mapping[str, Needs]
    distributions: tuple[str, ...]
    model: str
    exporter: str


EXPORTERS: tuple[ExporterRow, ...] = (
    ExporterRow(
        name="onnx",
        title="ONNX",
        needs=Needs("onnx", ("onnxruntime", "tf2onnx", "onnx")),
        quantizations={"float16": Needs(), "int8": Needs()},
        distributions=("onnx", "onnxruntime", "tf2onnx"),
        model="model.onnx",
        exporter=f"{_HERE}.onnx_exporter:export_onnx",
    ),
    ExporterRow(
        name="litert",
        title="LiteRT",
        needs=Needs("litert", ("ai_edge_litert",)),
        quantizations={"float16": Needs(), "int8": Needs()},
        distributions=("ai-edge-litert",),
        model="model.tflite",
        exporter=f"{_HERE}.litert_exporter:export_litert",
    ),
    ExporterRow(
        name="openvino",
        title="OpenVINO",
        needs=Needs("openvino", ("openvino", "scipy")),  # Keras needs scipy to write it
        quantizations={"float16": Needs(), "int8": Needs("openvino-int8", ("nncf",))},
        distributions=("openvino", "nncf"),
        model="model.xml",
        exporter=f"{_HERE}.openvino_exporter:export_openvino",
    ),
    ExporterRow(
        name="savedmodel",
        title="SavedModel",
        needs=Needs("", ("tensorflow",)),
        quantizations={},
        distributions=(),
        model=SAVED_MODEL,
        exporter=f"{_HERE}.savedmodel_exporter:export_saved_model",
    ),
    ExporterRow(
        name="keras",
        title="Keras",
        needs=Needs("", ("keras",)),
        quantizations={},
        distributions=(),
        model=MODEL_FILE,
        exporter=f"{_HERE}.keras_exporter:export_keras",
    ),
)


def find_exporter(name: str) -> ExporterRow:
    """Find a format by name.

    Raises:
        UsageError: There is none of that name.
    """
    for row in EXPORTERS:
        if row.name == name:
            return row
    names = [row.name for row in EXPORTERS]
    near = get_close_matches(name.casefold(), names, n=1, cutoff=0.4)
    raise UsageError(
        f"expected a format of {', '.join(names)}, received {name!r}",
        f"did you mean --format {near[0]}?" if near else "",
    )


def check_exporter(row: ExporterRow, quantize: str | None) -> None:
    """Refuse what a format cannot do, and what needs a package that is not installed.

    Args:
        row: The format.
        quantize: float16, int8 or None.

    Raises:
        UsageError: The format cannot be quantized so; the message lists what it can.
        MissingPackageError: A package is missing; the hint names the extra.
    """
    if quantize is not None and quantize not in row.quantizations:
        able = [other.name for other in EXPORTERS if quantize in other.quantizations]
        raise UsageError(
            f"expected --quantize {' or '.join(row.quantizations)} with --format {row.name}, "
            f"received {quantize}"
            if row.quantizations
            else f"expected no --quantize with --format {row.name}, which keeps float32, "
            f"received {quantize}",
            f"use --format {' or '.join(able)}" if able else "leave --quantize out",
        )
    _check_installed(row, row.needs, f"--format {row.name}")
    if quantize is not None:
        _check_installed(row, row.quantizations[quantize], f"--quantize {quantize}")


def find_missing(needs: Needs) -> tuple[str, ...]:
    """Name the modules that are not installed, without importing them."""
    return tuple(name for name in needs.modules if importlib.util.find_spec(name) is None)


def _check_installed(row: ExporterRow, needs: Needs, option: str) -> None:
    missing = find_missing(needs)
    if missing:
        raise MissingPackageError(
            f"expected what {option} needs to be installed for {row.title}, "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            f"python -m pip install 'cnnclf{needs.extra and f'[{needs.extra}]'}'",
        )
