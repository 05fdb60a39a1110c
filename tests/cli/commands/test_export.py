"""`cnnclf export`, and what the other commands do with what it wrote."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnclf.errors import ExitCode
from cnnclf.exporters import artifact as artifact_module
from cnnclf.exporters.format_table import EXPORTERS, ExporterRow, find_exporter
from cnnclf.files import write_json_atomic
from cnnclf.runs.run_directory import RunDirectory
from tests.conftest import Cli
from tests.exporters.material import Place, make_place

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("export"))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy to write into; the plan still names the dataset where it was made."""
    return made._replace(run=Path(shutil.copytree(made.run, tmp_path / "run")))


def test_a_run_is_exported_into_itself_and_compared(cli: Cli, place: Place) -> None:
    result = cli("export", place.run, "--format", "onnx")
    assert result.code == ExitCode.OK, result.stderr
    artifact = place.run / "exports" / "onnx"
    assert {path.name for path in artifact.iterdir()} == {
        "model.onnx",
        "classifier.json",
        "parity.json",
    }
    lines = result.stdout.splitlines()
    assert lines[0] == "18 images of the val split"
    assert lines[1].split() == ["Keras", "ONNX"]
    assert lines[2].split() == ["accuracy", "1.0000", "(18)", "1.0000", "(18)"]
    assert "verified: no loss of accuracy" in result.stdout
    assert f"hint: label images with it: cnnclf predict {artifact} photos/" in result.stderr


def test_json_is_parity_json_and_the_place(cli: Cli, place: Place, tmp_path: Path) -> None:
    result = cli(
        "export", place.run, "--format", "keras", "--probabilities", "--split", "test",
        "--out", tmp_path / "here", "--json",
    )  # fmt: skip
    assert result.code == ExitCode.OK, result.stderr
    content = json.loads(result.stdout)
    assert content.pop("directory") == str(tmp_path / "here")
    assert content == json.loads((tmp_path / "here" / "parity.json").read_text())
    assert (content["split"], content["probabilities"]) == ("test", True)
    assert content["parity"]["output"] == "probabilities"
    for side in (content["parity"]["before"], content["parity"]["after"]):
        assert (side["correct"], side["accuracy"]) == (18, 1)
        # Wilson, 95 %: 1 / (1 + z^2 / n) for n of n
        assert side["low"] == pytest.approx(1 / (1 + 1.959964**2 / 18), abs=1e-6)
        assert side["high"] == 1
        assert side["images_per_s"] > 0
        assert 0 < side["image_ms"] < 10_000


