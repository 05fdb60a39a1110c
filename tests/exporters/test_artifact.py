"""What an export leaves behind: a whole artifact, a rejected one, or nothing."""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cnnclf.config import ExportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.store import open_pixels
from cnnclf.errors import CnnclfError, DataError, DeviceError, RunError, UsageError
from cnnclf.exporters import artifact as artifact_module
from cnnclf.exporters.artifact import export_classifier
from cnnclf.exporters.exporter import ExportJob
from cnnclf.exporters.format_table import EXPORTERS, ExporterRow, find_exporter
from cnnclf.exporters.parity_report import REJECTED, UNVERIFIED, VERIFIED, ExportReport
from cnnclf.inference.classifier import Classifier
from cnnclf.inference.engines.openvino_engine import load_openvino
from cnnclf.progress import Silent
from tests.exporters.material import SPEC

KERAS = ExportConfig(format="keras")
SMALL_DISK_BYTES = 256 << 10


@pytest.fixture
def run_export(
    classifier: Classifier, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ExportReport]:
    """Export to `tmp_path / "out"`, with the exporter of a name in `sabotage` if one is given."""

    def call(
        exporter: str | None = None,
        settings: ExportConfig = KERAS,
        data: Dataset | None = dataset,
        target: Path = tmp_path / "out",
    ) -> ExportReport:
        row = find_exporter(settings.format)
        if exporter is not None:
            row = replace(row, exporter=f"tests.exporters.sabotage:{exporter}")
        with monkeypatch.context() as patch:
            patch.setattr(artifact_module, "find_exporter", lambda _: row)
            return export_classifier(
                classifier, target, settings=settings, dataset=data, progress=Silent()
            )

    return call


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = f"size={SMALL_DISK_BYTES}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "cnnclf", str(disk)]
    if shutil.which("mount") is None or subprocess.call(mount, stderr=subprocess.DEVNULL):
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


RunExport = Callable[..., ExportReport]


def test_labels_that_are_not_utf8_are_escaped(classifier: Classifier, tmp_path: Path) -> None:
    labels = (os.fsdecode(b"caf\xe9"), *classifier.labels[1:])
    content = classifier.bundle | {"labels": list(labels)}
    source = replace(classifier.source, content=content, labels=labels)
    named = replace(classifier, source=source)
    out = tmp_path / "out"
    export_classifier(named, out, settings=KERAS, dataset=None, progress=Silent())
    with zipfile.ZipFile(out / "model.keras") as archive:
        assert json.loads(archive.read("classifier.json"))["labels"] == list(labels)
    assert Classifier.load(out).labels == labels


def test_a_model_that_forgets_a_class_is_rejected(run_export: RunExport, tmp_path: Path) -> None:
    report = run_export("forget_a_class")
    assert report.verdict == REJECTED
    assert report.directory == tmp_path / "out.rejected"
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    assert report.parity is not None
    words = " ".join(report.parity.problems)
    assert "accuracy is 33.33 points lower, 6 of 18 images (limit 0.5)" in words
    assert "of their spread" in words
    assert "66.67 % of the images keep their label" in words
    content = json.loads((report.directory / "parity.json").read_text())
    assert content["verdict"] == "rejected"
    assert content["parity"]["problems"] == list(report.parity.problems)


def test_a_model_that_names_all_labels_but_surer_is_rejected(run_export: RunExport) -> None:
    report = run_export("double_logits")
    assert report.verdict == REJECTED
    assert report.parity is not None
    assert report.parity.agreement == 1
    assert report.parity.drop == 0
    [problem] = report.parity.problems
    assert problem.startswith("logits differ by ")


def test_what_may_be_lost_is_the_users_to_say(run_export: RunExport) -> None:
    # int8 is judged by accuracy alone, so the settings say int8 of a model that is not
    settings = KERAS | {"quantize": "int8", "max_drop": 33.0}
    row = replace(find_exporter("keras"), quantizations={"int8": find_exporter("keras").needs})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.exporters.test_artifact.find_exporter", lambda _: row)
        assert run_export("forget_a_class", settings).verdict == REJECTED
        assert run_export("forget_a_class", settings | {"max_drop": 34.0}).verdict == VERIFIED


