import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf.data.description import DATASET_NAME, MANIFEST_NAME
from cnnclf.data.manifest import is_dataset, load_dataset, save_dataset
from cnnclf.data.manifest_rows import Row, read_rows, write_rows
from cnnclf.errors import DataError, UsageError
from cnnclf.files import read_json, write_json_atomic

LABELS = ("cat", "dog")

# Names as a file system may give them: line ends, quotes and bytes that are no UTF-8.
NAMES = st.one_of(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20
    ),
    st.binary(min_size=1, max_size=20)
    .filter(lambda name: b"\0" not in name and b"/" not in name)
    .map(lambda name: name.decode("utf-8", "surrogateescape")),
)


def make_row(path: str, label: str = "cat", split: str = "train", note: str = "") -> Row:
    return Row(path, label, split, 3, 2, "RGB", f"{hash(path) % 2**64:064x}", "", note)


def save(directory: Path, rows: list[Row]) -> None:
    directory.mkdir(exist_ok=True)
    save_dataset(directory, rows, labels=LABELS, root=str(directory), source={"format": "test"})


ROWS = [
    make_row("cat/1.png"),
    make_row("dog/1.png", "dog", "test"),
    make_row("dog/2.png", "dog", "train"),
    make_row("dog/3.png", "dog", ""),
]


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, max_size=5), groups=st.lists(NAMES, min_size=5, max_size=5))
def test_any_name_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], groups: list[str]
) -> None:
    path = tmp_path_factory.mktemp("rows") / MANIFEST_NAME
    rows = [
        make_row(name, label=group, note=name)._replace(group=group)
        for name, group in zip(names, groups, strict=False)
    ]
    write_rows(path, rows)
    assert list(read_rows(path)) == rows


def test_dataset_comes_back_as_columns(tmp_path: Path) -> None:
    save(tmp_path / "data", ROWS)
    dataset = load_dataset(tmp_path / "data")
    assert len(dataset) == len(dataset.manifest) == 4
    assert dataset.labels == LABELS
    assert dataset.manifest.class_indices.tolist() == [0, 1, 1, 1]
    assert dataset.manifest.splits.tolist() == [0, 2, 0, -1]
    assert dataset.manifest.splits.dtype == np.int8
    assert dataset.manifest.class_indices.dtype == np.int32
    assert dataset.manifest.widths.tolist() == [3] * 4
    assert dataset.manifest.heights.tolist() == [2] * 4
    assert dataset.manifest.select("train").tolist() == [0, 2]
    assert dataset.manifest.select("all").tolist() == [0, 1, 2, 3]
    assert dataset.file(1) == tmp_path / "data" / "dog/1.png"
    assert dataset.source == {"format": "test"}


def test_counts_on_disk_and_in_memory_agree(tmp_path: Path) -> None:
    save(tmp_path / "data", ROWS)
    expected = {
        "train": {"cat": 1, "dog": 1},
        "val": {"cat": 0, "dog": 0},
        "test": {"cat": 0, "dog": 1},
    }
    assert load_dataset(tmp_path / "data").counts() == expected
    assert json.loads((tmp_path / "data" / DATASET_NAME).read_text())["counts"] == expected


def test_relative_root_lets_the_dataset_move(tmp_path: Path) -> None:
    first = tmp_path / "first"
    (first / "images").mkdir(parents=True)
    save_dataset(first, ROWS, labels=LABELS, root="images", source={})
    second = first.rename(tmp_path / "second")
    assert load_dataset(second).file(0) == second / "images" / "cat/1.png"


def test_editing_a_row_changes_the_fingerprint(tmp_path: Path) -> None:
    save(tmp_path, ROWS)
    before = load_dataset(tmp_path).fingerprint
    assert before == json.loads((tmp_path / DATASET_NAME).read_text())["fingerprint"]
    path = tmp_path / MANIFEST_NAME
    path.write_text(path.read_text().replace("cat/1.png,cat", "cat/1.png,dog"))
    assert load_dataset(tmp_path).fingerprint != before


def test_manifest_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    save(tmp_path, ROWS)
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(read_rows(path)) == ROWS


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("cat/1.png,cat,train", "cat/1.png,cow,train", "'cow'"),
        ("cat/1.png,cat,train", "cat/1.png,cat,dev", "'dev'"),
        ("train,3,2", "train,wide,2", "line 2"),
        ("dog/1.png,dog,test,3,2,RGB", "dog/1.png,dog", "line 3"),
        ("sha256,", "checksum,", "missing in .*: sha256"),
    ],
)
def test_faults_in_the_manifest_are_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    save(tmp_path, ROWS)
    path = tmp_path / MANIFEST_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=told) as caught:
        load_dataset(tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot read"),
        ("[]", "not written by cnnclf"),
        ('{"format": "cnnclf-dataset", "version": 99}', "received 99"),
        ('{"format": "cnnclf-dataset", "version": 1}', "labels"),
    ],
)
def test_faults_in_the_description_are_named(tmp_path: Path, text: str, told: str) -> None:
    save(tmp_path, ROWS)
    (tmp_path / DATASET_NAME).write_text(text)
    with pytest.raises(DataError, match=told):
        load_dataset(tmp_path)


def test_vanished_images_are_reported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    save_dataset(tmp_path / "data", ROWS, labels=LABELS, root=tmp_path / "gone", source={})
    with pytest.raises(DataError, match="gone"):
        load_dataset(tmp_path / "data")


def test_only_our_directories_are_datasets(tmp_path: Path) -> None:
    assert not is_dataset(tmp_path)
    (tmp_path / DATASET_NAME).write_text('{"name": "a set of somebody else"}')
    assert not is_dataset(tmp_path)
    with pytest.raises(DataError):
        load_dataset(tmp_path)
    save(tmp_path, ROWS)
    assert is_dataset(tmp_path)


def test_missing_directory_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the dataset .*nowhere does not exist$"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is not a dataset directory"):
        load_dataset(tmp_path)


def test_a_folder_name_that_is_too_long_is_a_data_error(tmp_path: Path) -> None:
    save(tmp_path, ROWS)
    described = read_json(tmp_path / DATASET_NAME) | {"root": "9" * 5000}
    write_json_atomic(tmp_path / DATASET_NAME, described)
    with pytest.raises(DataError, match="cannot find the folder with the images"):
        load_dataset(tmp_path)


def test_empty_split_names_the_filled_ones(tmp_path: Path) -> None:
    save(tmp_path, ROWS)
    dataset = load_dataset(tmp_path)
    assert dataset.select_split("test").tolist() == [1]
    with pytest.raises(DataError, match="splits with images: train and test"):
        dataset.select_split("val")
    with pytest.raises(UsageError, match="'dev'"):
        dataset.select_split("dev")


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield ROWS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_dataset(tmp_path, rows(), labels=LABELS, root="images", source={})
    assert list(tmp_path.iterdir()) == []
