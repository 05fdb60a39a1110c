"""Each check finds its planted fault, and nothing in a clean set; no file is changed."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cnnclf.config import CheckConfig
from cnnclf.data.manifest import Dataset
from cnnclf.progress import Silent
from cnnclf.quality import file_checks
from cnnclf.quality.check_evidence import NO_NETWORKS, Networks
from cnnclf.quality.check_table import CHECKS
from cnnclf.quality.checking import QualityReport, check_dataset
from cnnclf.quality.finding import Severity
from cnnclf.quality.network_features import NetworkFeatures
from cnnclf.quality.shortcut_checks import cross_validate
from tests.quality.drawn import (
    FIRST,
    LATER_PLANTS,
    NETWORK_PLANTS,
    PLANTS,
    SIDE,
    DrawnSet,
    embed_drawn,
)


def check(
    dataset: Dataset, *, networks: Networks = NO_NETWORKS, **settings: object
) -> QualityReport:
    config = CheckConfig(**settings)
    return check_dataset(dataset, config=config, networks=networks, progress=Silent())[0]


def hash_files(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_check_has_a_planted_fault() -> None:
    assert {*PLANTS, *LATER_PLANTS, *NETWORK_PLANTS} == {check.name for check in CHECKS}


def test_names_are_unique_and_every_check_says_what_to_do() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    order = [list(Severity).index(check.severity) for check in CHECKS]
    assert order == sorted(order)
    assert all(check.title and check.effect and check.action for check in CHECKS)


def test_a_clean_set_has_no_findings_and_stays_as_it_is(tmp_path: Path) -> None:
    dataset = DrawnSet(tmp_path / "drawn").import_into(tmp_path / "dataset")
    before = hash_files(tmp_path)
    report = check(dataset, mirrored=True)
    assert report.findings == ()
    assert set(report.not_run) == {"torn-groups", *NETWORK_PLANTS}
    assert report.failed == 0
    assert hash_files(tmp_path) == before


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name: str, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    PLANTS[name](drawn)
    dataset = drawn.import_into(tmp_path / "dataset")
    before = hash_files(tmp_path)
    found = [finding for finding in check(dataset).findings if finding.check == name]
    assert found
    planted = [row.path for row in drawn.rows if row.path.startswith("planted")]
    if planted:
        named = {path for finding in found for path in (finding.path, finding.other_path) if path}
        assert set(planted) <= named <= {*planted, "ball/000.png"}
    assert hash_files(tmp_path) == before


def test_gray_images_have_one_brightness_and_no_means_of_colors(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    for row in drawn.rows:
        gray = drawn.open(row.path).convert("L")
        light = 150 if row.label == "box" else 0
        gray.point(lambda value, light=light: light + value // 3).save(drawn.root / row.path)
    findings = check(drawn.import_into(tmp_path / "dataset")).findings
    (found,) = [each for each in findings if each.check == "shortcuts"]
    assert "the mean brightness alone gives the label of" in found.message


def test_a_signal_of_whole_groups_is_no_witness_for_each_of_their_images(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    films = [f"{row.label} {int(row.path[-7:-4]) % 3}" for row in drawn.rows]
    drawn.rows = [
        replace(row, group=film, split="train") for row, film in zip(drawn.rows, films, strict=True)
    ]
    names = sorted(set(films), key=lambda film: film[::-1])
    for row in drawn.rows:  # each film has a size of its own, whatever it shows
        size = (SIDE, SIDE + names.index(row.group))
        drawn.open(row.path).resize(size).save(drawn.root / row.path)
    assert not [
        found
        for found in check(drawn.import_into(tmp_path / "dataset")).findings
        if found.check == "shortcuts"
    ]
    films_of_frames = np.repeat(np.arange(40), 10)
    labels = films_of_frames % 2
    assert cross_validate(films_of_frames, labels, units=np.arange(400)) == 1
    assert cross_validate(films_of_frames, labels, units=films_of_frames) < 0.7


@pytest.mark.parametrize("name", LATER_PLANTS)
def test_a_fault_after_the_import_is_found(name: str, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    dataset = drawn.import_into(tmp_path / "dataset")
    LATER_PLANTS[name](drawn)
    report = check(dataset)
    assert [(finding.check, finding.path) for finding in report.findings] == [
        (name, "ball/000.png")
    ]
    assert report.failed == (name == "missing")


def test_a_set_whose_files_are_all_gone_is_reported_not_embedded(tmp_path: Path) -> None:
    def embed(dataset: Dataset, rows: npt.NDArray[np.intp]) -> NetworkFeatures:
        raise AssertionError("no image is left to decode")

    drawn = DrawnSet(tmp_path / "drawn")
    dataset = drawn.import_into(tmp_path / "dataset")
    for row in drawn.rows:
        (drawn.root / row.path).unlink()
    findings = check(dataset, networks=Networks(embed), embeddings=True).findings
    assert [each.check for each in findings] == ["missing"] * len(drawn.rows)


@pytest.mark.parametrize("name", [None, *NETWORK_PLANTS])
def test_what_features_reveal_is_found(name: str | None, tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    if name is not None:
        NETWORK_PLANTS[name](drawn)
    dataset = drawn.import_into(tmp_path / "dataset")
    found = check(dataset, networks=Networks(embed_drawn)).findings
    expected = {None: [], "label-suspects": [FIRST], "outliers": ["planted.png"]}[name]
    assert [each.path for each in found] == expected
    assert all(each.check == name for each in found)
    if name == "label-suspects":
        assert found[0].suggested == "ball"
        assert "'ball'" in found[0].message
        # a run as the second witness, and alone
        flat = np.full((len(dataset), 2), (0.9, 0.1), np.float32)
        both = check(dataset, networks=Networks(embed_drawn, lambda *_: flat)).findings
        assert both[0].message.endswith("; the run agrees")
        for low, words in ((FIRST, "agrees"), ("ball/001.png", "does not agree")):
            margins = dict.fromkeys(dataset.manifest.paths, 2.0) | {low: -1.0}
            three = check(dataset, networks=Networks(embed_drawn, lambda *_: flat, margins))
            assert three.findings[0].message.endswith(
                f"; the run agrees; its margin in training {words}"
            )
        alone = check(dataset, networks=Networks(judge=lambda *_: flat)).findings
        assert {each.check for each in alone} == {"label-suspects"}


def test_a_wrong_label_on_both_copies_is_suspected_as_copies_share_a_fold(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    NETWORK_PLANTS["label-suspects"](drawn)
    drawn.add("ball/copy.png", drawn.open(FIRST), "box")
    dataset = drawn.import_into(tmp_path / "dataset")
    found = check(dataset, networks=Networks(embed_drawn)).findings
    suspects = {each.path for each in found if each.check == "label-suspects"}
    assert suspects == {FIRST, "ball/copy.png"}


def test_crops_are_found_by_their_features(tmp_path: Path) -> None:
    drawn = DrawnSet(tmp_path / "drawn")
    drawn.add("planted.png", drawn.open(FIRST).crop((8, 8, 88, 88)), "ball", split="test")
    dataset = drawn.import_into(tmp_path / "dataset")

    def embed(data: Dataset, rows: npt.NDArray[np.intp]) -> NetworkFeatures:
        features = np.zeros((len(data), 64), np.float16)
        features[rows, rows % 64] = 1  # all others are far from each other, or equal by accident
        features[0] = np.arange(64)
        features[-1] = features[0] * 1.1  # the crop is the last row
        return NetworkFeatures(features, features[:, :0])

    assert "near-duplicates-across-splits" not in {each.check for each in check(dataset).findings}
    found = check(dataset, networks=Networks(embed), embeddings=True).findings
    leaks = [
        each
        for each in found
        if each.check == "near-duplicates-across-splits" and each.path == "planted.png"
    ]
    assert [(each.path, each.other_path) for each in leaks] == [("planted.png", FIRST)]
    assert leaks[0].message.startswith("features of a network agree by 1.000")
    by_features = [each.path for each in found if each.message.startswith("features of")]
    assert by_features == ["planted.png"]  # equal features by accident, and no crop


@pytest.mark.parametrize(
    ("name", "reason", "kind"),
    [
        ("masks/1.png", "masks or annotations of the images beside them", ""),
        ("extra/1.png", "not a folder of a split", ""),
        ("1.png", "not in a class folder", ""),
        ("meta/notes.txt", "no images", ""),
        ("a.parquet:7", "no image", "row"),
        ("1.png", "not in labels.csv", ""),
        ("test/1.png", "images without a label", ""),
        ("test/1.png", "an image without a label", ""),
        ("a/a/1.png", "a/a holds the folders of a again, with the same file names", ""),
        ("1.png", "line 7: the split 'b' is not in --splits", ""),
        ("1.png", "line 7: the split 'b' is not train, val or test", "row"),
        ("0.tar/key", "the sample has no label (cls, json or txt)", "row"),
        ("closed", "the folder cannot be read: Permission denied", "file"),
        ("a.parquet", "damaged after 7 rows: x", "file"),
        ("1.png", "--label-from ^([a-z]+) finds no label", "row"),
        ("1.png", "line 7: no such file", "missing"),
        ("1.png", "not a supported image: text", "file"),
        ("notes.txt", "not a supported image: text", ""),
    ],
)
def test_what_the_import_skipped_without_a_loss_is_no_error(
    name: str, reason: str, kind: str
) -> None:
    assert file_checks._sort_reason(name, reason) == kind