def test_a_rejected_model_leaves_the_good_one_and_the_next_good_one_takes_its_place(
    run_export: RunExport, tmp_path: Path
) -> None:
    good = run_export()
    assert good.verdict == VERIFIED
    before = (good.directory / "parity.json").read_bytes()
    run_export("forget_a_class")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.rejected"}
    assert (good.directory / "parity.json").read_bytes() == before
    run_export()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("exporter", "words"),
    [("stop_in_the_middle", "gave up"), ("give_no_numbers", "the exported model does not work")],
)
def test_a_failure_leaves_nothing(
    run_export: RunExport, tmp_path: Path, exporter: str, words: str
) -> None:
    with pytest.raises(RunError, match=words):
        run_export(exporter)
    assert list(tmp_path.iterdir()) == []


def test_what_the_converter_to_litert_refuses(
    run_export: RunExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow.lite.python.convert_phase import ConverterError

    from cnnclf.exporters import litert_exporter

    monkeypatch.setattr(litert_exporter, "_choose_options", _raising(ConverterError("no such op")))
    with pytest.raises(RunError, match="LiteRT cannot compute this model: no such op") as caught:
        run_export(settings=ExportConfig(format="litert", quantize="float16"))
    assert caught.value.hint == "try another --format, or no --quantize"
    assert list(tmp_path.iterdir()) == []


def _raising(error: Exception) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise error

    return call


def test_what_the_quantizer_of_onnx_refuses(
    run_export: RunExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnx import shape_inference
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph

    from cnnclf.exporters import onnx_exporter

    for error in (
        Fail("no kernel"),
        InvalidGraph("no kernel"),
        shape_inference.InferenceError("no kernel"),
    ):
        monkeypatch.setattr(onnx_exporter, "correct_biases", _raising(error))
        with pytest.raises(RunError, match="quantizer cannot compute this model: no kernel"):
            run_export(settings=ExportConfig(format="onnx", quantize="int8"))
        assert list(tmp_path.iterdir()) == []


def test_what_openvino_does_not_write(
    run_export: RunExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_openvino(), "save_model", _raising(RuntimeError("no such layer")))
    with pytest.raises(RunError, match="OpenVINO cannot compute this model: no such layer"):
        run_export(settings=ExportConfig(format="openvino"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_so(run_export: RunExport, tmp_path: Path, small_disk: Path) -> None:
    with pytest.raises(DeviceError, match=r"the disk is full: cannot write .*out") as caught:
        run_export("write_too_much", target=small_disk / "out")
    assert "free some space" in caught.value.hint
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)
def test_a_full_disk_is_called_so_whatever_the_format(
    run_export: RunExport, row: ExporterRow, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(SMALL_DISK_BYTES - 4096))
    with pytest.raises(DeviceError, match=r"the disk is full: cannot write .*out"):
        run_export(settings=ExportConfig(format=row.name), target=small_disk / "out")
    assert list(small_disk.iterdir()) == [filler]


def test_an_interrupt_leaves_what_was_there(run_export: RunExport, tmp_path: Path) -> None:
    run_export()
    before = sorted((tmp_path / "out").iterdir())
    with pytest.raises(KeyboardInterrupt):
        run_export("be_interrupted")
    assert sorted((tmp_path / "out").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_the_user_are_never_replaced(run_export: RunExport, tmp_path: Path) -> None:
    run_export()
    (tmp_path / "out" / "app.py").write_text("mine")
    with pytest.raises(RunError, match=r"out contains app\.py, which is not part of"):
        run_export()
    assert (tmp_path / "out" / "app.py").read_text() == "mine"
    (tmp_path / "out.rejected").write_text("mine")
    (tmp_path / "out" / "app.py").unlink()
    with pytest.raises(RunError, match=r"out.rejected contains out.rejected"):
        run_export()


def test_directories_of_the_user_beside_the_place_are_left_alone(
    run_export: RunExport, tmp_path: Path
) -> None:
    mine = [tmp_path / f"out{suffix}" / "precious.txt" for suffix in (".old", ".new")]
    for path in mine:
        path.parent.mkdir()
        path.write_text("mine")
    for _ in range(2):
        run_export()
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.old", "out.new"}


def test_a_link_leads_to_the_place(run_export: RunExport, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "onnx")
    assert run_export().verdict == VERIFIED
    run_export()
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "onnx" / "model.keras").is_file()
    run_export("forget_a_class")
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"onnx", "onnx.rejected"}


def test_the_current_directory_and_mount_points_are_refused_before_the_work(
    run_export: RunExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
        with pytest.raises(RunError, match="a mount point") as caught:
            run_export("stop_in_the_middle")
    assert f"--out {tmp_path / 'out' / 'NAME'}" in caught.value.hint
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(RunError, match="the current directory"):
        run_export("stop_in_the_middle")


def test_without_images_nothing_is_called_verified(run_export: RunExport) -> None:
    report = run_export(data=None)
    assert report.verdict == UNVERIFIED
    content = json.loads((report.directory / "parity.json").read_text())
    assert (content["verdict"], content["parity"]) == ("not verified", None)


def test_int8_needs_images(run_export: RunExport, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="training images") as caught:
        run_export(settings=ExportConfig(format="onnx", quantize="int8"), data=None)
    assert "--data" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_other_labels_are_reported_before_anything_is_converted(
    run_export: RunExport, dataset: Dataset, tmp_path: Path
) -> None:
    other = replace(dataset, labels=("blue", "green", "yellow"))
    with pytest.raises(DataError, match="the model does not know 'yellow'"):
        run_export("stop_in_the_middle", data=other)
    assert list(tmp_path.iterdir()) == []


def test_int8_needs_images_that_can_be_decoded(
    run_export: RunExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_is_readable(*_: object, rows: np.ndarray, **__: object) -> SimpleNamespace:
        return SimpleNamespace(failed=dict.fromkeys(rows.tolist(), "no image"))

    monkeypatch.setattr(artifact_module, "open_pixels", none_is_readable)
    with pytest.raises(DataError, match=r"none of the 36 training images .* can be decoded"):
        run_export(settings=ExportConfig(format="onnx", quantize="int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", ["onnx", "litert", "openvino"])
def test_int8_is_calibrated_on_training_images_alone(
    run_export: RunExport, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """What the exporter is given, and how the images reach the quantizer one by one."""
    given: list[np.ndarray] = []
    original = ExportJob.calibration_batches

    def watched(job: ExportJob) -> Iterator[np.ndarray]:
        for batch in original(job):
            given.append(batch)
            yield batch

    monkeypatch.setattr(ExportJob, "calibration_batches", watched)
    assert run_export(settings=ExportConfig(format=format_, quantize="int8")).verdict == VERIFIED
    train = dataset.select_split("train")
    pixels = open_pixels(dataset, SPEC, cache="ram", progress=Silent(), rows=train).gather(train)
    assert {batch.tobytes() for batch in given} == {image.tobytes() for image in pixels}
    assert {batch.shape for batch in given} == {(1, *SPEC.shape)}


def test_what_a_format_cannot_do_is_refused_before_anything_is_done(
    run_export: RunExport, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--format keras does not support --quantize int8"):
        run_export(settings=ExportConfig(format="keras", quantize="int8"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(
    classifier: Classifier, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CnnclfError, match="cannot write") as caught:
        export_classifier(
            classifier,
            tmp_path / "file" / "out",
            settings=KERAS,
            dataset=dataset,
            progress=Silent(),
        )
    assert "--out" in caught.value.hint


def test_a_model_trained_in_half_precision_is_exported_in_float32(
    classifier: Classifier, dataset: Dataset, tmp_path: Path
) -> None:
    import keras

    from cnnclf.inference.bundles import save_bundle
    from cnnclf.inference.engines.keras_engine import set_precision
    from tests.exporters.material import SPEC, build_model, open_exact

    mixed = set_precision(build_model(), "bfloat16")
    assert mixed.layers[1].compute_dtype == "bfloat16"
    about = {"name": "colors", "fingerprint": dataset.fingerprint}
    save_bundle(tmp_path / "mixed", mixed, labels=dataset.labels, input_spec=SPEC, dataset=about)
    report = export_classifier(
        open_exact(tmp_path / "mixed"),
        tmp_path / "out",
        settings=KERAS,
        dataset=dataset,
        progress=Silent(),
    )
    assert report.verdict == VERIFIED
    model = keras.models.load_model(report.directory / "model.keras")
    assert all(layer.compute_dtype in ("float32", "uint8") for layer in model.layers)
