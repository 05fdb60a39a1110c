"""`cnnclf evaluate` on a run with a model that names the strongest color."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig, TrainConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.files import write_json_atomic
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source, open_dataset
from cnnclf.inference.bundles import save_bundle
from cnnclf.inference.classifier import Classifier
from cnnclf.planning.train_plan import plan_training
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run
from tests.conftest import Cli

COLORS = {"blue": (20, 30, 200), "green": (20, 200, 30), "red": (200, 20, 30)}
SPEC = InputSpec(8, 8)
SEED = 5


class Place(NamedTuple):
    """A run and the data it was trained on."""

    run: Path
    dataset: Path
    photos: Path


def _draw(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, color in COLORS.items():
        (folder / label).mkdir(parents=True)
        for i in range(12):
            # One image in twelve shows another color than its folder says.
            shown = COLORS["red"] if (label, i) == ("blue", 0) else color
            pixels = np.clip(np.array(shown) + rng.integers(-20, 20, (10, 9, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{i}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    import keras

    root = tmp_path_factory.mktemp("evaluate")
    place = Place(root / "run", root / "colors", root / "photos")
    _draw(place.photos)
    options = ImportConfig(split=(0.5, 0.25, 0.25), seed=SEED)
    import_source(place.photos, place.dataset, options=options, progress=Silent())
    dataset = load_dataset(place.dataset)
    run = create_run(place.run, command="cnnclf train")
    write_json_atomic(run.plan, plan_training(TrainConfig(), dataset).to_dict())
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    )
    # The channels are red, green, blue and the labels blue, green, red.
    model.layers[-1].set_weights([np.eye(3)[::-1] / 20, np.zeros(3)])
    about = {"name": "colors", "fingerprint": dataset.fingerprint}
    for directory in (run.best, run.last):
        save_bundle(directory, model, labels=dataset.labels, input_spec=SPEC, dataset=about)
    run.update_run(status="finished")
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy to write into; the plan still names the dataset where it was made."""
    return made._replace(run=Path(shutil.copytree(made.run, tmp_path / "run")))


@pytest.fixture
def other(tmp_path: Path) -> Callable[[str], Path]:
    """A folder of images that a test may change."""

    def call(name: str) -> Path:
        _draw(tmp_path / name)
        return tmp_path / name

    return call


def test_a_run_is_measured_on_its_own_test_split(cli: Cli, place: Place) -> None:
    result = cli("evaluate", place.run)
    assert result.code == 0, result.stderr
    out = RunDirectory(place.run).evaluation("test")
    assert {file.name for file in out.iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.csv",
        "confusion.png",
        "worst.png",
    }
    content = json.loads((out / "metrics.json").read_text())
    assert content["n"] == len(load_dataset(place.dataset).manifest.select("test"))
    assert content["dataset"]["trained_on"] is True
    assert "test accuracy" in result.stdout
    assert "95 % interval" in result.stdout
    assert "\n\n\n" not in result.stdout
    assert str(out) in result.stdout
    assert "warning" not in result.stderr


def test_data_of_one_name_in_two_directories_keep_a_report_each(
    cli: Cli, place: Place, other: Callable[[str], Path]
) -> None:
    first, second = other("a/photos"), other("b/photos")
    (second / "blue" / "0.png").unlink()
    reports = [place.run / "evaluation" / name for name in ("all-photos", "all-photos-2")]
    for _ in range(2):  # the same again replaces its own report
        for source, report in zip((first, second), reports, strict=True):
            result = cli("evaluate", place.run, source)
            assert result.code == 0, result.stderr
            assert f"{report}\n" in result.stdout
    found = [json.loads((report / "metrics.json").read_text())["n"] for report in reports]
    assert found == [36, 35]
    assert sorted((place.run / "evaluation").iterdir()) == reports


