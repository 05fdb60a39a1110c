"""comparison.html: settings that differ, and the difference on the same images."""

import json
from pathlib import Path

import numpy as np

from cnnclf.evaluation.paired_runs import compare_runs as compare_answers
from cnnclf.reporting.run_comparison import compare_runs
from cnnclf.runs.run_directory import RunDirectory
from tests.quality.test_check_page import Page
from tests.reporting.made_runs import add_evaluation, add_test, import_images, make_run


def make_two(tmp_path: Path, *, paths: list[str]) -> list[Path]:
    runs = [make_run(tmp_path / name) for name in ("first", "second")]
    for number, run in enumerate(runs):
        own = [f"{each}" for each in paths] if number else [f"{i}.jpg" for i in range(200)]
        add_evaluation(run, ["o", "x"], own, np.arange(200) % 2, seed=number, skill=1 + 2 * number)
    plan = json.loads((runs[1] / "plan.json").read_text())
    plan["config"]["optimizer"]["weight_decay"] = 0.5
    plan["config"]["head"] = {"units": 0, "epochs": 3}
    plan["given"] = {"head.epochs": "option"}
    (runs[1] / "plan.json").write_text(json.dumps(plan))
    return runs


def test_two_runs_are_compared_image_by_image(tmp_path: Path) -> None:
    runs = make_two(tmp_path, paths=[f"{i}.jpg" for i in range(200)])
    report = compare_runs(runs, out=tmp_path / "page.html")
    page = Page(report.path.read_text(encoding="utf-8"))
    assert [note.partition(":")[0] for note in report.missing] == ["no images that changed sides"]
    assert "--weight-decay0.050.5" in page.text.replace("\n", "")
    assert "--head-epochs-3" in page.text.replace("\n", "")
    assert "--head-units" not in page.text
    assert "images per second" in page.text
    assert "(95 % interval +" in page.text
    assert len(page.find("svg", "chart")) == 3
    assert "<circle" not in report.path.read_text(encoding="utf-8"), "one blob"
    history = (runs[0] / "history.csv").read_text().splitlines()
    (runs[0] / "history.csv").write_text("\n".join(history[:4]) + "\n")
    for run in runs:
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(record | {"images_per_s": None}))
    compare_runs(runs, out=tmp_path / "page.html")
    text = report.path.read_text(encoding="utf-8")
    assert text.count("<circle") == 3 * 3
    assert "images per second" not in text


def test_runs_without_common_images_say_so(tmp_path: Path) -> None:
    runs = make_two(tmp_path, paths=[f"other {i}.jpg" for i in range(200)])
    report = compare_runs(runs, out=tmp_path / "page.html")
    assert "were evaluated on different images" in report.missing[0]


def test_images_that_changed_sides_are_shown(tmp_path: Path) -> None:
    dataset = import_images(tmp_path / "data")
    runs = [make_run(tmp_path / name, dataset) for name in ("first", "second")]
    where = {"directory": str(dataset.directory), "fingerprint": dataset.fingerprint}
    for number, run in enumerate(runs):
        add_test(run, dataset, seed=number, skill=1 + number)
        file = run / "evaluation/test/metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"dataset": where}))
    pair = compare_answers(RunDirectory(runs[0]), RunDirectory(runs[1]))
    report = compare_runs(runs, out=tmp_path / "page.html")
    page = Page(report.path.read_text(encoding="utf-8"))
    assert report.missing == []
    assert pair.gained > pair.lost > 0
    shown = min(pair.gained, 12) + min(pair.lost, 12)
    assert len(page.find("img")) == shown
    assert page.text.count("second: ") == shown
    assert "Only the second is right" in page.text
