"""Killed at many points and resumed, a job ends with the rows of one that was never killed."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnnclf.prediction.row_file import FILE_FORMATS
from tests.prediction.killed_jobs import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes to kill")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The fake engine reads names only."""
    folder = tmp_path / "work" / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(600):
        (folder / f"{'sub/' * (number % 5 == 0)}{number}.jpg").write_bytes(b"")
    return folder


def kill_often(photos: Path, path: Path) -> int:
    """Run a job until it is finished; give how often it was killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.prediction.killed_jobs", photos, path, "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("suffix", FILE_FORMATS)
def test_the_rows_are_those_of_a_job_that_was_not_killed(
    photos: Path, tmp_path: Path, suffix: str
) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"rows{suffix}"
    run(photos, whole)
    assert kill_often(photos, path) == 24
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(entry.name for entry in tmp_path.glob("*.*")) == [path.name, whole.name]


def test_files_that_come_and_go_meanwhile_are_neither_lost_nor_doubled(
    photos: Path, tmp_path: Path
) -> None:
    (photos.parent / "meddle").write_text("")
    assert kill_often(photos, tmp_path / "rows.csv") == 24
    with (tmp_path / "rows.csv").open(newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert len(paths) == len(set(paths))
    assert {str(path) for path in photos.rglob("*.jpg")} <= set(paths)
    assert len(paths) > 600  # those that are gone have their rows
