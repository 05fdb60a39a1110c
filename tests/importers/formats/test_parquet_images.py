"""Parquet files with images in them."""

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnnclf.bounded import read_bytes
from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError, MissingPackageError
from cnnclf.importers import import_source, open_dataset
from cnnclf.importers.pipeline import ImportReport
from cnnclf.progress import Silent

RNG = np.random.default_rng(12)
NAMES = {"info": {"features": {"label": {"names": ["fox", "owl", "elk"], "_type": "ClassLabel"}}}}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int = 6) -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": png(), "path": f"{index}.png"}, "label": index % 2}
        for index in range(count)
    ]


def write(path: Path, content: list[dict[str, Any]], *, names: Any = NAMES) -> Path:
    table = pa.Table.from_pylist(content)
    if names is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def read(source: Path, tmp_path: Path, **options: Any) -> ImportReport:
    config = ImportConfig(**options)
    return import_source(source, tmp_path / "data", options=config, progress=Silent())


def test_class_names_come_from_the_schema(tmp_path: Path) -> None:
    report = read(write(tmp_path / "x.parquet", rows()), tmp_path)
    assert (report.format, report.labels, report.images) == ("parquet", ("fox", "owl"), 6)


def test_a_folder_as_on_the_hub(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("validation", 4), ("test", 4)):
        write(tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet", rows(count))
    (tmp_path / "set" / "README.md").write_text("---")
    report = read(tmp_path / "set", tmp_path)
    counts = [sum(report.counts[split].values()) for split in ("train", "val", "test")]
    assert counts == [8, 4, 4]


def split_rows() -> list[dict[str, Any]]:
    names = ("train", "train", "dev", "dev", "test", "test")
    return [
        row | {"split": name, "patient": f"p{n // 2}", "size": 1.5}
        for n, (row, name) in enumerate(zip(rows(), names, strict=True))
    ]


def test_columns_of_splits_and_groups_are_read(tmp_path: Path) -> None:
    report = read(write(tmp_path / "x.parquet", split_rows()), tmp_path)
    assert [sum(report.counts[each].values()) for each in ("train", "val", "test")] == [2, 2, 2]
    assert load_dataset(tmp_path / "data").manifest.groups == ["p0", "p0", "p1", "p1", "p2", "p2"]


def test_names_of_files_come_before_a_column_of_splits(tmp_path: Path) -> None:
    write(tmp_path / "set" / "train.parquet", split_rows())
    write(tmp_path / "set" / "test.parquet", rows())
    report = read(tmp_path / "set", tmp_path)
    assert sum(report.counts["test"].values()) == 6
    report = import_source(
        tmp_path / "set",
        tmp_path / "again",
        options=ImportConfig(split_column="split", splits="train=train,val=dev"),
        progress=Silent(),
    )
    assert sum(report.counts["val"].values()) == 2
    assert any(
        "2 rows of splits that --splits does not name skipped: test" in each
        for each in report.warnings
    )


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--group-column patient: .* has no such column") as caught:
        read(write(tmp_path / "x.parquet", rows()), tmp_path, group_column="patient")
    assert caught.value.hint == "it has image, label"


def test_text_labels_and_bare_bytes(tmp_path: Path) -> None:
    content = [{"photo": png(), "species": "ab"[n % 2], "score": 0.5} for n in range(6)]
    report = read(write(tmp_path / "x.parquet", content, names=None), tmp_path)
    assert (report.labels, report.images) == (("a", "b"), 6)


def test_rows_without_image_or_label_are_lost(tmp_path: Path) -> None:
    content = [
        *rows(),
        {"image": None, "label": 0},
        {"image": {"bytes": None, "path": "there.png"}, "label": 0},
        {"image": {"bytes": b"text", "path": "there.png"}, "label": 0},
        {"image": {"bytes": png(), "path": None}, "label": None},
        {"image": {"bytes": png(), "path": None}, "label": 3},
    ]
    report = read(write(tmp_path / "x.parquet", content), tmp_path)
    assert (report.images, report.failed) == (6, 5)
    assert "3 of 3 class names" in (tmp_path / "data" / "skipped.csv").read_text()


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ([{"label": 1, "text": "x"}], {}, "no column of images"),
        ([{"image": None, "label": 1}], {}, r"only image \(null\), label \(int64\)"),
        ([{"image": b"x", "words": "x"}], {}, "no column of labels"),
        ([{"image": b"x", "label": 1}], {"label_column": "kind"}, "no column of labels 'kind'"),
    ],
)
def test_missing_columns_are_named(
    tmp_path: Path, content: list[dict[str, Any]], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(write(tmp_path / "x.parquet", content, names=None), tmp_path, **options)
    assert "--path-column" in caught.value.hint


def paths(folder: Path, label: Any) -> list[dict[str, Any]]:
    """Write six images and return their rows."""
    content = []
    for number, name in enumerate(["a/1.png", "a/2.png", "b/1.png", "b/2.png", "c.png", "d.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())
        content.append({"file_name": name, "label": label(number % 2)})
    return content


def test_a_table_of_paths(tmp_path: Path) -> None:
    images = tmp_path / "images"
    content = [*paths(images, lambda n: "xy"[n]), {"file_name": "gone.png", "label": "x"}]
    source = write(tmp_path / "x.parquet", content, names=None)
    report = read(source, tmp_path, root=images)
    assert (report.labels, report.images, report.failed) == (("x", "y"), 6, 1)
    assert load_dataset(tmp_path / "data").root == images
    assert report.notes[0] == "x.parquet: read the columns 'file_name' as path, 'label' as label"
    assert not (tmp_path / "data" / "images").exists()


def test_a_table_of_paths_has_class_names_in_its_schema(tmp_path: Path) -> None:
    report = read(write(tmp_path / "x.parquet", paths(tmp_path, int)), tmp_path)
    assert report.counts["train"].keys() == {"fox", "owl", "elk"}


def test_several_tables_of_paths_are_refused(tmp_path: Path) -> None:
    content = paths(tmp_path / "images", str)
    for name in "ab":
        write(tmp_path / "set" / f"{name}.parquet", content, names=None)
    with pytest.raises(DataError, match="2 Parquet tables of paths") as caught:
        read(tmp_path / "set", tmp_path)
    assert "--root" in caught.value.hint


def test_a_file_without_the_columns_of_the_others_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.parquet", rows())
    write(tmp_path / "set" / "b.parquet", [{"image": png(), "id": 1}], names=None)
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.failed) == (6, 1)
    skipped = (tmp_path / "data" / "skipped.csv").read_text()
    assert 'b.parquet,"has no column label, as others have, only image, id"' in skipped


def test_the_first_file_does_not_choose_the_columns_alone(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.parquet", [{"image": png(), "id": 1}], names=None)
    write(tmp_path / "set" / "b.parquet", [{"words": "x"}], names=None)
    write(tmp_path / "set" / "c.parquet", rows())
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.labels, report.failed) == (6, ("fox", "owl"), 2)


def test_class_names_of_the_schema_come_before_those_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "set" / "a.parquet", rows())
    (tmp_path / "set" / "labels.txt").write_text("one\ntwo\nthree\n")
    report = read(path, tmp_path)
    assert report.labels == ("fox", "owl")
    assert "the class names beside a.parquet differ from those in it" in report.warnings[0]


def test_files_with_other_class_names_keep_their_own(tmp_path: Path) -> None:
    names = {"info": {"features": {"label": {"names": ["owl", "fox"]}}}}
    write(tmp_path / "set" / "a.parquet", rows(4))
    write(tmp_path / "set" / "b.parquet", rows(4), names=names)
    report = read(tmp_path / "set", tmp_path)
    assert report.labels == ("fox", "owl")
    assert "different class names" in report.warnings[0]
    dataset = load_dataset(tmp_path / "data")
    assert np.bincount(dataset.manifest.class_indices).tolist() == [4, 4]


def test_images_become_one_file(tmp_path: Path) -> None:
    read(write(tmp_path / "x.parquet", rows()), tmp_path)
    folder = tmp_path / "data" / "images"
    assert [path.name for path in folder.iterdir()] == ["samples.tar"]
    with tarfile.open(folder / "samples.tar") as archive:
        members = archive.getmembers()
    assert [member.name for member in members[:2]] == ["fox/0000000-0.png", "owl/0000001-1.png"]
    dataset = load_dataset(tmp_path / "data")
    assert dataset.manifest.paths[0] == f"samples.tar/512+{members[0].size}/fox/0000000-0.png"
    contents = [hashlib.sha256(read_bytes(dataset.file(row))).hexdigest() for row in range(6)]
    assert contents == dataset.manifest.sha256


def test_a_file_is_imported_again_when_the_class_names_beside_it_change(tmp_path: Path) -> None:
    place = write(tmp_path / "set" / "a.parquet", rows(), names=None)
    for names in ("fox\nwolf", "elk\nsloth"):
        (tmp_path / "set" / "classes.txt").write_text(names)
        assert open_dataset(place, progress=Silent()).labels == tuple(names.split())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", rows())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="is damaged"):
        read(path, tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", rows())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackageError, match="needs pyarrow"):
        read(path, tmp_path)