def test_runs_show_lists_exports_with_their_verdicts(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("export", place.run, "--format", "keras", "--no-verify").code == ExitCode.OK
    _sabotage(monkeypatch)
    assert cli("export", place.run, "--format", "keras", "--probabilities").code == 4
    (place.run / "exports" / "onnx").mkdir()
    (place.run / "exports" / "onnx" / "parity.json").write_text("{")
    result = cli("runs", "show", place.run)
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert "not verified" in rows["keras"]
    assert "rejected" in rows["keras-probabilities.rejected"]
    assert "damaged" in rows["onnx"]
    content = json.loads(cli("runs", "show", place.run, "--json").stdout)
    found = {row["name"]: row["verdict"] for row in content["exports"]}
    assert found["keras-probabilities.rejected"] == "rejected"


def _sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    def find(name: str) -> object:
        return replace(find_exporter(name), exporter="tests.exporters.sabotage:forget_a_class")

    monkeypatch.setattr(artifact_module, "find_exporter", find)


def test_what_loses_too_much_is_kept_under_another_name(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sabotage(monkeypatch)
    result = cli("export", place.run, "--format", "keras", "--json")
    assert result.code == 4
    assert [path.name for path in (place.run / "exports").iterdir()] == ["keras.rejected"]
    assert json.loads(result.stdout)["verdict"] == "rejected"
    error, hint = (line for line in result.stderr.splitlines() if line.startswith(("err", "hint")))
    assert error.startswith(
        "error: Keras was rejected: accuracy is 33.33 points lower, 6 of 18 images (limit 0.5)"
    )
    assert str(place.run / "exports" / "keras.rejected") in hint


def test_ties_are_shown_next_to_the_fraction_of_same_labels(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from cnnclf.exporters.parity import Parity, compare_models

    def with_ties(*args: Any, **settings: Any) -> Parity:
        return replace(compare_models(*args, **settings), agreement=17 / 18, ties=1)

    monkeypatch.setattr(artifact_module, "compare_models", with_ties)
    result = cli("export", place.run, "--format", "keras")
    assert result.code == ExitCode.OK, result.stderr
    assert "94.44 % of the images, 1 more are ties" in result.stdout


def test_the_current_directory_is_refused_at_once(
    cli: Cli, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_module, "export_classifier", None)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    result = cli("export", place.run, "--format", "keras", "--out", ".")
    assert result.code == ExitCode.CONFIG
    assert ". is the current directory and cannot be replaced" in result.stderr
    assert "hint: use a directory inside it: --out NAME" in result.stderr


def test_data_that_is_gone(cli: Cli, place: Place) -> None:
    plan = json.loads((place.run / "plan.json").read_text())
    plan["dataset"]["path"] = "/gone/colors"
    write_json_atomic(place.run / "plan.json", plan)
    result = cli("export", place.run, "--format", "keras")
    assert result.code == ExitCode.DATA
    assert "/gone/colors" in result.stderr
    hint = f"cnnclf export {place.run} --format keras --data DATASET"
    assert hint in result.stderr
    assert "--no-verify" in result.stderr
    assert not (place.run / "exports").exists()
    result = cli("export", place.run, "--format", "keras", "--data", place.photos)
    assert result.code == ExitCode.OK, result.stderr
    assert "verified" in result.stdout
    result = cli("export", place.run, "--format", "keras", "--no-verify")
    assert result.code == ExitCode.OK, result.stderr
    assert "it was not compared with Keras" in result.stderr
    assert "verified" not in result.stdout


def test_an_unfinished_run_is_exported_with_a_warning(cli: Cli, place: Place) -> None:
    RunDirectory(place.run).update_run(status="interrupted")
    result = cli("export", place.run, "--format", "keras", "--no-verify")
    assert result.code == ExitCode.OK, result.stderr
    assert "is interrupted; its best checkpoint so far is exported" in result.stderr


def test_a_bundle_without_its_run(cli: Cli, place: Place, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(RunDirectory(place.run).best, tmp_path / "alone"))
    result = cli("export", bundle, "--format", "keras")
    assert result.code == ExitCode.USAGE
    assert "--data DATASET" in result.stderr
    result = cli("export", bundle, "--format", "keras", "--data", place.dataset)
    assert result.code == ExitCode.OK, result.stderr
    assert (bundle / "exports" / "keras" / "parity.json").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--format", "onyx"], 2, "did you mean onnx?"),
        (["--format", "savedmodel", "--quantize", "int8"], 2, "does not support --quantize int8"),
        (["--format", "onnx", "--quantize", "int4"], 2, "float16, int8"),
        (["--format", "onnx", "--split", "train"], 2, "val, test"),
        (["--format", "onnx", "--max-drop", "-1"], 2, "--max-drop"),
        (["--format", "onnx", "--data", "x", "--no-verify"], 2, "cannot be combined"),
        (["--format", "onnx", "--out", "a/m.onnx"], 2, "--out a/m; the files are then in a/m"),
        ([], 2, "--format"),
    ],
)
def test_wrong_options_are_reported_at_once(
    cli: Cli, place: Place, options: list[str], code: int, words: str
) -> None:
    result = cli("export", place.run, *options)
    assert result.code == code
    assert words in " ".join(result.stderr.split())
    assert not (place.run / "exports").exists()


def test_a_missing_package_is_named(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.exporters.format_table.find_missing", lambda needs: needs.modules)
    result = cli("export", place.run, "--format", "litert")
    assert result.code == ExitCode.MISSING_PACKAGE
    assert "python -m pip install 'cnnclf[litert]'" in result.stderr


# What other commands do with artifacts


@pytest.fixture(scope="module")
def artifacts(made: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The artifact of a format, exported once."""
    from cnnclf.cli.main import main

    root = tmp_path_factory.mktemp("artifacts")

    def call(name: str, *options: str) -> Path:
        directory = root / "-".join([name, *options])
        if not directory.exists():
            words = ["export", made.run, "--format", name, "--out", directory, "-q", *options]
            assert main([str(word) for word in words]) == 0
        return directory

    return call


Artifacts = Callable[..., Path]


def _predict(cli: Cli, model: Path, photos: Path, *options: str) -> dict[str, dict[str, float]]:
    result = cli("predict", model, photos, "--top-k", 3, "--json", *options)
    assert result.code == ExitCode.OK, result.stderr
    return {
        row["path"]: {
            row["label"]: row["probability"],
            row["label_2"]: row["probability_2"],
            row["label_3"]: row["probability_3"],
        }
        for row in json.loads(result.stdout)["rows"]
    }


@pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)
@pytest.mark.parametrize("options", [(), ("--probabilities",)], ids=["logits", "probabilities"])
def test_predict_gives_the_rows_of_the_run(
    cli: Cli, made: Place, artifacts: Artifacts, row: ExporterRow, options: tuple[str, ...]
) -> None:
    artifact = artifacts(row.name, *options)
    photos = made.photos / "red"
    expected = _predict(cli, made.run, photos, "--engine", "keras")
    found = _predict(cli, artifact, photos, "--precision", "float32")
    assert found.keys() == expected.keys()
    assert len(found) == 24
    for path, probabilities in expected.items():
        assert list(found[path]) == list(probabilities)
        np.testing.assert_allclose(
            list(found[path].values()), list(probabilities.values()), atol=2e-4
        )


@pytest.mark.parametrize("name", ["onnx", "litert", "openvino"])
def test_predicting_with_an_artifact_loads_no_tensorflow(
    made: Place, artifacts: Artifacts, name: str
) -> None:
    artifact = artifacts(name)
    model = artifact / find_exporter(name).model  # a file of it will do as well
    code = (
        "import sys\nfrom cnnclf.cli.main import main\n"
        f"assert main(['predict', {str(model)!r}, {str(made.photos / 'red' / '0.png')!r}]) == 0\n"
        "print([each for each in ('tensorflow', 'keras', 'scipy') if each in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert lines[1].split(",")[1] == "red"


EVALUATED = (18, 18, True)
"""Images, how many of them are right, and whether the run was trained on that dataset."""


def _evaluate(cli: Cli, artifact: Path, made: Place, report: Path) -> tuple[int, int, bool]:
    result = cli("evaluate", artifact, made.dataset, "--json", "--out", report)
    assert result.code == ExitCode.OK, result.stderr
    content = json.loads(result.stdout)
    return content["n"], content["correct"], content["dataset"]["trained_on"]


@pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)
def test_evaluate_measures_an_artifact(
    cli: Cli, made: Place, artifacts: Artifacts, row: ExporterRow, tmp_path: Path
) -> None:
    assert _evaluate(cli, artifacts(row.name), made, tmp_path / "report") == EVALUATED


@pytest.mark.parametrize(
    ("name", "quantize"),
    [(row.name, quantize) for row in EXPORTERS for quantize in row.quantizations],
)
def test_predict_and_evaluate_take_what_is_quantized(
    cli: Cli, made: Place, artifacts: Artifacts, name: str, quantize: str, tmp_path: Path
) -> None:
    artifact = artifacts(name, "--quantize", quantize)
    expected = _predict(cli, made.run, made.photos / "red", "--engine", "keras")
    found = _predict(cli, artifact, made.photos / "red")
    assert found.keys() == expected.keys()
    far = {"float16": 0.01, "int8": 0.1}[quantize]
    for path, probabilities in expected.items():
        best = next(iter(probabilities))
        assert next(iter(found[path])) == best
        assert found[path][best] == pytest.approx(probabilities[best], abs=far)
    assert _evaluate(cli, artifact, made, tmp_path / "report") == EVALUATED


def test_an_artifact_in_its_run_knows_its_data(cli: Cli, place: Place) -> None:
    assert cli("export", place.run, "--format", "onnx", "--no-verify").code == ExitCode.OK
    artifact = place.run / "exports" / "onnx"
    result = cli("evaluate", artifact, "--json")
    assert result.code == ExitCode.OK, result.stderr
    assert json.loads(result.stdout)["n"] == 18
    assert (artifact / "evaluation" / "test" / "metrics.json").exists()
    assert not (place.run / "evaluation").exists()
    # exporting again replaces it, figures and all
    assert cli("export", place.run, "--format", "onnx").code == ExitCode.OK
    assert not (artifact / "evaluation").exists()


def test_an_artifact_is_not_exported(cli: Cli, made: Place, artifacts: Artifacts) -> None:
    result = cli("export", artifacts("onnx"), "--format", "keras")
    assert result.code == 4
    assert "is already an export to onnx" in result.stderr
    assert str(made.run / "checkpoints" / "best") in result.stderr


@pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)
def test_a_model_without_classifier_json_is_refused(
    cli: Cli, made: Place, artifacts: Artifacts, row: ExporterRow, tmp_path: Path
) -> None:
    artifact = Path(shutil.copytree(artifacts(row.name), tmp_path / "copy"))
    (artifact / "classifier.json").unlink()
    for path in (artifact / row.model, artifact):
        result = cli("predict", path, made.photos)
        assert result.code == 4, path
        assert "classifier.json" in result.stderr
        assert "copy the whole" in result.stderr


@pytest.mark.parametrize("row", EXPORTERS, ids=lambda row: row.name)
def test_a_changed_model_is_refused(
    cli: Cli, made: Place, artifacts: Artifacts, row: ExporterRow, tmp_path: Path
) -> None:
    forms = shutil.ignore_patterns("engine-cache")  # what an earlier prediction made of it
    artifact = Path(shutil.copytree(artifacts(row.name), tmp_path / "copy", ignore=forms))
    weights = max(
        (path for path in artifact.rglob("*") if path.is_file() and path.suffix != ".json"),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    result = cli("predict", artifact, made.photos)
    assert result.code == 4
    assert "do not match the checksum" in result.stderr
    assert "export it again" in result.stderr
