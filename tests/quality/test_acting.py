"""Changes of a dataset say by what they were judged."""

from pathlib import Path

import pytest

from cnnclf.config import CheckConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError
from cnnclf.quality.acting import ChangeRequest, change_dataset
from cnnclf.quality.check_evidence import Networks
from cnnclf.quality.checking import check_dataset
from tests.importers.drawing import Listener
from tests.quality.drawn import FIRST, NETWORK_PLANTS, DrawnSet, draw_scene, embed_drawn


def test_new_labels_say_how_far_their_judge_can_be_trusted(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    NETWORK_PLANTS["label-suspects"](drawn)
    drawn.import_into(tmp_path / "dataset")
    heard = Listener()
    version = change_dataset(
        tmp_path / "dataset",
        ChangeRequest(relabel=True),
        networks=Networks(embed_drawn),
        progress=heard,
    )
    assert version is not None
    manifest = load_dataset(tmp_path / "dataset").manifest
    assert manifest.class_indices[manifest.paths.index(FIRST)] == 0
    assert any(
        note.startswith("label-suspects: judged by a classifier that agrees with ")
        for note in heard.notes
    )


def test_labels_of_rare_classes_are_left_and_named(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    NETWORK_PLANTS["label-suspects"](drawn)
    for number in range(3):  # stars that look like balls
        drawn.add(f"ball/star{number}.png", draw_scene(500 + number, "ball"), "star")
    heard, networks = Listener(), Networks(embed_drawn)
    dataset = drawn.import_into(tmp_path / "dataset")
    report, _ = check_dataset(dataset, config=CheckConfig(), networks=networks, progress=heard)
    stars = [finding for finding in report.findings if finding.label == "star" and finding.path]
    stars = [finding for finding in stars if finding.check == "label-suspects"]
    assert stars
    assert all(finding.message.endswith("'star' has too few images to judge") for finding in stars)
    assert report.labels_unjudged == ("star",)
    [check] = [check for check, _ in report.by_check() if check.name == "label-suspects"]
    assert check.action.index("--apply decisions.csv") < check.action.index("--relabel")
    change_dataset(
        dataset.directory, ChangeRequest(relabel=True), networks=networks, progress=heard
    )
    assert load_dataset(dataset.directory).counts()["train"]["star"] == 3
    assert any(note.endswith("knows too little to judge: star") for note in heard.notes)


def test_decisions_without_any_change_nothing(tmp_path: Path) -> None:
    DrawnSet(tmp_path / "drawn").import_into(tmp_path / "dataset")
    table = tmp_path / "decisions.csv"
    table.write_text("path,decision,label\n")
    assert change_dataset(tmp_path / "dataset", ChangeRequest(table), progress=Listener()) is None
    table.write_text("")
    with pytest.raises(DataError, match="expected the columns path and decision"):
        change_dataset(tmp_path / "dataset", ChangeRequest(table), progress=Listener())


def test_decisions_that_a_spreadsheet_program_saved_are_read(tmp_path: Path) -> None:
    DrawnSet(tmp_path / "drawn").import_into(tmp_path / "dataset")
    table = tmp_path / "decisions.csv"
    # a checksum that looked like a number, and lines without anything at the end
    table.write_text(
        f"path;decision;label;reason;sha256\r\n{FIRST};remove;;dark;1.23457E+15\r\n;;;;\r\n",
        encoding="utf-8-sig",
        newline="",
    )
    version = change_dataset(tmp_path / "dataset", ChangeRequest(table), progress=Listener())
    assert version is not None
    assert version.counts == {"remove": {"dark": 1}}
    table.write_text(f"path,decision,label,sha256\n{FIRST},remove,,{'0' * 16}\n")
    with pytest.raises(DataError, match="is of another dataset"):
        change_dataset(tmp_path / "dataset", ChangeRequest(table), progress=Listener())


def test_decisions_without_paths_are_refused(tmp_path: Path) -> None:
    DrawnSet(tmp_path / "drawn").import_into(tmp_path / "dataset")
    table = tmp_path / "decisions.csv"
    for text, fault in (
        ("decision,label\nremove,\n", "expected the columns path and decision"),
        ("path,decision,label\n,remove,\n", "line 2 of .* has no path"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=fault):
            change_dataset(tmp_path / "dataset", ChangeRequest(table), progress=Listener())


def test_splits_are_not_emptied_where_all_images_are_alike(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    scene = draw_scene(1, "ball")
    for number, row in enumerate(drawn.rows):
        lighter = scene.point(lambda value, by=number % 20: min(255, value + by))
        lighter.save(drawn.root / row.path)
    dataset = drawn.import_into(tmp_path / "dataset")
    before = dataset.counts()
    with pytest.raises(DataError, match="would leave no images in val and test"):
        change_dataset(dataset.directory, ChangeRequest(fix_splits=True), progress=Listener())
    assert load_dataset(dataset.directory).counts() == before
