"""comparison.html: settings that differ, and the difference on the same images."""

import json
from pathlib import Path

import numpy as np

from cnnclf.reporting.run_comparison import compare_runs
from tests.quality.test_check_page import Page
from tests.reporting.made_runs import add_evaluation, make_run


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
    assert report.missing == []
    assert "--weight-decay0.050.5" in page.text.replace("\n", "")
    assert "--head-epochs-3" in page.text.replace("\n", "")
    assert "--head-units" not in page.text
    assert "(95 % interval +" in page.text
    assert len(page.find("svg", "chart")) == 3


def test_runs_without_common_images_say_so(tmp_path: Path) -> None:
    runs = make_two(tmp_path, paths=[f"other {i}.jpg" for i in range(200)])
    report = compare_runs(runs, out=tmp_path / "page.html")
    assert "were evaluated on different images" in report.missing[0]
