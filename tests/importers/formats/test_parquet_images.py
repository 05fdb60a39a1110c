"""Parquet files with images in them."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
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


def test_a_file_without_the_columns_of_the_others_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a.parquet", rows())
    write(tmp_path / "set" / "b.parquet", [{"image": png(), "id": 1}], names=None)
    report = read(tmp_path / "set", tmp_path)
    assert (report.images, report.failed) == (6, 1)
    assert 'b.parquet,"has no column label,' in (tmp_path / "data" / "skipped.csv").read_text()


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
