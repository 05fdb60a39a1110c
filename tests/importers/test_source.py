"""Sources that are no path: a row of the table is all that a new one needs."""

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf import importers
from cnnclf.cli.main import main
from cnnclf.config import ImportConfig
from cnnclf.data.cache import CACHE_VARIABLE
from cnnclf.errors import DataError
from cnnclf.importers import IMPORTERS, import_source, open_dataset
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

SHARDS = "photos-{000000..000012}.tar"


def recognize(source: Source) -> str | None:
    if source.text.startswith("toy://") or "{" in source.text:
        return f"{source} names a set of toys"
    return None


def read(source: Source, job: ImportJob) -> Listing:
    """Draw what the name says, where a real importer would download it."""
    records = []
    for number in range(12):
        label = "ab"[number % 2]
        path = job.unpack_dir / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4), np.uint8)
        Image.fromarray(pixels).save(path)
        records.append(Record(path.relative_to(job.unpack_dir).as_posix(), label))
    return Listing(root=job.unpack_dir, records=iter(records), unpacked=True)


@pytest.fixture
def revision() -> list[str]:
    """The state of the remote source; a test may change it."""
    return ["1"]


@pytest.fixture(autouse=True)
def toys(revision: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_state(source: Source) -> Iterator[str]:
        return iter(revision)

    row = Importer("toys", "toys", recognize, read, unpacks=True, describe_state=describe_state)
    monkeypatch.setattr(importers, "IMPORTERS", (row, *IMPORTERS))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["toy://user/name", SHARDS, "{" + "photos," * 100 + "}"])
def test_a_text_that_is_no_path_is_imported(text: str, tmp_path: Path) -> None:
    progress = Silent()
    report = import_source(text, tmp_path / "data", progress=progress)
    assert (report.source, report.format, report.images) == (text, "toys", 12)
    assert report.to_dict()["source"] == text
    assert progress.notes[0] == f"{text}: read as toys, because {text} names a set of toys"
    dataset = open_dataset(tmp_path / "data", progress=Silent())
    assert dataset.source["path"] == text
    assert dataset.root == tmp_path / "data" / "images"


def test_it_is_imported_again_when_its_state_changes(revision: list[str]) -> None:
    first = open_dataset("toy://user/name", progress=Silent())
    assert first.directory.name.startswith("name-")
    again = Silent()
    assert open_dataset("toy://user/name", progress=again).directory == first.directory
    assert "unchanged" in again.notes[0]
    assert open_dataset("toy://user/other", progress=Silent()).directory != first.directory
    revision[0] = "2"
    assert open_dataset("toy://user/name", progress=Silent()).directory != first.directory


def test_the_command_line_takes_it_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", "toy://user/name", "--out", "data"]) == 0
    assert "toy://user/name: read as toys" in capsys.readouterr().err


def test_archives_look_up_their_content_in_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_inside(folder: Source, options: ImportConfig) -> Source | None:
        return folder if (folder.require_path() / "toys.txt").is_file() else None

    row = importers.IMPORTERS[0]._replace(find_inside=find_inside)
    monkeypatch.setattr(importers, "IMPORTERS", (*IMPORTERS, row))
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("box/toys.txt", "bear")
    report = import_source("a.zip", tmp_path / "data", progress=Silent())
    assert (report.format, report.images) == ("zip", 12)
    assert "box in the archive was read as toys" in report.notes
    assert not (tmp_path / "data" / "images" / "box").exists()


NAMES = [importer.name for importer in IMPORTERS if importer.name not in {"hf", "webdataset"}]


@pytest.mark.parametrize("name", [None, *NAMES])
def test_what_nobody_recognizes_does_not_exist(name: str | None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gs://user/name does not exist"):
        import_source(
            "gs://user/name",
            tmp_path / "data",
            options=ImportConfig(format=name),
            progress=Silent(),
        )
    assert not (tmp_path / "data").exists()


def test_a_pattern_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\*\.jpg does not exist") as caught:
        import_source("photos/**/*.jpg", tmp_path / "data", progress=Silent())
    assert caught.value.hint == "import takes no patterns: give the folder of the images"


def test_a_source_is_a_path_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / SHARDS).touch()
    assert Source.of(SHARDS) == Source(SHARDS, Path(SHARDS))
    assert Source.of(Path("gone")) == Source("gone", None)
    assert Source.of("a/" * 3000).path is None
    found = Source.of(SHARDS)
    assert Source.of(found) is found
    assert found.absolute() == Source(str(tmp_path / SHARDS), tmp_path / SHARDS)
    assert str(dataclasses.replace(found, within=tmp_path)) == SHARDS
