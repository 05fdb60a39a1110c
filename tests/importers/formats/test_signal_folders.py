"""Class folders of arrays and sounds: what is recognized, what is lost, and how groups are kept."""

import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnclf.config import ImportConfig
from cnnclf.data.manifest import load_dataset
from cnnclf.errors import DataError
from cnnclf.importers import import_source
from cnnclf.importers.formats.signal_folders import SIGNAL_IMPORTERS
from cnnclf.importers.importer import Importer
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

ARRAYS, SOUNDS = SIGNAL_IMPORTERS


def put_array(path: Path, array: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(array), allow_pickle=True)


def put_sound(path: Path, hz: float = 400.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 100 * np.sin(2 * np.pi * hz * np.arange(1600) / 8000) + 128
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, 8000, 0, "NONE", ""))
        file.writeframes(samples.astype(np.uint8).tobytes())


def put_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def skipped(dataset: Path) -> dict[str, str]:
    lines = (dataset / "skipped.csv").read_text().splitlines()[1:]
    return {path: reason for path, _, reason in (line.partition(",") for line in lines)}


def test_files_of_another_kind_are_lost_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for label in "ab":
        for number in range(4):
            put_array(source / label / f"{number}.npy", [[number, ord(label)]])
    put_array(source / "a" / "flat.npy", [1, 2, 3])
    put_image(source / "a" / "photo.png")
    put_sound(source / "b" / "voice.wav")
    report = import_source(source, tmp_path / "data", progress=Silent())
    assert (report.format, report.images, report.failed) == ("npy-folders", 8, 3)
    reasons = skipped(tmp_path / "data")
    assert "height x width" in reasons["a/flat.npy"]
    assert "expected a NumPy array" in reasons["a/photo.png"]
    assert "received a sound" in reasons["b/voice.wav"]


def test_a_few_arrays_among_images_are_lost(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for label in "ab":
        for number in range(4):
            put_image(source / label / f"{number}.png")
    put_array(source / "a" / "features.npy", np.zeros((4, 100)))
    assert ARRAYS.recognize(Source.of(source)) is None
    report = import_source(source, tmp_path / "data", progress=Silent())
    assert (report.images, report.failed) == (8, 1)
    assert "a NumPy array" in skipped(tmp_path / "data")["a/features.npy"]


def test_split_folders_of_sounds(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for index, folder in enumerate(("train/a", "train/b", "valid/a", "valid/b")):
        put_sound(source / folder / "1.wav", 300.0 + index)
    import_source(source, tmp_path / "data", progress=Silent())
    dataset = load_dataset(tmp_path / "data")
    assert dataset.kind == "sound"
    assert sorted(dataset.manifest.splits.tolist()) == [0, 0, 1, 1]
    assert dataset.manifest.widths.tolist() == [21] * 4
    assert dataset.file(0).suffix == ".wav"


@pytest.mark.parametrize("importer", SIGNAL_IMPORTERS, ids=lambda row: row.name)
def test_other_sources_are_left_to_others(tmp_path: Path, importer: Importer) -> None:
    put_image(tmp_path / "set" / "a" / "1.png")
    assert importer.recognize(Source.of(tmp_path / "set")) is None
    assert importer.recognize(Source.of(tmp_path / "set" / "a" / "1.png")) is None
    assert importer.recognize(Source.of(tmp_path / "missing")) is None


def test_arrays_without_class_folders_are_explained_by_the_source(tmp_path: Path) -> None:
    put_array(tmp_path / "set" / "1.npy", np.eye(2))
    with pytest.raises(DataError) as caught:
        import_source(tmp_path / "set", tmp_path / "data", progress=Silent())
    assert str(tmp_path / "set") in caught.value.message


def test_groups_by_a_regular_expression_stay_in_one_split(tmp_path: Path) -> None:
    source = tmp_path / "set"
    for index, speaker in enumerate(("ann", "bob", "cleo", "dan", "eve")):
        for label in "ab":
            for take in range(3):
                hz = 200.0 + 10 * (3 * index + take) + 5 * (label == "b")
                put_sound(source / label / f"{speaker}_{take}.wav", hz)
    put_sound(source / "a" / "noname.wav", 555.0)
    report = import_source(
        source,
        tmp_path / "data",
        options=ImportConfig(group_regex="^([a-z]+)_"),
        progress=Silent(),
    )
    manifest = load_dataset(tmp_path / "data").manifest
    splits: dict[str, set[int]] = {}
    for group, split in zip(manifest.groups, manifest.splits.tolist(), strict=True):
        splits.setdefault(group, set()).add(split)
    assert {group for group in splits if group} == {"ann", "bob", "cleo", "dan", "eve"}
    assert all(len(found) == 1 for group, found in splits.items() if group)
    assert any("5 groups by --group-regex" in note for note in report.notes)
    assert any("finds nothing in the paths of 1 file" in text for text in report.warnings)


def test_a_zip_of_sounds(tmp_path: Path) -> None:
    for index, label in enumerate("aabb"):
        put_sound(tmp_path / "set" / label / f"{index}.wav", 300.0 + index)
    archive = shutil.make_archive(str(tmp_path / "sounds"), "zip", tmp_path / "set")
    report = import_source(Path(archive), tmp_path / "data", progress=Silent())
    assert (report.format, report.images) == ("zip", 4)
    assert load_dataset(tmp_path / "data").kind == "sound"
