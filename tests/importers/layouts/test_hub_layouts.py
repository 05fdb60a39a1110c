"""Folders as hubs and labeling tools write them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.importers.pipeline import ImportReport
from cnnclf.progress import Silent

RNG = np.random.default_rng(13)


def put_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def read(source: Path, tmp_path: Path) -> ImportReport:
    return import_source(source, tmp_path / "dataset", progress=Silent())


def test_metadata_beside_the_images(tmp_path: Path) -> None:
    put_images(tmp_path / "set", 6)
    lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(6)]
    (tmp_path / "set" / "metadata.csv").write_text("file_name,label\n" + "\n".join(lines))
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images) == (("a", "b"), 6)


def test_metadata_in_each_split(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("validation", 4)):
        put_images(tmp_path / "set" / split / "images", count)
        rows = [
            {"file_name": f"images/{number}.png", "label": "ab"[number % 2], "note": f"no {number}"}
            for number in range(count)
        ]
        lines = "\n".join(map(json.dumps, rows))
        (tmp_path / "set" / split / "metadata.jsonl").write_text(lines)
    report = read(tmp_path / "set", tmp_path)
    assert report.counts["train"] == {"a": 4, "b": 4}
    assert report.counts["val"] == {"a": 2, "b": 2}


@pytest.mark.parametrize("classes", [["cat", "dog"], None])
def test_a_classification_dataset_of_fiftyone(tmp_path: Path, classes: list[str] | None) -> None:
    put_images(tmp_path / "set" / "data", 6)
    labels = {
        str(number): number % 2 if classes else ("cat", "dog")[number % 2] for number in range(6)
    }
    document = {"classes": classes, "labels": labels | {"9": None}}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(document))
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images) == (("cat", "dog"), 6)


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    put_images(tmp_path / "set" / "data", 2)
    document = {"classes": ["cat", "dog"], "labels": {"0": 0, "1": 2}}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="one of 2 classes, for 1 in"):
        read(tmp_path / "set", tmp_path)


def test_the_layout_of_ultralytics_and_its_cache(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for label in "ab":
            put_images(tmp_path / "set" / split / label, 2)
    (tmp_path / "set" / "train.cache").write_bytes(b"\x93NUMPY")
    report = read(tmp_path / "set", tmp_path)
    assert (report.labels, report.images, report.failed) == (("a", "b"), 12, 0)
