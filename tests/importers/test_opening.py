import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.cache import CACHE_VARIABLE, cache_dir
from cnnclf.errors import DataError, UsageError
from cnnclf.importers import IMPORTERS, import_source, open_dataset
from cnnclf.importers.opening import choose_importer
from cnnclf.importers.pipeline import run_import
from cnnclf.importers.source import Source
from cnnclf.progress import Silent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 256, (4, 4), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def imports(cache: Path) -> int:
    return len(list((cache / "datasets").glob("*/dataset.json")))


def test_a_source_is_imported_once(source: Path, cache: Path) -> None:
    progress = Silent()
    first = open_dataset(source, progress=progress)
    assert first.directory.parent == cache / "datasets"
    assert first.directory.name.startswith("photos-")
    assert sum("imported" in note and str(first.directory) in note for note in progress.notes) == 1
    again = Silent()
    second = open_dataset(source, progress=again)
    assert second.directory == first.directory
    assert second.fingerprint == first.fingerprint
    assert second.place == str(source)  # messages name what the user gave
    [note] = again.notes
    assert "unchanged" in note
    assert imports(cache) == 1


@pytest.mark.parametrize("name", ["labels.csv", "labels.json", "labels.parquet"])
def test_files_that_a_table_names_may_come_later(source: Path, cache: Path, name: str) -> None:
    table = source.parent / name
    pairs = {
        f"photos/{each.parent.name}/{each.name}": each.parent.name for each in source.glob("*/*")
    }
    pairs["photos/late.png"] = "late"
    rows = "path,label\n" + "".join(f"{path},{label}\n" for path, label in pairs.items())
    if name.endswith("parquet"):
        columns = pa.table({"path": [*pairs], "label": [*pairs.values()]})
        pq.write_table(columns, table)
    else:
        table.write_text(json.dumps(pairs) if name.endswith("json") else rows)
    count = len(open_dataset(table, progress=Silent()))
    assert len(open_dataset(table, progress=Silent())) == count
    assert imports(cache) == 1
    (source.parent / "notes.txt").touch()  # not named
    open_dataset(table, progress=Silent())
    assert imports(cache) == 1
    shutil.copy(next(source.glob("*/*")), source / "late.png")
    assert len(open_dataset(table, progress=Silent())) == count + 1


