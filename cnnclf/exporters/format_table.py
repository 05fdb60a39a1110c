"""The table of export formats; it imports none of their packages, nor NumPy."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from cnnclf.errors import MissingPackageError, UsageError
from cnnclf.names import suggest
from cnnclf.packages import install_command
from cnnclf.runs.run_names import MODEL_FILE, SAVED_MODEL

_HERE = "cnnclf.exporters"


@dataclass(frozen=True)
class Needs:
    """The packages that a format needs.

    Args:
        extra: The extra of cnnclf that installs them; empty if they are always installed.
        modules: Modules that must be importable.
    """

    extra: str = ""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExporterRow:
    """One row of `EXPORTERS`.

    Args:
        name: The value of `--format`, and of `format` in classifier.json.
        title: Name of the format.
        needs: Packages to write and run a model.
        quantizations: The values of `--quantize`, and the additional packages of each.
        distributions: Packages whose versions are kept with the artifact.
        model: Name of the file or directory that is opened.
        exporter: "module:function" of (ExportJob) -> names of the files it wrote, `model` first.
    """

    name: str
    title: str
    needs: Needs
    quantizations: Mapping[str, Needs]
    distributions: tuple[str, ...]
    model: str
    exporter: str

    def describe(self, quantize: str | None) -> str:
        """Return the name of the format with a quantization, such as `ONNX int8`."""
        return f"{self.title} {quantize}" if quantize else self.title


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
    """Return a format by name.

    Raises:
        UsageError: The name is unknown.
    """
    for row in EXPORTERS:
        if row.name == name:
            return row
    names = [row.name for row in EXPORTERS]
    raise UsageError(
        f"expected a format of {', '.join(names)}, received {name!r}",
        suggest(name.casefold(), names, cutoff=0.4, option="--format "),
    )


def check_exporter(row: ExporterRow, quantize: str | None) -> None:
    """Check that a format supports a quantization and that its packages are installed.

    Args:
        row: The format.
        quantize: float16, int8 or None.

    Raises:
        UsageError: The format does not support the quantization; the hint names one that does.
        MissingPackageError: A package is missing; the hint names the extra.
    """
    if quantize is not None and quantize not in row.quantizations:
        able = [other.name for other in EXPORTERS if quantize in other.quantizations]
        raise UsageError(
            f"--format {row.name} does not support --quantize {quantize}",
            f"use --format {' or '.join(able)}" if able else "export without --quantize",
        )
    _check_installed(row.needs, f"--format {row.name}")
    if quantize is not None:
        _check_installed(row.quantizations[quantize], f"--quantize {quantize}")


def find_missing(needs: Needs) -> tuple[str, ...]:
    """Return the modules that are not installed, without importing them."""
    return tuple(name for name in needs.modules if importlib.util.find_spec(name) is None)


def _check_installed(needs: Needs, option: str) -> None:
    missing = find_missing(needs)
    if missing:
        raise MissingPackageError(
            f"{option} needs packages that are not installed: {', '.join(missing)}",
            install_command(f"cnnclf[{needs.extra}]" if needs.extra else "cnnclf"),
        )
