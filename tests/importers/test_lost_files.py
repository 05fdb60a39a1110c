"""Files and rows that are lost in an import are counted, and the exit code is 7."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnclf.errors import ExitCode
from tests.conftest import Cli

SAMPLES = Path(__file__).parents[2] / "sample_data" / "x_or_o"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for label in ("o", "x"):
        (folder / label).mkdir(parents=True)
        for image in sorted((SAMPLES / label).iterdir())[:3]:
            shutil.copy(image, folder / label)
    return folder


def make_table(photos: Path) -> Path:
    """Make a table that names a file that does not exist, and a row without label."""
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.glob("*/*"))]
    rows = [f"{name},{name[0]}" for name in names] + ["x/gone.jpg,x", f"{names[0]},"]
    table = photos / "labels.csv"
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    return table


def make_arrays(photos: Path) -> Path:
    """Make class folders of arrays; one is truncated, one is text."""
    folder = photos.parent / "arrays"
    for label in ("o", "x"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            rng = np.random.default_rng([number, ord(label)])
            np.save(folder / label / f"{number}.npy", rng.integers(0, 256, (8, 8), np.uint8))
    damaged = folder / "x" / "damaged.npy"
    damaged.write_bytes((folder / "x" / "0.npy").read_bytes()[:-9])
    np.save(folder / "x" / "text.npy", np.array([["a", "b"], ["c", "d"]]))
    return folder


def make_archive(photos: Path) -> Path:
    """Make a zip archive with two members of one name, and one with a file for a folder."""
    archive = photos.parent / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(photos.glob("*/*")):
            file.write(path, path.relative_to(photos))
        first = next(photos.glob("x/*"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.write(first, first.relative_to(photos))
        file.writestr(f"x/{first.name}/other.jpg", first.read_bytes())
    return archive


def make_links(photos: Path) -> Path:
    """Make class folders with links that lead nowhere."""
    for name in ("gone.jpg", "lost.jpg"):
        (photos / "x" / name).symlink_to(photos / "nowhere")
    return photos


@pytest.mark.parametrize("make", [make_table, make_arrays, make_archive, make_links])
def test_lost_files_end_in_exit_code_7(
    cli: Cli, photos: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    result = cli("import", make(photos), "--out", tmp_path / "ds", "--json")
    report = json.loads(result.stdout)
    assert (report["images"], report["skipped"], report["failed"]) == (6, 2, 2)
    assert result.code == ExitCode.SOME_FAILED
    assert "2 files skipped" in result.stderr
    assert json.loads((tmp_path / "ds/dataset.json").read_text())["source"]["unread"] == 2


def test_files_outside_of_class_folders_are_no_loss(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (photos / "README.txt").write_text("about the photos")
    (photos / "x" / "all").symlink_to(photos)
    result = cli("import", photos, "--out", tmp_path / "ds", "--json")
    report = json.loads(result.stdout)
    assert (result.code, report["skipped"], report["failed"]) == (ExitCode.OK, 2, 0)
