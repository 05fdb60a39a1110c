import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cnnclf.importers import reading
from cnnclf.importers.importer import Record
from cnnclf.importers.reading import Checked, check_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(100):
        Image.new("L", (number + 1, 2), number).save(tmp_path / f"{number}.png")
    return tmp_path


def records(count: int) -> Iterator[Record]:
    return (Record(f"{number}.png", "a") for number in range(count))


def check(folder: Path, listed: Iterator[Record], threads: int = 2) -> list[Checked]:
    chunks = check_images(folder, listed, threads=threads)
    return [checked for chunk in chunks for checked in chunk]


@pytest.mark.parametrize("threads", [1, 3])
def test_order_is_kept(folder: Path, threads: int) -> None:
    found = check(folder, records(100), threads=threads)
    assert [each.record.path for each in found] == [f"{n}.png" for n in range(100)]
    assert [each.info.width for each in found if each.info] == list(range(1, 101))
    content = (folder / "7.png").read_bytes()
    assert found[7].sha256 == hashlib.sha256(content).digest()


def test_processes_read_what_threads_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "5.png").write_bytes(b"no image")
    (folder / "6.png").unlink()
    expected = check(folder, records(100))
    assert sum(each.info is None for each in expected) == 2
    monkeypatch.setattr(reading, "_FIRST", 0)
    assert check(folder, records(100)) == expected
    copies = folder / "copies"
    list(check_images(folder, records(100), threads=2, copy_to=copies))
    assert len(list(copies.iterdir())) == 98


def test_what_cannot_be_read_has_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    (folder / "big.png").write_bytes(bytes(1000))
    monkeypatch.setattr(reading, "MAX_IMAGE_BYTES", 999)
    names = ["gone.png", "sub", "big.png", "1.png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        names.append("pipe")
    found = {each.record.path: each for each in check(folder, (Record(n, "a") for n in names))}
    assert "No such file" in found["gone.png"].reason
    assert found["sub"].reason == "not a regular file"
    assert "larger than" in found["big.png"].reason
    assert found["1.png"].reason == ""
    assert found["1.png"].info is not None
    if "pipe" in found:
        assert found["pipe"].reason == "not a regular file"


def test_a_file_read_in_pieces_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 7)))
    [found] = check(folder, records(1))
    monkeypatch.undo()
    assert found.sha256 == hashlib.sha256((folder / "0.png").read_bytes()).digest()


def test_listing_is_consumed_only_a_little_ahead(folder: Path) -> None:
    taken = 0

    def listed() -> Iterator[Record]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield Record("1.png", "a")

    chunks = check_images(folder, listed(), threads=2)
    first = next(chunks)
    assert len(first) <= taken <= 200
    chunks.close()  # type: ignore[attr-defined]


def test_no_thread_is_left_behind(folder: Path) -> None:
    before = threading.active_count()
    chunks = check_images(folder, records(100), threads=3)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