def test_files_below_another_root_may_come_later(source: Path, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    images = [*source.glob("*/*")]
    rows = [f"{each.relative_to(source)},{each.parent.name}\n" for each in images]
    for split in ("train", "test"):
        table = "".join(["path,label\n", *rows, f"{split}.png,a\n"])
        (folder / f"{split}.csv").write_text(table)
    options = ImportConfig(root=source)
    count = len(open_dataset(folder, options=options, progress=Silent()))
    shutil.copy(images[0], source / "train.png")
    assert len(open_dataset(folder, options=options, progress=Silent())) == count + 1
    assert imports(cache) == 2


def test_the_same_source_by_another_path_is_the_same(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_dataset(source, progress=Silent())
    monkeypatch.chdir(source)
    open_dataset(Path(), progress=Silent())
    assert imports(cache) == 1


def test_a_source_outlives_a_link_to_it(source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    by_link = open_dataset(link, progress=Silent())
    link.unlink()
    assert by_link.fingerprint == open_dataset(source, progress=Silent()).fingerprint


@pytest.mark.parametrize("change", ["add", "remove", "touch", "rename", "seed", "split"])
def test_a_change_leads_to_a_new_import(source: Path, cache: Path, change: str) -> None:
    open_dataset(source, progress=Silent())
    options = ImportConfig()
    match change:
        case "add":
            Image.new("L", (3, 3), 7).save(source / "a" / "new.png")
        case "remove":
            (source / "a" / "0.png").unlink()
        case "touch":
            os.utime(source / "a" / "0.png", ns=(0, 0))
        case "rename":
            (source / "a" / "0.png").rename(source / "a" / "9.png")
        case "seed":
            options = ImportConfig(seed=1)
        case _:
            options = ImportConfig(split=(0.5, 0.25, 0.25))
    open_dataset(source, options=options, progress=Silent())
    assert imports(cache) == 2


def test_a_dataset_is_loaded_as_it_is(source: Path, tmp_path: Path, cache: Path) -> None:
    report = import_source(source, tmp_path / "data", progress=Silent())
    dataset = open_dataset(tmp_path / "data", progress=Silent())
    assert dataset.directory == tmp_path / "data"
    assert dataset.place == str(tmp_path / "data")
    assert dataset.fingerprint == report.fingerprint
    assert not cache.exists()


def test_another_process_may_be_faster(
    source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*arguments: object, **options: object) -> object:
        run_import(*arguments, **options)  # type: ignore[arg-type]
        return run_import(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("cnnclf.importers.opening.run_import", lose)
    assert len(open_dataset(source, progress=Silent())) == 10


def test_a_cache_that_cannot_be_written_is_reported(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(DataError, match="cache") as caught:
        open_dataset(source, progress=Silent())
    assert CACHE_VARIABLE in caught.value.hint


def test_the_cache_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "relative")
    assert cache_dir() == Path.cwd() / "relative"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_dir().is_absolute()
    assert "cnnclf" in cache_dir().parts


@pytest.mark.parametrize("name", [importer.name for importer in IMPORTERS])
def test_an_importer_can_be_forced(name: str, source: Path, tmp_path: Path) -> None:
    options = ImportConfig(format=name)
    if name in {"npz", "tar", "zip"}:
        source = tmp_path / "file"
        source.write_text("anything")
    importer, reason = choose_importer(Source.of(source), IMPORTERS, options=options)
    assert importer.name == name
    assert f"--format {name}" in reason


def test_what_is_no_source_is_explained(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        choose_importer(Source.of(tmp_path / "nowhere"), IMPORTERS)
    (tmp_path / "song.mp3").write_bytes(b"ID3\x04" + bytes(2000))
    with pytest.raises(DataError, match="is not recognized") as caught:
        choose_importer(Source.of(tmp_path / "song.mp3"), IMPORTERS)
    assert "class-folders" in caught.value.hint
    (tmp_path / "list.txt").write_text("cat/1.png 0\n")
    with pytest.raises(DataError, match="is not recognized") as caught:
        choose_importer(Source.of(tmp_path / "list.txt"), IMPORTERS)
    assert "--format table --no-header" in caught.value.hint
    with pytest.raises(DataError, match="is a single image") as caught:
        choose_importer(Source.of(next(source.rglob("*.png"))), IMPORTERS)
    assert "cnnclf predict RUN IMAGE" in caught.value.hint
    with pytest.raises(DataError, match="and import downloads no addresses"):
        choose_importer(Source.of("https://example.com/photos.zip"), IMPORTERS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        choose_importer(Source.of(tmp_path / "empty"), IMPORTERS)
    import_source(source, tmp_path / "data", progress=Silent())
    with pytest.raises(DataError, match="a dataset already"):
        choose_importer(Source.of(tmp_path / "data"), IMPORTERS)
    for name in ("manifest.csv", "dataset.json"):
        with pytest.raises(DataError, match=f"{name} is a file of the dataset"):
            choose_importer(Source.of(tmp_path / "data" / name), IMPORTERS)


def test_a_run_is_no_source_of_images(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints" / "best").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(DataError, match="is a run") as caught:
        choose_importer(Source.of(tmp_path / "run"), IMPORTERS)
    assert "cnnclf runs show" in caught.value.hint
    assert f"to continue the run: cnnclf train --resume {tmp_path}" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [("zip", True), ("npz", True), ("class-folders", False), ("split-folders", False)],
)
def test_a_format_of_files_is_not_that_of_a_folder(
    source: Path, tmp_path: Path, name: str, is_folder: bool
) -> None:
    (tmp_path / "list.csv").write_text("path,label\n")
    path = source if is_folder else tmp_path / "list.csv"
    with pytest.raises(DataError, match=f"and --format {name} is for a") as caught:
        choose_importer(Source.of(path), IMPORTERS, options=ImportConfig(format=name))
    assert "omit --format" in caught.value.hint


def test_an_unknown_format_names_the_nearest(source: Path) -> None:
    with pytest.raises(UsageError, match="'class-folder'") as caught:
        choose_importer(Source.of(source), IMPORTERS, options=ImportConfig(format="class-folder"))
    assert "did you mean --format class-folders" in caught.value.hint


def test_names_of_importers_are_words_for_the_command_line() -> None:
    names = [importer.name for importer in IMPORTERS]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and name.replace("-", "").isalnum() for name in names)
    assert all(importer.summary and not importer.summary.endswith(".") for importer in IMPORTERS)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "cannot read the description"), (b"[]", "not written by"), (None, "does not exist")],
)
def test_a_broken_dataset_is_no_source_of_images(
    source: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    directory = tmp_path / "dataset"
    import_source(source, directory, progress=Silent())
    if content is None:
        (directory / "dataset.json").unlink()
    else:
        (directory / "dataset.json").write_bytes(content)
    for use in (
        lambda: open_dataset(directory, progress=Silent()),
        lambda: import_source(directory, tmp_path / "other", progress=Silent()),
    ):
        with pytest.raises(DataError, match=words) as caught:
            use()
        assert str(directory / "dataset.json") in caught.value.message
        assert "these are options" not in caught.value.hint
        assert "import the source again" in caught.value.hint
