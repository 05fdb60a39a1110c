"""`cnnclf calibrate` on a copy of the tiny run, and what later commands make of the promise."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnclf
from cnnclf.data.manifest import load_dataset
from cnnclf.data.manifest_versions import RowChange, write_version
from cnnclf.evaluation import deciding
from cnnclf.files import write_json_atomic
from tests.conftest import Cli
from tests.terminal.terminal import ROOT

PHOTOS = ROOT / "sample_data" / "x_or_o"
KERAS = ("--engine", "keras")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "sample_data" / "tiny_run", tmp_path / "run"))


def read_bundle(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "checkpoints/best/classifier.json").read_text())
    return found


def test_without_a_promise_it_shows_what_can_be_promised(cli: Cli, run: Path) -> None:
    before = read_bundle(run)
    result = cli("calibrate", run, PHOTOS, *KERAS)
    assert result.code == 0
    assert "what can be promised at 95 % confidence" in result.stdout
    assert "100.0 % (92.1 to 100.0)" in result.stdout
    assert "--precision 0.8" in result.stderr
    predict = f"cnnclf predict {run} photos/"
    assert f"{predict} --sets 0.95" in result.stdout
    assert f"{predict} --unknown-by both" in result.stdout
    assert read_bundle(run)["threshold"] == before["threshold"]


def test_where_nothing_can_be_promised_the_result_begins_at_once(
    cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "_OFFERED", (0.9999,))
    result = cli("calibrate", run, PHOTOS, *KERAS)
    assert "can be promised at 95 % confidence on these images" in result.stderr
    assert result.stdout.startswith("sets of 0.95 ")


def test_a_promise_is_stored_and_kept_by_predict_and_evaluate(
    cli: Cli, run: Path, tmp_path: Path
) -> None:
    result = cli("calibrate", run, PHOTOS, "--coverage", 0.8, *KERAS, "--json")
    assert result.code == 0
    promise = json.loads(result.stdout)["promise"]
    assert promise == read_bundle(run)["promise"]
    assert (promise["kind"], promise["target"], promise["images"]) == ("coverage", 0.8, 45)
    threshold = promise["threshold"]
    assert read_bundle(run)["threshold"] == threshold
    predicted = cli("predict", run, PHOTOS, *KERAS)
    assert f"labels below {threshold:.4g} are unknown: calibrate stored" in predicted.stderr
    assert "stored" not in cli("predict", run, PHOTOS, "--threshold", 0, *KERAS).stderr
    rows = list(csv.DictReader(io.StringIO(predicted.stdout)))
    assert len(rows) == 300
    for row in rows:
        assert (row["label"] == "unknown") is (float(row["probability"]) < round(threshold, 6))
    out = tmp_path / "report"
    evaluated = cli("evaluate", run, PHOTOS, "--split", "val", "-o", out)
    assert "promised: coverage of at least 0.8, found: coverage 0.9" in evaluated.stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["promise"]["answered"] == promise["answered"]
    assert metrics["risk_coverage"]["coverage"][-1] == 1


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--precision", 0.99), 3, "45 images are too few to promise the precision 0.99"),
        (("--precision", 0.9), 3, "the best that can be promised is 0.898"),
        (("--precision", 0.9, "--coverage", 0.8), 2, "--precision and --coverage cannot be"),
        (("--precision", 95), 2, "--precision"),
        (("--split", "all"), 2, "includes training images"),
    ],
)
def test_refusals_change_nothing(
    cli: Cli, run: Path, options: tuple[object, ...], code: int, words: str
) -> None:
    before = read_bundle(run)
    result = cli("calibrate", run, PHOTOS, *options, *KERAS)
    assert result.code == code
    assert words in result.stderr
    assert "hint: " in result.stderr
    assert read_bundle(run) == before


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """An image of the dataset, and noise, of whose label the network is certain."""
    (tmp_path / "new").mkdir()
    shutil.copy(PHOTOS / "x" / "x000.jpg", tmp_path / "new" / "x.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "new" / "noise.png")
    return tmp_path / "new"


def read_rows(text: str) -> dict[str, dict[str, str]]:
    return {Path(row["path"]).stem: row for row in csv.DictReader(io.StringIO(text))}


def test_sets_and_familiarity_need_a_calibrated_bundle(cli: Cli, run: Path, strange: Path) -> None:
    for options in (("--sets", 0.95), ("--unknown-by", "both")):
        result = cli("predict", run, strange, *options, *KERAS)
        assert result.code == 2
        assert "was not calibrated" in result.stderr
        assert f"hint: cnnclf calibrate {run / 'checkpoints/best'}" in result.stderr
    plain = cli("predict", run, strange, *KERAS)
    assert "familiar" not in plain.stdout.partition("\n")[0]
    assert cli("calibrate", run, PHOTOS, *KERAS).code == 0
    [file] = (run / "checkpoints/best").glob("calibration-*.npz")
    assert file.stat().st_size < 2_000_000

    result = cli("predict", run, strange, "--sets", 0.95, *KERAS)
    rows = read_rows(result.stdout)
    assert rows["x"]["set"] == "x"
    assert float(rows["x"]["familiar"]) > 0.1
    assert float(rows["noise"]["familiar"]) == pytest.approx(1 / 46, rel=1e-4)
    assert float(rows["noise"]["probability"]) > 0.99
    assert rows["noise"]["label"] == "x"
    assert "1 image unlike anything learned: --unknown-by both" in result.stderr
    both = cli("predict", run, strange, "--unknown-by", "both", *KERAS)
    assert [row["label"] for row in read_rows(both.stdout).values()] == ["unknown", "x"]
    assert read_rows(both.stdout)["noise"]["nearest"] == "x"
    assert "unlike anything learned" not in both.stderr
    refused = cli("predict", run, strange, "--sets", 0.99, *KERAS)
    assert refused.code == 3
    assert "45 images are too few for sets of 0.99: 99 are needed" in refused.stderr
    [prediction] = cnnclf.predict(str(run), strange / "noise.png", config={"unknown_by": "both"})
    assert (prediction.label, prediction.is_unfamiliar) == ("unknown", True)

    exported = cli("export", run, "--format", "keras", "--no-verify", "-o", run / "export")
    assert exported.code == 0
    result = cli("predict", run / "export", strange, "--sets", 0.95, *KERAS)
    assert read_rows(result.stdout)["x"]["set"] == "x"
    # Exports in the format of Keras have features, so the index is there; others have logits only.
    assert float(read_rows(result.stdout)["noise"]["familiar"]) < 0.03
    changes = {"format": "onnx"}
    write_json_atomic(
        run / "export/classifier.json",
        json.loads((run / "export/classifier.json").read_text()) | changes,
    )
    refused = cli("predict", run / "export", strange, "--unknown-by", "distance", *KERAS)
    assert refused.code == 2
    assert "has logits only" in refused.stderr
    assert "use the run it was exported from" in refused.stderr

    file.write_bytes(b"damaged")
    damaged = cli("predict", run, strange, *KERAS)
    assert damaged.code == 4
    assert "its content does not match the checksum" in damaged.stderr


def test_training_images_among_others_are_excluded(cli: Cli, run: Path, tmp_path: Path) -> None:
    assert cli("import", PHOTOS, "--out", tmp_path / "data").code == 0
    plan = json.loads((run / "plan.json").read_text())
    plan["dataset"]["path"] = str(tmp_path / "data")
    write_json_atomic(run / "plan.json", plan)
    halves = ("--split", "0.5,0.5,0", "--seed", 7)
    assert cli("import", PHOTOS, "--out", tmp_path / "other", *halves).code == 0
    result = cli("calibrate", run, tmp_path / "other", "--coverage", 0.8, *KERAS, "--json")
    assert result.code == 0, result.stderr
    training = load_dataset(tmp_path / "data").manifest
    seen = {training.sha256[row] for row in training.select("train")}
    other = load_dataset(tmp_path / "other").manifest
    new = [row for row in other.select("val") if other.sha256[row] not in seen]
    assert 10 < len(new) < 100
    assert json.loads(result.stdout)["promise"]["images"] == len(new)
    assert f"{150 - len(new)} of the 150 images were in training" in result.stderr
    shutil.rmtree(tmp_path / "other")
    assert cli("import", PHOTOS, "--out", tmp_path / "other", "--split", "1,0,0").code == 0
    dataset = load_dataset(tmp_path / "other")
    changes = [
        RowChange(path, "remove", "", "new")
        for path, digest in zip(dataset.manifest.paths, dataset.manifest.sha256, strict=True)
        if digest not in seen
    ]
    write_version(tmp_path / "other", changes, why="only training images")
    none = cli("calibrate", run, tmp_path / "other", "--split", "all", *KERAS)
    assert (none.code, "images were in training: every promise" in none.stderr) == (3, True)


def test_images_of_one_class_are_refused(cli: Cli, run: Path, tmp_path: Path) -> None:
    shutil.copytree(PHOTOS / "x", tmp_path / "photos" / "x")
    result = cli("calibrate", run, tmp_path / "photos", *KERAS)
    assert result.code == 3
    assert "images of too few classes (only of 'x')" in result.stderr


def test_a_damaged_promise_is_reported(cli: Cli, run: Path) -> None:
    content = read_bundle(run) | {"promise": {"kind": "precision"}}
    write_json_atomic(run / "checkpoints/best/classifier.json", content)
    result = cli("predict", run, PHOTOS / "x", *KERAS)
    assert result.code == 4
    assert "is damaged: expected the fields of a promise" in result.stderr
