"""croissant.json beside a dataset: read back by the reference implementation."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.data.manifest_versions import RowChange, undo_version, write_version
from cnnclf.importers import import_source
from cnnclf.progress import Silent

RNG = np.random.default_rng(31)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for label in ("owl", "fox & elk"):
        for number in range(4):
            path = tmp_path / "source" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    import_source(tmp_path / "source", tmp_path / "birds", progress=Silent())
    return tmp_path / "birds"


def test_the_reference_implementation_reads_the_rows(dataset: Path) -> None:
    croissant = pytest.importorskip("mlcroissant")
    with warnings.catch_warnings():  # of its own dependencies
        warnings.simplefilter("ignore")
        read = croissant.Dataset(jsonld=dataset / "croissant.json")
        assert not read.metadata.ctx.issues.errors
        rows = list(read.records(record_set="samples"))
        labels = list(read.records(record_set="labels"))
    with (dataset / "manifest.csv").open() as file:
        expected = [(row["path"], row["label"], row["split"]) for row in csv.DictReader(file)]
    names = [f"samples/{name}" for name in ("path", "label", "split")]
    assert [tuple(_text(row[name]) for name in names) for row in rows] == expected
    assert [_text(row["labels/name"]) for row in labels] == ["fox & elk", "owl"]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def test_it_describes_the_manifest_in_use(dataset: Path) -> None:
    def used() -> str:
        content = json.loads((dataset / "croissant.json").read_text())
        return str(content["distribution"][0]["contentUrl"])

    assert used() == "manifest.csv"
    assert json.loads((dataset / "croissant.json").read_text())["name"] == "birds"
    with (dataset / "manifest.csv").open() as file:
        path = next(csv.DictReader(file))["path"]
    write_version(dataset, [RowChange(path, "remove", "", "blurred")], why="a test")
    assert used() == "manifest-2.csv"
    undo_version(dataset)
    assert used() == "manifest.csv"
