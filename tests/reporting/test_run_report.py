"""report.html: complete in itself, safe whatever names hold, and written from what there is."""

import base64
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset, load_dataset
from cnnclf.errors import RunError, UsageError
from cnnclf.importers import import_source
from cnnclf.progress import Silent
from cnnclf.reporting.prediction_table import PredictionTable
from cnnclf.reporting.report_evaluation import MAX_MATRIX
from cnnclf.reporting.report_images import choose_cells
from cnnclf.reporting.run_report import report_run
from tests.quality.test_check_page import Page
from tests.reporting.made_runs import HOSTILE, add_evaluation, add_test, import_images, make_run

SECTIONS = ["plan", "data", "learning", "test", "confusion", "confidence", "mistakes", "network"]
SECTIONS += ["again", "words"]


def write(run: Path, **options: Any) -> tuple[Page, tuple[str, ...]]:
    report = report_run(run, progress=Silent(), **{"maps": False} | options)
    text = report.path.read_text(encoding="utf-8")
    assert report.size_bytes == len(text.encode())
    page = Page(text)
    # one file: nothing is loaded, and every link leads to a place on the page
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert set(SECTIONS) <= ids
    for tag, attrs in page.tags:
        link, source = attrs.get("href"), attrs.get("src")
        assert link is None or (link.startswith("#") and link[1:] in ids), link
        assert source is None or source.startswith("data:image/"), source
        assert tag not in {"script", "link", "iframe"}
        if tag == "img":
            assert attrs["alt"]
        if attrs.get("role") == "img":
            assert attrs["aria-label"]
    assert "url(" not in text
    return page, tuple(report.missing)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return import_images(tmp_path_factory.mktemp("data") / "dataset")


