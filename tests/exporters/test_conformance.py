"""Every format of the table with every quantization: verified, described, right in any batch."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.exporters.format_table import EXPORTERS, ExporterRow, find_missing
from cnnclf.exporters.parity import FLOAT_TOLERANCES
from cnnclf.exporters.parity_report import VERIFIED, ExportReport
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.keras_comparison import compare_logits
from cnnclf.inference.engines.openvino_engine import load_openvino
from cnnclf.progress import Silent
from tests.exporters.conftest import Export
from tests.exporters.material import SPEC, TEMPERATURE

CASES = [
    ExportConfig(format=row.name, quantize=quantize)
    for row in EXPORTERS
    for quantize in (None, *row.quantizations)
]
QUANTIZING = [row for row in EXPORTERS if row.quantizations]
PROBABILITIES = [ExportConfig(format=row.name, probabilities=True) for row in EXPORTERS]


@pytest.fixture(scope="module")
def pixels(dataset: Dataset) -> np.ndarray:
    rows = dataset.manifest.select("test")
    return open_pixels(dataset, SPEC, cache="ram", progress=Silent(), rows=rows).gather(rows)


@pytest.fixture(params=CASES, ids=lambda settings: settings.name)
def report(request: pytest.FixtureRequest, export: Export) -> ExportReport:
    return export(request.param)


def test_all_formats_are_tried_here() -> None:
    for row in EXPORTERS:
        assert not find_missing(row.needs)
        assert not [each for each in row.quantizations.values() if find_missing(each)]


def test_it_is_verified(report: ExportReport, classifier: Classifier) -> None:
    assert report.verdict == VERIFIED
    assert report.parity is not None
    assert report.parity.images == 18
    assert report.parity.after.correct >= 17
    content = json.loads((report.directory / "parity.json").read_text())
    assert content["verdict"] == "verified"
    assert content["format"] == report.settings.format
    assert content["source"]["sha256"] == classifier.bundle["sha256"]
    assert content["parity"]["before"]["correct"] == report.parity.before.correct
    assert content["parity"]["after"]["size_bytes"] > 1000
    assert content["dataset"]["trained_on"] is True
    assert not [path for path in report.directory.parent.iterdir() if path.name.startswith(".")]


def test_classifier_json_says_what_the_bundle_says(
    report: ExportReport, classifier: Classifier
) -> None:
    artifact = Classifier.load(report.directory)
    assert artifact.labels == classifier.labels
    assert artifact.input_spec == classifier.input_spec
    assert artifact.temperature == TEMPERATURE
    assert artifact.bundle["format"] == report.settings.format
    assert artifact.bundle["quantize"] == report.settings.quantize
    files = {artifact.bundle["model"], *artifact.bundle["files"], "classifier.json", "parity.json"}
    assert {path.name for path in report.directory.iterdir()} == files


@pytest.mark.parametrize("count", [1, 18, 3])
def test_logits_are_those_of_keras_in_any_batch(
    report: ExportReport, classifier: Classifier, pixels: np.ndarray, count: int
) -> None:
    logits = Classifier.load(report.directory).logits(pixels[:count])
    expected = classifier.logits(pixels[:count])
    assert logits.shape == expected.shape
    tolerance = FLOAT_TOLERANCES.get(report.settings.quantize)
    if tolerance is None:
        assert np.abs(logits - expected).max() < 0.1 * np.ptp(expected)
    else:
        assert compare_logits(logits, expected, tolerance=tolerance).is_close


@pytest.mark.parametrize("settings", PROBABILITIES, ids=lambda settings: settings.name)
def test_probabilities_are_those_of_the_run(
    settings: ExportConfig, export: Export, classifier: Classifier, pixels: np.ndarray
) -> None:
    report = export(settings)
    assert report.verdict == VERIFIED
    artifact = Classifier.load(report.directory)
    assert artifact.bundle["output"] == "probabilities"
    raw = artifact.engine.logits(pixels)
    expected = classifier.probabilities(classifier.logits(pixels))
    np.testing.assert_allclose(raw, expected, atol=1e-4)
    np.testing.assert_allclose(artifact.probabilities(artifact.logits(pixels)), expected, atol=1e-4)


def _read_onnx(directory: Path) -> str:
    import onnx

    model = onnx.load(directory / "model.onnx")
    assert [each.name for each in model.graph.input] == ["pixels"]
    assert [each.name for each in model.graph.output] == ["logits"]
    kept: dict[str, str] = {each.key: each.value for each in model.metadata_props}
    return kept["classifier.json"]


def _read_litert(directory: Path) -> str:
    with zipfile.ZipFile(directory / "model.tflite") as archive:
        return str(archive.read("classifier.json"), "utf-8")


def _read_openvino(directory: Path) -> str:
    model = load_openvino().Core().read_model(directory / "model.xml")
    return str(model.get_rt_info(["cnnclf", "classifier.json"]).astype(str))


def _read_savedmodel(directory: Path) -> str:
    return (directory / "saved_model/assets.extra/classifier.json").read_text(encoding="utf-8")


def _read_keras(directory: Path) -> str:
    with zipfile.ZipFile(directory / "model.keras") as archive:
        return str(archive.read("classifier.json"), "utf-8")


READERS: dict[str, Callable[[Path], str]] = {
    "onnx": _read_onnx,
    "litert": _read_litert,
    "openvino": _read_openvino,
    "savedmodel": _read_savedmodel,
    "keras": _read_keras,
}


def test_the_description_is_inside(report: ExportReport, classifier: Classifier) -> None:
    content = json.loads(READERS[report.settings.format](report.directory))
    assert content["labels"] == list(classifier.labels)
    assert content["input_spec"] == classifier.input_spec.to_dict()
    assert content["output"] == "logits"
    assert content["temperature"] == TEMPERATURE
    assert str(classifier.directory) not in json.dumps(content)


def test_keras_itself_reads_what_holds_a_description(
    export: Export, classifier: Classifier, pixels: np.ndarray
) -> None:
    import keras

    model = keras.models.load_model(export(ExportConfig(format="keras")).directory / "model.keras")
    np.testing.assert_allclose(
        model.predict_on_batch(pixels), classifier.logits(pixels), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    "row", [row for row in EXPORTERS if row.quantizations], ids=lambda row: row.name
)
def test_what_is_quantized_computes_otherwise(
    row: ExporterRow, export: Export, pixels: np.ndarray
) -> None:
    logits = [
        Classifier.load(export(ExportConfig(format=row.name, quantize=quantize)).directory).logits(
            pixels
        )
        for quantize in (None, "float16", "int8")
    ]
    assert 0 < np.abs(logits[1] - logits[0]).max() < np.abs(logits[2] - logits[0]).max()