def test_a_bundle_without_a_run_keeps_a_report_on_each_dataset(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "alone"
    shutil.copytree(place.run / "checkpoints" / "best", bundle)
    first, second = other("a/photos"), other("b/photos")
    (second / "blue" / "0.png").unlink()
    reports = [bundle / "evaluation" / name for name in ("all", "all-photos")]
    for _ in range(2):
        for source, report in zip((first, second), reports, strict=True):
            result = cli("evaluate", bundle, source)
            assert result.code == 0, result.stderr
            assert f"{report}\n" in result.stdout
    assert sorted((bundle / "evaluation").iterdir()) == reports


def test_all_images_with_the_one_mistake(cli: Cli, place: Place) -> None:
    result = cli("evaluate", place.run, "--split", "all", "--json", "--top-k", 2)
    assert result.code == 0, result.stderr
    content = json.loads(result.stdout)
    assert (content["schema_version"], content["n"], content["correct"]) == (1, 36, 35)
    assert content["metrics"]["top_k_accuracy"] >= content["metrics"]["accuracy"] == 35 / 36
    assert content["confused"] == [
        {"label": "blue", "predicted": "red", "count": 1, "share": 1 / 12}
    ]
    assert json.loads((place.run / "evaluation/all/metrics.json").read_text()) == content


def test_changed_images_and_the_groups_of_a_column(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    dataset = Path(shutil.copytree(place.dataset, tmp_path / "dataset"))
    lines = (dataset / "manifest.csv").read_text().splitlines()
    is_mistake = ["blue/0.png" in line for line in lines]
    cameras = ["camera", *("old" if each else "new" for each in is_mistake[1:])]
    (dataset / "manifest.csv").write_text(
        "".join(f"{line},{camera}\n" for line, camera in zip(lines, cameras, strict=True))
    )
    how = ("--split", "all", "-o", tmp_path / "report")
    result = cli("evaluate", place.run, dataset, *how, "--robustness", "--by", "camera")
    assert result.code == 0, result.stderr
    content = json.loads((tmp_path / "report/metrics.json").read_text())
    assert [(each["value"], each["correct"]) for each in content["groups"]] == [
        ("old", 0),
        ("new", 35),
    ]
    assert "1 group of camera with fewer than 30 images" in result.stderr
    found = content["robustness"]
    assert (found["images"], len(found["changes"])) == (36, 11)
    rows = {each["name"]: each for each in found["changes"]}
    assert rows["defocus"]["accuracy"] == [35 / 36] * 5  # the model looks at the mean color
    assert rows["saturation"]["accuracy"][-1] < 0.5
    assert rows["saturation"]["falls_at"] is not None
    with Image.open(tmp_path / "report/robustness.png") as image:
        assert image.height > image.width > 500
    assert "accuracy on 36 changed images" in result.stdout
    assert rows["jpeg"]["strengths"][0] == "quality 60"
    assert rows["occlusion"]["strengths"][0] == "0.05 of the area"

    refused = cli("evaluate", place.run, dataset, "--by", "site")
    assert refused.code == 2
    assert "has no such column" in refused.stderr
    assert "camera" in refused.stderr


def test_views_of_a_model_of_mean_colors_change_nothing(cli: Cli, place: Place) -> None:
    plain, mirrored = (
        json.loads(cli("evaluate", place.run, "--json", "--views", views).stdout)["metrics"]
        for views in ("none", "mirror")
    )
    assert mirrored == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize("cache", ["disk", "ram", "none"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_every_cache_and_batch_size_gives_what_the_classifier_gives_alone(
    cli: Cli, place: Place, cache: str, batch_size: int
) -> None:
    result = cli(
        "evaluate", place.run, "--split", "all", "--cache", cache, "--batch-size", batch_size
    )
    assert result.code == 0, result.stderr
    classifier = Classifier.load(place.run)
    dataset = load_dataset(place.dataset)
    with (place.run / "evaluation/all/predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == dataset.manifest.paths
    for row in (0, 13, 35):
        logits = classifier.logits(classifier.decode(dataset.file(row))[None])
        expected = classifier.probabilities(logits)[0]
        found = [float(lines[row][f"p_{label}"]) for label in classifier.labels]
        assert found == pytest.approx(expected.tolist(), rel=1e-4)


def test_another_place_and_another_checkpoint(cli: Cli, place: Place, tmp_path: Path) -> None:
    assert cli("evaluate", place.run, "--out", tmp_path / "here").code == 0
    assert (tmp_path / "here" / "metrics.json").exists()
    assert cli("evaluate", place.run / "checkpoints" / "last").code == 0
    assert (place.run / "checkpoints/last/evaluation/test/metrics.json").exists()
    assert not (place.run / "evaluation").exists()


def test_a_source_is_measured_directly_and_said_to_be_other_data(
    cli: Cli, place: Place, other: Callable[[str], Path]
) -> None:
    result = cli("evaluate", place.run, other("new photos"), "--split", "all", "--json")
    assert result.code == 0, result.stderr
    assert json.loads(result.stdout)["correct"] == 35
    assert "warning: 18 of the 36 images were in training" in result.stderr
    result = cli("evaluate", place.run, other("more photos"))
    assert result.code == 0, result.stderr
    # `runs list` reads evaluation/test: other data must not pass for the run's own.
    names = {path.name for path in (place.run / "evaluation").iterdir()}
    assert names == {"all-new photos", "all-more photos"}


def test_new_images_are_said_to_be_new(
    cli: Cli, place: Place, other: Callable[[str], Path]
) -> None:
    folder = other("new photos")
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    result = cli("evaluate", place.run, folder)
    assert result.code == 0, result.stderr
    assert "none of the 36 images was in training" in result.stderr
    assert "warning" not in result.stderr


def test_a_new_source_without_splits_is_measured_whole(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = other("new photos")
    result = cli("evaluate", place.run, folder, "--json")
    content = json.loads(result.stdout)
    assert (content["split"], content["n"]) == ("all", 36)
    assert "has no splits: all 36 images are evaluated" in result.stderr
    content = json.loads(cli("evaluate", place.run, folder, "--split", "val", "--json").stdout)
    assert content["split"] == "val", "what is asked for is done"
    import_source(folder, tmp_path / "set", options=ImportConfig(), progress=Silent())
    result = cli("evaluate", place.run, tmp_path / "set", "--json")
    assert json.loads(result.stdout)["split"] == "test", "a dataset was divided by its owner"
    assert "hint: --split all evaluates all images of" in result.stderr


def test_a_new_source_with_splits_keeps_them(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    for split in ("train", "test"):
        other(f"divided/{split}")
    result = cli("evaluate", place.run, tmp_path / "divided", "--json")
    content = json.loads(result.stdout)
    assert (content["split"], content["n"]) == ("test", 36)


def test_the_source_that_was_trained_on_keeps_its_test_split(cli: Cli, place: Place) -> None:
    dataset = open_dataset(place.photos, options=ImportConfig(), progress=Silent())
    for name in ("best", "last"):
        file = place.run / "checkpoints" / name / "classifier.json"
        content = json.loads(file.read_text())
        content["dataset"]["fingerprint"] = dataset.fingerprint
        write_json_atomic(file, content)
    result = cli("evaluate", place.run, place.photos, "--json")
    content = json.loads(result.stdout)
    assert (content["split"], content["dataset"]["trained_on"]) == ("test", True)


def test_evaluate_and_predict_agree(cli: Cli, place: Place) -> None:
    assert cli("evaluate", place.run, "--split", "all").code == 0
    same = ("--engine", "keras")
    predicted = cli("predict", place.run, place.photos, "--top-k", 3, "--json", *same).stdout
    rows = {Path(row["path"]): row for row in json.loads(predicted)["rows"]}
    with (place.run / "evaluation/all/predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(rows) == len(lines) == 36
    for line in lines:
        row = rows[place.photos / line["path"]]
        assert row["label"] == line["predicted"]
        for name, value in (("label", "probability"), ("label_2", "probability_2")):
            assert float(line[f"p_{row[name]}"]) == pytest.approx(row[value], rel=1e-4)


def test_a_bundle_alone_needs_a_dataset(cli: Cli, place: Place, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(place.run / "checkpoints" / "best", tmp_path / "bundle"))
    result = cli("evaluate", bundle)
    assert result.code == 2
    assert "hint: name one: cnnclf evaluate" in result.stderr
    result = cli("evaluate", bundle, place.dataset)
    assert result.code == 0, result.stderr
    assert (bundle / "evaluation/test/metrics.json").exists()


def test_other_labels_are_refused_before_a_library_is_loaded(
    cli: Cli, place: Place, other: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "load", None)
    folder = other("photos")
    (folder / "red").rename(folder / "crimson")
    result = cli("evaluate", place.run, folder)
    assert result.code == 3
    assert "'crimson'" in result.stderr
    assert "'red'" in result.stderr
    assert "hint:" in result.stderr


def test_files_that_went_bad_are_counted_and_the_exit_code_tells(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = other("photos")
    import_source(folder, tmp_path / "set", options=ImportConfig(), progress=Silent())
    (folder / "red" / "3.png").write_bytes(b"")
    (folder / "blue" / "0.png").unlink()
    result = cli("evaluate", place.run, tmp_path / "set", "--split", "all", "--json")
    assert result.code == 7
    content = json.loads(result.stdout)
    assert (content["n"], content["correct"]) == (34, 34)
    assert [file["path"] for file in content["failed"]["files"]] == ["blue/0.png", "red/3.png"]
    assert all(file["reason"] for file in content["failed"]["files"])
    assert "2 of 36 images" in result.stderr


def test_a_split_without_images_and_a_split_that_is_none(
    cli: Cli, place: Place, other: Callable[[str], Path], tmp_path: Path
) -> None:
    options = ImportConfig(split=(0.5, 0.5, 0.0))
    import_source(other("photos"), tmp_path / "set", options=options, progress=Silent())
    result = cli("evaluate", place.run, tmp_path / "set")
    assert result.code == 3
    assert "train and val" in result.stderr
    result = cli("evaluate", place.run, "--split", "holdout")
    assert result.code == 2
    assert "train, val, test, all" in result.stderr


def test_a_run_without_a_test_split_is_measured_on_val(
    cli: Cli, place: Place, tmp_path: Path
) -> None:
    options = ImportConfig(split=(0.5, 0.5, 0.0))
    import_source(place.photos, tmp_path / "set", options=options, progress=Silent())
    plan = json.loads((place.run / "plan.json").read_text())
    plan["dataset"]["path"] = str(tmp_path / "set")
    write_json_atomic(place.run / "plan.json", plan)
    result = cli("evaluate", place.run)
    assert result.code == 0, result.stderr
    assert "has no test split: val is evaluated" in result.stderr
    assert "val accuracy" in result.stdout
    assert cli("evaluate", place.run, "--split", "test").code == 3


def test_swapped_arguments_are_recognized(cli: Cli, place: Place) -> None:
    for command in ("evaluate", "predict", "calibrate", "explain"):
        needed = ["--precision", "0.9"] if command == "calibrate" else []
        result = cli(command, place.photos, place.run, *needed)
        assert result.code == 2
        assert f"but {place.run} is: the arguments are swapped" in " ".join(result.stderr.split())
        words = f"hint: give the run first: cnnclf {command} {place.run} {place.photos}"
        assert words in " ".join(result.stderr.split())


def test_a_dataset_that_is_gone_is_named(cli: Cli, place: Place) -> None:
    plan = json.loads((place.run / "plan.json").read_text())
    plan["dataset"]["path"] = "/gone/colors"
    write_json_atomic(place.run / "plan.json", plan)
    result = cli("evaluate", place.run)
    assert result.code == 3
    assert "/gone/colors" in result.stderr
    assert "DATASET" in result.stderr


def test_an_unfinished_run_is_measured_with_a_warning(cli: Cli, place: Place) -> None:
    RunDirectory(place.run).update_run(status="interrupted")
    result = cli("evaluate", place.run)
    assert result.code == 0
    assert "is interrupted; its best checkpoint so far is measured" in result.stderr


def _without_checkpoints(run: Path) -> None:
    RunDirectory(run).update_run(status="interrupted")
    shutil.rmtree(run / "checkpoints")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_without_checkpoints, "stopped before its first checkpoint"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "is damaged: it is finished"),
        (lambda run: (run / "run.json").write_text("{"), "run.json is damaged"),
        (lambda run: (run / "run.json").write_text('{"version": 99}'), "newer version of cnnclf"),
        (lambda run: (run / "plan.json").unlink(), "cannot read"),
        (
            lambda run: (run / "plan.json").write_text('{"plan_version": 99}'),
            "newer version of cnnclf",
        ),
        (lambda run: (run / "plan.json").write_text('{"plan_version": 1}'), "plan.json is damaged"),
        (lambda run: _truncate(run / "checkpoints/best/model.keras"), "do not match the checksum"),
        (lambda run: (run / "checkpoints/best/model.keras").unlink(), "is damaged: model.keras"),
    ],
)
def test_a_run_that_cannot_be_used_is_named(
    cli: Cli, place: Place, harm: Callable[[Path], object], words: str
) -> None:
    harm(place.run)
    result = cli("evaluate", place.run)
    assert result.code == 4
    assert words in " ".join(result.stderr.split())
    assert str(place.run) in result.stderr
    assert "hint: " in result.stderr
    assert not (place.run / "evaluation").exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def test_what_is_no_run_is_refused(cli: Cli, place: Place, tmp_path: Path) -> None:
    result = cli("evaluate", tmp_path / "nothing", place.dataset)
    assert result.code == 4
    assert "hint:" in result.stderr
