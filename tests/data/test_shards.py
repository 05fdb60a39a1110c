"""Writing a dataset as tar shards, and reading them back."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import Dataset
from cnnclf.data.shards import write_shards
from cnnclf.errors import ExitCode, UsageError
from cnnclf.importers import import_source, open_dataset
from cnnclf.progress import Silent
from tests.conftest import Cli

RNG = np.random.default_rng(21)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for label in ("owl", "fox & elk"):
            for number in range(count):
                path = tmp_path / "source" / split / label / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(RNG.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return open_dataset(tmp_path / "source", progress=Silent())


def test_shards_hold_the_groups(tmp_path: Path, dataset: Dataset) -> None:
    options = ImportConfig(group_regex=r"(\d)\.png", split=(0.5, 0.25, 0.25))
    import_source(dataset.root, tmp_path / "grouped", options=options, progress=Silent())
    grouped = open_dataset(tmp_path / "grouped", progress=Silent())
    write_shards(grouped, tmp_path / "shards", progress=Silent())
    import_source(tmp_path / "shards", tmp_path / "again", progress=Silent())
    again = open_dataset(tmp_path / "again", progress=Silent())
    found = [dict(zip(d.manifest.sha256, d.manifest.groups, strict=True)) for d in (grouped, again)]
    assert found[0] == found[1]
    assert set(found[0].values()) == set("012345")


def test_shards_hold_the_same_images_labels_and_splits(tmp_path: Path, dataset: Dataset) -> None:
    done = write_shards(dataset, tmp_path / "shards", max_bytes=2000, progress=Silent())
    assert done.images == len(dataset)
    assert len(done.shards) > 3
    import_source(tmp_path / "shards", tmp_path / "again", progress=Silent())
    again = open_dataset(tmp_path / "again", progress=Silent())
    assert again.labels == dataset.labels

    def facts(data: Dataset) -> set[tuple[str, int, int]]:
        rows = data.manifest
        columns = (rows.sha256, rows.class_indices.tolist(), rows.splits.tolist())
        return set(zip(*columns, strict=True))

    assert facts(again) == facts(dataset)


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path, dataset: Dataset) -> None:
    for name in "ab":
        write_shards(dataset, tmp_path / name, progress=Silent())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_labels_that_are_not_utf8_are_escaped(tmp_path: Path, dataset: Dataset) -> None:
    labels = (os.fsdecode(b"caf\xe9"), "owl")
    write_shards(replace(dataset, labels=labels), tmp_path / "shards", progress=Silent())
    names = (tmp_path / "shards" / "classnames.txt").read_text("utf-8")
    assert names.splitlines() == [r"caf\udce9", "owl"]


def test_files_that_went_away_are_named(tmp_path: Path, dataset: Dataset) -> None:
    dataset.file(0).unlink()
    done = write_shards(dataset, tmp_path / "shards", progress=Silent())
    assert (done.images, len(done.lost)) == (len(dataset) - 1, 1)
    assert dataset.manifest.paths[0] in done.lost[0]


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="already exists"):
            write_shards(dataset, tmp_path / "mine", overwrite=overwrite, progress=Silent())
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    for _ in range(2):
        write_shards(dataset, tmp_path / "shards", overwrite=True, progress=Silent())


def test_the_command(tmp_path: Path, cli: Cli, dataset: Dataset) -> None:
    shards = tmp_path / "shards"
    done = cli("import", dataset.directory, "--out", shards, "--to", "webdataset")
    assert (done.code, (shards / "classnames.txt").read_text()) == (ExitCode.OK, "fox & elk\nowl\n")
    dataset.file(0).unlink()
    done = cli("import", dataset.directory, "--out", tmp_path / "b", "--to", "webdataset")
    assert done.code == ExitCode.SOME_FAILED
    assert cli("import", dataset.directory, "--to", "webdataset").code == ExitCode.USAGE
    for ignored in (["--drop", "dark"], ["--undo"], ["--split", "1,0,0"]):
        more = ["--out", tmp_path / "c", "--to", "webdataset"]
        refused = cli("import", dataset.directory, *more, *ignored)
        assert (refused.code, ignored[0] in refused.stderr) == (ExitCode.USAGE, True)
        assert not (tmp_path / "c").exists()
    refused = cli("import", tmp_path, *more, "--keep-splits", dataset.directory)
    assert (refused.code, "--keep-splits" in refused.stderr) == (ExitCode.USAGE, True)
