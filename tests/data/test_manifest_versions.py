"""Each change is a new file beside the old ones, which stay byte for byte; an undo goes back."""

import json
from pathlib import Path

import pytest

from cnnclf.data.description import DATASET_NAME
from cnnclf.data.manifest import load_dataset, save_dataset
from cnnclf.data.manifest_rows import Row
from cnnclf.data.manifest_versions import RowChange, read_known_files, undo_version, write_version
from cnnclf.errors import DataError

PATHS = ("a.png", "b.png", "c.png")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [
        Row(path, "cat", split, 3, 2, "RGB", path[0] * 64, "", "")
        for path, split in zip(PATHS, ("train", "test", ""), strict=True)
    ]
    save_dataset(tmp_path, rows, labels=("cat", "dog"), root=str(tmp_path), source={"path": "x"})
    return tmp_path


def test_versions_are_numbered_and_undone_one_by_one(dataset: Path) -> None:
    original = (dataset / "manifest.csv").read_bytes()
    first = load_dataset(dataset).fingerprint
    changes = [
        RowChange("a.png", "remove", "", "dark"),
        RowChange("b.png", "relabel", "dog", "label-suspects"),
        RowChange("b.png", "move", "train", "copies"),
        RowChange("none.png", "remove", "", "dark"),
    ]
    version = write_version(dataset, changes, why="--drop dark")
    assert version is not None
    assert version.manifest == dataset / "manifest-2.csv"
    assert version.counts == {
        "remove": {"dark": 1},
        "relabel": {"label-suspects": 1},
        "move": {"copies": 1},
    }
    assert (dataset / "changes-2.csv").read_text().splitlines() == [
        "path,action,value,reason",
        "a.png,remove,,dark",
        "b.png,relabel,dog,label-suspects",
        "b.png,move,train,copies",
    ]
    assert (dataset / "manifest.csv").read_bytes() == original
    second = load_dataset(dataset)
    assert second.manifest.paths == ["b.png", "c.png"]
    assert second.manifest.class_indices.tolist() == [1, 0]
    assert second.manifest.splits.tolist() == [0, -1]
    description = json.loads((dataset / DATASET_NAME).read_text())
    assert description["fingerprint"] == second.fingerprint != first
    assert description["counts"]["train"] == {"cat": 0, "dog": 1}
    assert (description["version"], description["why"]) == (2, "--drop dark")

    assert write_version(dataset, changes, why="again") is None
    third = write_version(dataset, [RowChange("c.png", "remove", "", "tiny")], why="")
    assert third is not None
    assert third.manifest.name == "manifest-3.csv"
    assert undo_version(dataset).manifest.name == "manifest-2.csv"
    assert load_dataset(dataset).fingerprint == second.fingerprint
    # the number of a version that was undone is not used again
    again = write_version(dataset, [RowChange("c.png", "relabel", "dog", "")], why="")
    assert again is not None
    assert again.manifest.name == "manifest-4.csv"
    assert undo_version(dataset).kept.name == "manifest-4.csv"
    assert undo_version(dataset).manifest.name == "manifest.csv"
    assert load_dataset(dataset).fingerprint == first
    assert json.loads((dataset / DATASET_NAME).read_text())["version"] == 1
    with pytest.raises(DataError, match="nothing to undo"):
        undo_version(dataset)


def test_a_label_that_is_misspelled_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    labels = tuple(f"bird {number:03}" for number in range(1000))
    row = Row("a.png", labels[0], "train", 3, 2, "RGB", 64 * "a", "", "")
    save_dataset(tmp_path, [row], labels=labels, root=str(tmp_path), source={"path": "x"})
    with pytest.raises(DataError, match="and 980 more") as error:
        write_version(tmp_path, [RowChange("a.png", "relabel", "Bird 321", "")], why="")
    assert error.value.hint == "did you mean bird 321?"


def test_what_cannot_be_done_leaves_everything_as_it_is(dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in dataset.iterdir()}
    with pytest.raises(DataError, match=r"relabel a\.png to 'cow': expected one of cat, dog"):
        write_version(dataset, [RowChange("a.png", "relabel", "cow", "")], why="")
    with pytest.raises(DataError, match=r"no image of .* would be left"):
        write_version(dataset, [RowChange(path, "remove", "", "") for path in PATHS], why="")
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == before


def test_removed_images_stay_known(dataset: Path) -> None:
    write_version(dataset, [RowChange("a.png", "remove", "", "")], why="")
    assert read_known_files(dataset) == {path: {path[0] * 64} for path in PATHS}


@pytest.mark.parametrize("name", ["../manifest.csv", "/etc/passwd", "manifest-2.csv.gz", 7])
def test_a_description_names_only_manifests_beside_it(dataset: Path, name: object) -> None:
    description = json.loads((dataset / DATASET_NAME).read_text())
    for damage in ({"manifest": name}, {"versions": [{"manifest": name}]}):
        (dataset / DATASET_NAME).write_text(json.dumps(description | damage))
        with pytest.raises(DataError, match="'manifest' or 'versions'"):
            load_dataset(dataset)


def test_an_undo_needs_the_file_of_the_version_before(dataset: Path) -> None:
    write_version(dataset, [RowChange("a.png", "remove", "", "")], why="")
    (dataset / "manifest.csv").unlink()
    with pytest.raises(DataError, match="cannot undo"):
        undo_version(dataset)
    assert load_dataset(dataset).manifest.paths == ["b.png", "c.png"]
