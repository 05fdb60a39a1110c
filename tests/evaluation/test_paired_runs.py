import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError, RunError
from cnnclf.evaluation.paired_runs import compare_runs, draw_changed, open_compared
from cnnclf.files import read_json, write_json_atomic
from cnnclf.images.input_spec import InputSpec
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from cnnclf.runs.run_opening import create_run

TRUTH = ["x", "x", "x", "o", "o", "o"]
PATHS = [f"{label}/{number}.png" for number, label in enumerate(TRUTH)]


def write_evaluation(
    path: Path,
    predicted: Sequence[str],
    *,
    split: str = "test",
    fingerprint: str = "f0",
    dataset: str = "data",
    paths: Sequence[str] = PATHS,
) -> RunDirectory:
    run = RunDirectory(path) if path.exists() else create_run(path)
    report = run.evaluation(split)
    report.mkdir(parents=True)
    with (report / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", "probability", "correct"])
        writer.writerows(
            (name, name[0], answer, 0.9, "") for name, answer in zip(paths, predicted, strict=True)
        )
    content = {"split": split, "dataset": {"directory": dataset, "fingerprint": fingerprint}}
    write_json_atomic(report / "metrics.json", content)
    return run


def test_images_that_changed_sides_are_counted(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", ["x", "x", "o", "o", "x", "x"])
    second = write_evaluation(tmp_path / "b", ["x", "o", "x", "o", "o", "o"])
    test = compare_runs(first, second)
    assert (test.split, test.images, test.gained, test.lost) == ("test", 6, 3, 1)
    assert test.accuracies == (0.5, 5 / 6)
    assert test.difference[0] == pytest.approx(2 / 6)
    assert test.p_value == pytest.approx(2 * 5 / 16 - 4 / 16)
    rows = [(row.label, row.images, row.gained, row.lost) for row in test.classes]
    assert rows == [("o", 3, 2, 0), ("x", 3, 1, 1)]
    document = test.to_dict()
    assert [each["path"] for each in document["changed"]] == [PATHS[i] for i in (1, 2, 4, 5)]
    assert document["pairs"] is None


def test_only_images_that_both_were_evaluated_on_count(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", ["x"] * 6)
    second = write_evaluation(tmp_path / "b", ["o"] * 5, paths=PATHS[1:])
    assert compare_runs(first, second).images == 5


def test_the_split_that_both_have_is_taken(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", ["x"] * 6, split="val")
    write_evaluation(tmp_path / "a", ["x"] * 6)
    second = write_evaluation(tmp_path / "b", ["x"] * 6, split="val")
    assert compare_runs(first, second).split == "val"
    write_evaluation(tmp_path / "b", ["o"] * 6)
    assert compare_runs(first, second).split == "test"


@pytest.mark.parametrize(
    ("other", "again"),
    [
        ({"fingerprint": "f1", "dataset": "cats"}, "cnnclf evaluate {b} data"),
        ({"split": "val"}, "cnnclf evaluate {b} --split test"),
    ],
)
def test_other_images_are_refused(tmp_path: Path, other: dict[str, str], again: str) -> None:
    first = write_evaluation(tmp_path / "a", ["x"] * 6)
    second = write_evaluation(tmp_path / "b", ["x"] * 6, **other)
    with pytest.raises(DataError, match="not evaluated on the same images") as caught:
        compare_runs(first, second)
    assert str(first.path) in caught.value.message
    assert other.get("dataset", "on val of data") in caught.value.message
    assert caught.value.hint.endswith(again.format(b=second.path))


def test_other_classes_cannot_be_compared_by_evaluating_again(tmp_path: Path) -> None:
    runs = [write_evaluation(tmp_path / name, ["x"] * 6, fingerprint=name) for name in "ab"]
    for run, labels in zip(runs, (["o", "x"], ["rose", "tulip"]), strict=True):
        report = run.evaluation("test") / "metrics.json"
        write_json_atomic(report, read_json(report) | {"labels": labels})
    with pytest.raises(DataError, match="their classes differ") as caught:
        compare_runs(*runs)
    assert "evaluate" not in caught.value.hint


def test_runs_without_predictions_are_refused(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", ["x"] * 6)
    other = create_run(tmp_path / "b")
    with pytest.raises(RunError, match="was not evaluated") as caught:
        compare_runs(first, other)
    assert caught.value.hint == f"continue it: cnnclf train --resume {other.path}"
    other.best.mkdir(parents=True)
    with pytest.raises(RunError, match="was not evaluated") as caught:
        compare_runs(first, other)
    assert caught.value.hint == f"evaluate it: cnnclf evaluate {other.path}"
    second = write_evaluation(tmp_path / "c", ["x"] * 6)
    table = second.evaluation("test") / "predictions.csv"
    for damaged in ("path,label\nx/0.png,x\n", "path,label,predicted,probability\n1,2,3,many\n"):
        table.write_text(damaged, encoding="utf-8")
        with pytest.raises(RunError, match="line 2 is not a row"):
            compare_runs(first, second)


def test_labels_that_differ_are_other_images(tmp_path: Path) -> None:
    first = write_evaluation(tmp_path / "a", ["x"] * 6)
    paths = ["o/0.png", *PATHS[1:]]
    second = write_evaluation(tmp_path / "b", ["x"] * 6, paths=paths)
    table = second.evaluation("test") / "predictions.csv"
    text = table.read_text(encoding="utf-8").replace("o/0.png", "x/0.png")
    table.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="different images"):
        compare_runs(first, second)


def test_changed_images_are_drawn_in_two_groups(tmp_path: Path) -> None:
    place = import_source(
        Path("sample_data/x_or_o"), tmp_path / "data", progress=Silent()
    ).directory
    dataset = load_dataset(place)
    paths = list(dataset.manifest.paths[:6])
    where = {"fingerprint": dataset.fingerprint, "dataset": str(dataset.directory), "paths": paths}
    right = [path[0] for path in paths]
    wrong = ["o" if label == "x" else "x" for label in right]
    first = write_evaluation(tmp_path / "a", [*wrong[:5], right[5]], **where)  # type: ignore[arg-type]
    second = write_evaluation(tmp_path / "b", [*right[:5], wrong[5]], **where)  # type: ignore[arg-type]
    draw_changed(compare_runs(first, second), tmp_path / "changed.png")
    with Image.open(tmp_path / "changed.png") as image:
        width, height = image.size
    assert width == 2 * (5 * 130 - 10 + 24)  # five images, then one
    assert height > 2 * 2 * 120
    (dataset.directory / "manifest.csv").write_bytes(
        (dataset.directory / "manifest.csv").read_bytes().replace(b"test", b"val")
    )
    with pytest.raises(DataError, match="has changed since"):
        draw_changed(compare_runs(first, second), tmp_path / "changed.png")


@pytest.mark.parametrize(("chosen", "gray"), [([0, 4000], 127), ([0, 2000], 255)])
def test_images_are_shown_with_the_values_of_the_run(
    chosen: list[int], gray: int, tmp_path: Path
) -> None:
    for label in "ox":
        (tmp_path / "deep" / label).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((8, 8), 2000 + number, np.uint16)
            Image.fromarray(pixels).save(tmp_path / "deep" / label / f"{number}.png")
    place = import_source(tmp_path / "deep", tmp_path / "data", progress=Silent()).directory
    dataset = load_dataset(place)
    paths = list(dataset.manifest.paths)
    where = {"fingerprint": dataset.fingerprint, "dataset": str(place), "paths": paths}
    first = write_evaluation(tmp_path / "a", ["x"] * 4, **where)  # type: ignore[arg-type]
    second = write_evaluation(tmp_path / "b", ["o"] * 4, **where)  # type: ignore[arg-type]
    spec = InputSpec(8, 8).to_dict() | {"value_range": chosen}
    write_json_atomic(first.plan, {"input_spec": spec})
    shown = open_compared(compare_runs(first, second))
    image = shown.reduce(shown.root / paths[0], 8).image
    assert abs(np.asarray(image.convert("L")).mean() - gray) < 2


def test_changed_arrays_are_drawn(tmp_path: Path) -> None:
    for label in "ox":
        (tmp_path / "source" / label).mkdir(parents=True)
        for number in range(3):
            array = np.random.default_rng(number).normal(size=(9, 12)).astype(np.float32)
            np.save(tmp_path / "source" / label / f"{number}.npy", array)
    place = import_source(tmp_path / "source", tmp_path / "data", progress=Silent()).directory
    dataset = load_dataset(place)
    assert dataset.kind == "array"
    paths = list(dataset.manifest.paths)
    where = {"fingerprint": dataset.fingerprint, "dataset": str(dataset.directory), "paths": paths}
    first = write_evaluation(tmp_path / "a", ["x"] * 6, **where)  # type: ignore[arg-type]
    second = write_evaluation(tmp_path / "b", ["o"] * 6, **where)  # type: ignore[arg-type]
    draw_changed(compare_runs(first, second), tmp_path / "changed.png")
    assert (tmp_path / "changed.png").stat().st_size > 1000


def test_the_figure_tells_runs_of_one_name_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = import_source(
        Path("sample_data/x_or_o"), tmp_path / "data", progress=Silent()
    ).directory
    dataset = load_dataset(place)
    paths = list(dataset.manifest.paths[:1])
    where = {"fingerprint": dataset.fingerprint, "dataset": str(place), "paths": paths}
    first = write_evaluation(tmp_path / "a" / "run", ["x"], **where)  # type: ignore[arg-type]
    second = write_evaluation(tmp_path / "b" / "run", ["o"], **where)  # type: ignore[arg-type]
    drawn: list[Any] = []
    monkeypatch.setattr("cnnclf.drawing.canvas.draw_canvas", lambda rows, **_: drawn.extend(rows))
    monkeypatch.setattr("cnnclf.drawing.canvas.save_canvas", lambda *_: None)
    draw_changed(compare_runs(first, second), tmp_path / "changed.png")
    [[tile]] = drawn
    names = [line.split(":")[0] for line in tile.caption.split("\n")]
    assert names == [str(first.path), str(second.path)]
