"""Each check finds its planted fault, and nothing in a clean set; no file is changed."""

import hashlib
from pathlib import Path

import pytest

from cnnclf.config import CheckConfig
from cnnclf.data.manifest import Dataset
from cnnclf.progress import Silent
from cnnclf.quality.check_table import CHECKS
from cnnclf.quality.checking import QualityReport, check_dataset
from cnnclf.quality.finding import Severity
from tests.quality.drawn import LATER_PLANTS, PLANTS, DrawnSet


def check(dataset: Dataset, **settings: object) -> QualityReport:
    return check_dataset(dataset, config=CheckConfig(**settings), progress=Silent())[0]


def hash_files(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_check_has_a_planted_fault() -> None:
    assert {*PLANTS, *LATER_PLANTS} == {check.name for check in CHECKS}


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
    assert report.not_run == {"torn-groups": "groups"}
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
