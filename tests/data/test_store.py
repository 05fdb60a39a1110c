"""The store of decoded pixels: the decoder's pixels, whatever happens to files and disks."""

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnclf.data import decoding, pixel_file, store
from cnnclf.data.manifest import Dataset, Manifest
from cnnclf.data.store import open_pixels
from cnnclf.errors import DataError, DeviceError, ImageError, UsageError
from cnnclf.hardware import Memory
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec
from cnnclf.progress import Silent

SPEC = InputSpec(8, 10, 3)
CACHES = ["disk", "ram", "none"]


def make_dataset(directory: Path, count: int = 7) -> Dataset:
    photos = directory / "photos"
    photos.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for index in range(count):
        size = (12 + index, 15, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(photos / f"{index}.png")
        paths.append(f"{index}.png")
    home = directory / "dataset"
    home.mkdir()
    return as_dataset(home, photos, paths)


def as_dataset(directory: Path, root: Path, paths: list[str]) -> Dataset:
    count = len(paths)
    manifest = Manifest(
        paths=paths,
        class_indices=np.arange(count, dtype=np.int32) % 2,
        splits=np.zeros(count, np.int8),
        widths=np.full(count, 15, np.int32),
        heights=np.full(count, 12, np.int32),
        modes=["RGB"] * count,
        sha256=[hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths],
        groups=[""] * count,
        notes=[""] * count,
    )
    return Dataset(directory, root, ("a", "b"), manifest, {}, "fingerprint")


def files_of(dataset: Dataset) -> list[str]:
    return sorted(path.name for path in (dataset.directory / "cache").iterdir())


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(tmp_path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count what is decoded."""
    calls: list[int] = []
    real = decode_image

    def count(*arguments: Any) -> Any:
        calls.append(1)
        return real(*arguments)

    monkeypatch.setattr(decoding, "decode_image", count)
    return calls


@pytest.mark.parametrize("cache", CACHES)
def test_pixels_are_those_of_the_decoder(dataset: Dataset, cache: str) -> None:
    pixels = open_pixels(dataset, SPEC, cache=cache, progress=Silent())
    rows = np.array([3, 0, 6, 3])
    gathered = pixels.gather(rows)
    expected = np.stack([decode_image(dataset.file(int(row)), SPEC) for row in rows])
    assert (gathered == expected).all()
    assert (gathered.dtype.name, gathered.flags.writeable) == ("uint8", True)
    assert pixels.shape == (8, 10, 3)
    assert pixels.nbytes == (0 if cache == "none" else 7 * 8 * 10 * 3)
    assert not pixels.failed


@pytest.mark.parametrize("cache", CACHES)
def test_some_rows_only(dataset: Dataset, cache: str, decoded: list[int]) -> None:
    pixels = open_pixels(dataset, SPEC, cache=cache, progress=Silent(), rows=np.array([5, 2]))
    assert (pixels.gather(np.array([2]))[0] == decode_image(dataset.file(2), SPEC)).all()
    assert len(decoded) == (1 if cache == "none" else 2)
    for row in (3, -1, 7):
        with pytest.raises(DataError, match=f"row {row} is not among"):
            pixels.gather(np.array([2, row]))


def test_a_store_is_made_once_and_found_wherever_the_dataset_lies(
    dataset: Dataset, tmp_path: Path, decoded: list[int]
) -> None:
    progress = Silent()
    open_pixels(dataset, SPEC, progress=progress)
    assert len(decoded) == 7
    assert "7 color images at 8x10, 1.7 kB" in progress.notes[0]
    dataset.directory.rename(tmp_path / "moved")
    dataset.root.rename(tmp_path / "other")
    moved = as_dataset(tmp_path / "moved", tmp_path / "other", dataset.manifest.paths)
    again = Silent()
    pixels = open_pixels(moved, SPEC, progress=again)
    assert len(decoded) == 7
    assert again.notes == []
    assert (pixels.gather(np.arange(7))[6] == decode_image(moved.file(6), SPEC)).all()
    open_pixels(moved, SPEC, progress=again, rows=np.array([1, 2]))
    assert len(decoded) == 7, "the store of all images has these too"


def test_another_spec_or_order_or_content_is_another_store(dataset: Dataset) -> None:
    def key(spec: InputSpec, rows: list[int], data: Dataset = dataset) -> str:
        return pixel_file.pixel_key(decoding.DecodingJob(data, spec, np.array(rows), 1, Silent()))

    base = key(SPEC, [0, 1, 2])
    assert base == key(SPEC, [0, 1, 2])
    assert base != key(SPEC, [0, 2, 1])
    assert base != key(SPEC, [0, 1])
    assert base != key(InputSpec(8, 10, 1), [0, 1, 2])
    assert base != key(InputSpec(8, 10, 3, fit="pad"), [0, 1, 2])
    dataset.manifest.sha256[1] = "0" * 64
    assert base != key(SPEC, [0, 1, 2])
    dataset.manifest.sha256[1] = ""
    without_hash = key(SPEC, [0, 1, 2])
    dataset.file(1).write_bytes(b"another content")
    assert without_hash != key(SPEC, [0, 1, 2])


@pytest.mark.parametrize("cache", CACHES)
def test_a_bad_image_is_named_and_never_given(dataset: Dataset, cache: str) -> None:
    dataset.file(2).write_bytes(b"no image")
    dataset.manifest.sha256[2] = hashlib.sha256(b"no image").hexdigest()
    progress = Silent()
    pixels = open_pixels(dataset, SPEC, cache=cache, progress=progress)
    with pytest.raises(ImageError):
        pixels.gather(np.array([1, 2]))
    assert list(pixels.failed) == [2]
    assert pixels.failed[2]
    assert len(pixels.gather(np.array([0, 1, 3]))) == 3
    if cache == "none":
        assert "2.png is skipped" in progress.warnings[0]


@pytest.mark.parametrize("cache", CACHES)
def test_a_changed_or_missing_file_is_not_taken_for_the_imported_one(
    dataset: Dataset, cache: str
) -> None:
    Image.new("RGB", (20, 20)).save(dataset.file(0))
    dataset.file(1).unlink()
    pixels = open_pixels(dataset, SPEC, cache=cache, progress=Silent())
    with pytest.raises(ImageError):
        pixels.gather(np.array([0, 1]))
    assert "changed since the import" in pixels.failed[0]
    assert "cannot be read" in pixels.failed[1]


def test_a_image_that_comes_back_is_added_to_the_store(
    dataset: Dataset, decoded: list[int]
) -> None:
    content = dataset.file(4).read_bytes()
    dataset.file(4).unlink()
    dataset.file(5).write_bytes(b"never an image")
    dataset.manifest.sha256[5] = hashlib.sha256(b"never an image").hexdigest()
    assert set(open_pixels(dataset, SPEC, progress=Silent()).failed) == {4, 5}
    assert set(open_pixels(dataset, SPEC, progress=Silent()).failed) == {4, 5}
    dataset.file(4).write_bytes(content)
    decoded.clear()
    pixels = open_pixels(dataset, SPEC, progress=Silent())
    assert set(pixels.failed) == {5}
    assert len(decoded) == 1, "what cannot be decoded for good is not tried again"
    assert (pixels.gather(np.array([4]))[0] == decode_image(content, SPEC)).all()
    decoded.clear()
    progress = Silent()
    again = open_pixels(dataset, SPEC, progress=progress)
    assert (again.gather(np.array([4]))[0] == decode_image(content, SPEC)).all()
    assert (len(decoded), progress.warnings) == (0, [])


def damage_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_content(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{", encoding="utf-8")


def damage_description(path: Path) -> None:
    path.with_suffix(".json").write_text("[]", encoding="utf-8")


def damage_failures(path: Path) -> None:
    description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    path.with_suffix(".json").write_text(json.dumps({**description, "failed": {"0": 1}}))


@pytest.mark.parametrize(
    "damage", [damage_size, damage_content, damage_json, damage_description, damage_failures]
)
def test_a_damaged_store_is_said_and_made_again(dataset: Dataset, damage: Any) -> None:
    open_pixels(dataset, SPEC, progress=Silent())
    path = next((dataset.directory / "cache").glob("*.u8"))
    damage(path)
    progress = Silent()
    pixels = open_pixels(dataset, SPEC, progress=progress)
    assert "decoding again" in progress.warnings[0]
    assert (pixels.gather(np.array([1]))[0] == decode_image(dataset.file(1), SPEC)).all()
    quiet = Silent()
    open_pixels(dataset, SPEC, progress=quiet)
    assert quiet.warnings == []


def test_pixels_without_description_are_not_there(dataset: Dataset, decoded: list[int]) -> None:
    open_pixels(dataset, SPEC, progress=Silent())
    next((dataset.directory / "cache").glob("*.json")).unlink()
    progress = Silent()
    open_pixels(dataset, SPEC, progress=progress)
    assert (len(decoded), progress.warnings) == (14, [])


def test_an_interrupted_build_leaves_nothing(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_pixels(dataset, SPEC, progress=Silent())
    assert files_of(dataset) == []
    open_pixels(dataset, SPEC, progress=Silent())
    assert len(files_of(dataset)) == 2


def test_what_a_killed_build_left_is_removed_after_a_while(dataset: Dataset) -> None:
    open_pixels(dataset, SPEC, progress=Silent())
    path = next((dataset.directory / "cache").glob("*.u8"))
    old, new = (path.with_name(f".{path.stem}.{name}.u8") for name in ("dead", "alive"))
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 10_000,) * 2)
    path.unlink()
    path.with_suffix(".json").unlink()
    open_pixels(dataset, SPEC, progress=Silent())
    assert (old.exists(), new.exists()) == (False, True)


def test_a_dataset_that_cannot_be_written_is_stored_with_the_user(
    dataset: Dataset, own_cache: Path, decoded: list[int]
) -> None:
    (dataset.directory / "cache").write_text("a file is in the way", encoding="utf-8")
    for _ in range(2):
        pixels = open_pixels(dataset, SPEC, progress=Silent())
    assert len(decoded) == 7
    assert len(list((own_cache / "stores").glob("*.u8"))) == 1
    assert (pixels.gather(np.array([5]))[0] == decode_image(dataset.file(5), SPEC)).all()


def test_too_little_disk_is_said_before_anything_is_decoded(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    class Usage:
        free = 5_000_000

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DeviceError, match=r"67\.1 MB needed, 5\.0 MB free") as raised:
        open_pixels(dataset, SPEC, progress=Silent())
    assert "--cache none" in raised.value.hint
    assert decoded == []


def test_memory_is_checked_before_it_is_filled(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "read_memory", lambda: Memory(1000, 500))
    with pytest.raises(DeviceError, match=r"1\.7 kB needed.* 1\.0 kB") as raised:
        open_pixels(dataset, SPEC, cache="ram", progress=Silent())
    assert "--cache disk" in raised.value.hint
    monkeypatch.setattr(store, "read_memory", lambda: Memory(10_000, 500))
    progress = Silent()
    open_pixels(dataset, SPEC, cache="ram", progress=progress)
    assert "500 bytes is free" in progress.warnings[0]


def test_unknown_caches_and_empty_datasets_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="disk, ram or none"):
        open_pixels(dataset, SPEC, cache="tape", progress=Silent())
    empty = as_dataset(tmp_path, tmp_path, [])
    with pytest.raises(DataError, match="has no images"):
        open_pixels(empty, SPEC, progress=Silent())


def _open(directory: Path, root: Path, paths: list[str]) -> int:
    pixels = open_pixels(as_dataset(directory, root, paths), SPEC, progress=Silent(), threads=2)
    return int(pixels.gather(np.arange(len(paths))).astype(np.int64).sum())


def test_processes_that_build_the_same_store_agree(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, count=60)
    task = (dataset.directory, dataset.root, dataset.manifest.paths)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.starmap(_open, [task] * 6)
    expected = sum(
        int(decode_image(dataset.file(row), SPEC).astype(np.int64).sum()) for row in range(60)
    )
    assert set(sums) == {expected}
    assert len(files_of(dataset)) == 2


@pytest.mark.parametrize("threads", [1, 5])
def test_chunks_come_in_order_with_any_number_of_threads(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_CHUNK_IMAGES", 3)
    dataset = make_dataset(tmp_path, count=25)
    dataset.file(10).unlink()
    pixels = open_pixels(dataset, SPEC, progress=Silent(), threads=threads)
    assert list(pixels.failed) == [10]
    for row in set(range(25)) - {10}:
        assert (pixels.gather(np.array([row]))[0] == decode_image(dataset.file(row), SPEC)).all()


def test_processes_decode_what_threads_decode(
    tmp_path: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_CHUNK_IMAGES", 3)
    dataset = make_dataset(tmp_path, count=14)
    dataset.file(10).unlink()
    job = decoding.DecodingJob(dataset, SPEC, np.arange(1, 14), 2, Silent())
    expected = list(decoding.decode_chunks(job))
    here = len(decoded)
    monkeypatch.setattr(decoding, "_FIRST_IMAGES", 6)
    found = list(decoding.decode_chunks(job))
    assert len(decoded) == here + 6  # the others were decoded elsewhere
    assert [failures for _, failures in found] == [failures for _, failures in expected]
    assert [list(failures) for _, failures in found] == [[], [], [], [9], []]
    for (images, _), (others, _) in zip(found, expected, strict=True):
        assert (images == others).all()
