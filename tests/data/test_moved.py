"""Images, datasets and runs that were moved together still find each other."""

import shutil
from pathlib import Path

import pytest

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.data.moved import find_dataset, find_moved
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.inference.origins import Origin
from cnnclf.progress import Silent
from cnnclf.runs.run_directory import RunDirectory
from tests.importers.drawing import draw


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with raw/photos and the dataset data/pets of them."""
    project = tmp_path / "project"
    draw(project / "raw" / "photos", {f"{'ab'[n % 2]}/{n}.png": "image" for n in range(6)})
    import_source(
        project / "raw" / "photos",
        project / "data" / "pets",
        options=ImportConfig(),
        progress=Silent(),
    )
    return project


def test_images_are_found_where_they_were_moved_with_the_dataset(project: Path) -> None:
    before = load_dataset(project / "data" / "pets")
    moved = project.rename(project.with_name("other name"))
    after = load_dataset(moved / "data" / "pets")
    assert after.root == moved / "raw" / "photos"
    assert after.fingerprint == before.fingerprint
    assert all(after.file(row).is_file() for row in range(len(after)))


def test_other_images_of_the_same_names_are_not_taken(project: Path) -> None:
    moved = project.rename(project.with_name("other"))
    first = load_dataset(moved / "data" / "pets").file(0)
    first.write_bytes(first.read_bytes() + b"changed")
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(moved / "data" / "pets")


def test_a_dataset_is_found_from_its_run(project: Path, tmp_path: Path) -> None:
    path, run = project / "data" / "pets", project / "runs" / "first"
    run.mkdir(parents=True)
    fingerprint = load_dataset(path).fingerprint
    assert find_dataset(path, fingerprint, beside=run) == path
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    assert find_dataset(path, fingerprint, beside=copy / "runs" / "first") == path, "it is there"
    shutil.rmtree(project)
    there = copy / "runs" / "first"
    assert find_dataset(path, fingerprint, beside=there) == copy / "data" / "pets"
    assert find_dataset(path, "0" * 64, beside=there) == path, "another one"

    known = {"name": "pets", "path": str(path), "fingerprint": fingerprint}
    origin = Origin(there, there, RunDirectory(there), known)
    data = origin.find_training_data()
    assert data is not None
    assert data.directory == copy / "data" / "pets"
    assert origin.open_data(None, Silent(), command="evaluate").fingerprint == fingerprint


def test_a_path_without_a_counterpart_is_not_found(tmp_path: Path) -> None:
    looked: list[Path] = []

    def note(path: Path) -> bool:
        looked.append(path)
        return False

    assert find_moved(Path("/a/b"), beside=tmp_path / "x" / "y", is_it=note) is None
    assert tmp_path / "x" / "b" in looked
    assert tmp_path / "a" / "b" in looked
    assert Path("/a/b") not in looked