def test_the_page_shows_every_part_of_a_finished_run(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    add_test(run, dataset)
    page, missing = write(run)
    assert missing == ()
    # every number of the matrix is a link to as many images, or to the first of them
    cells = [a["href"] for a in page.find("a") if (a["href"] or "").startswith("#cell-")]
    assert len(cells) == len(page.find("div", "cell")) == 4
    assert len(page.find("svg", "chart")) == 3 + 2 + 2 * 2
    assert len(page.find("img")) > 40
    assert "45 images" in page.text
    assert "top-1 accuracy" not in page.text  # of two classes it repeats the accuracy
    assert "cnnclf evaluate" in page.text


def test_an_accuracy_that_the_largest_class_alone_gives_is_doubted(
    dataset: Dataset, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", dataset)
    add_test(run, dataset, skill=0.0)
    page, _ = write(run)
    assert "would be right in" in page.text
    shutil.rmtree(run / "evaluation")
    add_test(run, dataset, skill=20.0)
    page, _ = write(run)
    assert "would be right in" not in page.text


def test_the_page_says_that_flips_are_worth_trying(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    record = run / "run.json"
    assert "Learning: try --flip" not in write(run)[0].text
    content = json.loads(record.read_text()) | {"mirrored_val": {"words": "try --flip 0.5"}}
    record.write_text(json.dumps(content))
    assert "Learning: try --flip 0.5" in write(run)[0].text


def test_evidence_maps_are_those_of_the_network(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    add_test(run, dataset, skill=0.5)
    page, missing = write(run, maps=True)
    assert missing == ()
    maps = page.find("img", "small-image")
    assert len(maps) > 12
    assert {attrs["alt"] for attrs in maps} == {
        f"evidence for {label}: red for it, blue against it" for label in "ox"
    }


def test_a_run_without_its_dataset_says_so_and_keeps_the_rest(
    dataset: Dataset, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", dataset=None)
    add_test(run, dataset)
    page, missing = write(run)
    assert len(missing) == 1
    assert missing[0].endswith("does not exist: gone")
    assert missing[0] in page.text
    assert page.find("img") == []
    assert len(page.find("table", "confusion")) == 1
    assert page.find("div", "cell") == []


def test_an_unfinished_run_of_one_epoch(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    record = run / "run.json"
    record.write_text(record.read_text().replace('"finished"', '"failed"'))
    history = (run / "history.csv").read_text().splitlines()
    (run / "history.csv").write_text("\n".join(history[:2]) + "\n")
    page, missing = write(run)
    assert missing[0] == "the run is failed: this is what there is so far"
    record.write_text(record.read_text().replace('"failed"', '"interrupted"'))
    assert write(run)[1][0].endswith(f"so far; continue it: cnnclf train --resume {run}")
    record.write_text(record.read_text().replace('"interrupted"', '"failed"'))
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"why_ended": "loss became NaN"}))
    page, missing = write(run)
    assert missing[0] == "the run is failed: loss became NaN"
    assert "why it endedloss became NaN" in page.text.replace("\n", "")
    assert f"nothing was evaluated; evaluate it: cnnclf evaluate {run}" in missing[1]
    shutil.rmtree(run / "checkpoints")
    assert f"nothing was evaluated; continue it: cnnclf train --resume {run}" in write(run)[1][1]
    assert len(page.find("svg", "chart")) == 3


def test_epochs_that_the_history_lost_are_said(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    assert not any("lacks" in note for note in write(run)[1])
    (run / "history.csv").write_text("".join(lines[:-2]))
    assert write(run)[1][0] == f"{run / 'history.csv'} lacks 2 epochs of the run"
    (run / "history.csv").unlink()
    assert write(run)[1][0].endswith(f"lacks {len(lines) - 1} epochs of the run")
    (run / "history.csv").write_text("".join(lines[:-1]) + lines[-1][:9])
    with pytest.raises(RunError, match=rf"damaged: line {len(lines)} is not a row of it"):
        write(run)


@pytest.mark.parametrize(("device", "who"), [("CPU: one", ""), ("GPU: one", "the GPU ")])
def test_the_time_is_shown_by_what_it_was_spent_on(tmp_path: Path, device: str, who: str) -> None:
    run = make_run(tmp_path / "run")
    record = json.loads((run / "run.json").read_text())
    record |= {"fit_s": 60.0, "start_s": 20.0, "data_wait_share": 0.25, "device": device}
    (run / "run.json").write_text(json.dumps(record))
    page, _ = write(run)
    assert f"25 % starting, 19 % {who}waiting for images, 56 % computing" in page.text


@pytest.mark.parametrize(("chosen", "gray"), [([0, 4000], 127), ([0, 2000], 255), (None, 7)])
def test_images_are_drawn_with_the_values_of_the_run(
    chosen: list[int] | None, gray: int, tmp_path: Path
) -> None:
    for label in "ox":
        (tmp_path / "deep" / label).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((8, 8), 2000 + number, np.uint16)
            Image.fromarray(pixels).save(tmp_path / "deep" / label / f"{number}.png")
    import_source(
        tmp_path / "deep", tmp_path / "dataset", options=ImportConfig(), progress=Silent()
    )
    run = make_run(tmp_path / "run", load_dataset(tmp_path / "dataset"))
    plan = json.loads((run / "plan.json").read_text())
    plan["input_spec"]["value_range"] = chosen
    (run / "plan.json").write_text(json.dumps(plan))
    page, _ = write(run)
    sources = [attrs["src"] or "" for attrs in page.find("img")]
    assert sources
    for source in sources:
        with Image.open(BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert abs(np.asarray(image.convert("L")).mean() - gray) < 2


def test_a_run_that_stopped_before_its_plan(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in ("plan.json", "history.csv"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    page, missing = write(run)
    assert "No epoch is finished yet." in page.text
    assert len(missing) == 4
    assert "lacks 60 epochs" in missing[0], "its record says that it has finished"


def test_hostile_labels_are_text(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset, remarks=[HOSTILE])
    labels = [HOSTILE, "w" * 200, "{{ 7 * 7 }}"]
    add_evaluation(run, labels, [f"{HOSTILE}{i}" for i in range(30)], np.arange(30) % 3)
    page, _ = write(run)
    assert '<script>alert("x")</script>\\u202e' in page.text
    assert "\u202e" not in page.text
    assert "w" * 61 not in page.text
    assert "49" not in re.findall(r"\{\{.*?\}\}|49(?= )", page.text)


def test_many_classes_are_a_sample_and_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    labels = [f"class {i}" for i in range(300)]
    add_evaluation(run, labels, [f"{i}.jpg" for i in range(3000)], np.arange(3000) % 300)
    page, _ = write(run)
    assert len(page.find("th", "")) > MAX_MATRIX
    assert f"{300 - MAX_MATRIX} more are in confusion.csv" in page.text
    assert "and 240 more classes in metrics.json" in page.text
    assert "probabilities of the best labels only" in page.text


def test_frequent_mistakes_get_more_images_and_no_cell_is_without(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.reporting.report_images._CELLS", 14)
    truth = np.array([0] * 30 + [1] * 30 + [2] * 30)
    predicted = np.array([0] * 10 + [1] * 20 + [1] * 25 + [2] * 5 + [2] * 30)
    paths = (dataset.manifest.paths * 2)[:90]
    table = PredictionTable(paths, truth, predicted, np.ones(90), None)
    cells = choose_cells(table, dataset, classes=[0, 1, 2], labels=["a", "b", "c"])
    found = {(cell.true, cell.predicted): (cell.count, len(cell.images)) for cell in cells}
    assert found == {
        (0, 1): (20, 8),
        (1, 2): (5, 3),
        (2, 2): (30, 1),
        (1, 1): (25, 1),
        (0, 0): (10, 1),
    }


def test_what_cannot_be_read_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dataset)
    add_test(run, dataset)
    with pytest.raises(UsageError, match=r"--evaluation val: the run .* has no such evaluation"):
        write(run, evaluation="val")
    (run / "evaluation/test/predictions.csv").write_text("path,label\n")
    _, missing = write(run)
    assert len(missing) == 1
    assert "predictions.csv is damaged" in missing[0]
    with pytest.raises(RunError, match="there is no run directory"):
        write(tmp_path / "none")
