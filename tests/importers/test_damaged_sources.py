"""Whatever the bytes of a source are, reading it ends in images or in one `DataError`."""

import bz2
import gzip
import io
import lzma
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers import IMPORTERS
from cnnclf.importers.formats.cifar import CIFAR
from cnnclf.importers.formats.idx import IDX
from cnnclf.importers.formats.npz import NPZ
from cnnclf.importers.importer import Importer, ImportJob
from cnnclf.importers.source import Source
from cnnclf.progress import Silent

ZIP, TAR = (importer for importer in IMPORTERS if importer.name in {"zip", "tar"})

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 3), np.uint8)
LABELS = np.array([0, 1, 1, 0])


def zipped(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name in ("cat/1.png", "dog/ü.png"):
            archive.writestr(name, IMAGES.tobytes())
    return buffer.getvalue()


def tarred(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in ("cat/1.png", f"dog/{'x' * 120}/ü.png"):
            info = tarfile.TarInfo(name)
            info.size = IMAGES.size
            archive.addfile(info, io.BytesIO(IMAGES.tobytes()))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=IMAGES / 3, y=LABELS, class_names=np.array(["cat", "dog"]))
    return buffer.getvalue()


IMAGES_IDX = struct.pack(">BBBB3I", 0, 0, 8, 3, 4, 3, 3) + IMAGES.tobytes()
LABELS_IDX = struct.pack(">BBBBI", 0, 0, 8, 1, 4) + LABELS.astype(np.uint8).tobytes()
CIFAR_RECORDS = (b"\1" + bytes(range(256)) * 12) * 2

# What is damaged, as which file of a folder, what lies beside it, and who reads the file or folder.
SOURCES: dict[str, tuple[bytes, str, dict[str, bytes], Importer, bool]] = {
    "zip": (zipped(zipfile.ZIP_DEFLATED), "a.zip", {}, ZIP, True),
    "zip, stored": (zipped(zipfile.ZIP_STORED), "a.zip", {}, ZIP, True),
    "zip, bzip2": (zipped(zipfile.ZIP_BZIP2), "a.zip", {}, ZIP, True),
    "zip, lzma": (zipped(zipfile.ZIP_LZMA), "a.zip", {}, ZIP, True),
    "tar, pax": (tarred(tarfile.PAX_FORMAT), "a.tar", {}, TAR, True),
    "tar, gnu": (tarred(tarfile.GNU_FORMAT), "a.tar", {}, TAR, True),
    "tar.gz": (gzip.compress(tarred(tarfile.PAX_FORMAT)), "a.tar.gz", {}, TAR, True),
    "tar.bz2": (bz2.compress(tarred(tarfile.PAX_FORMAT)), "a.tar.bz2", {}, TAR, True),
    "tar.xz": (lzma.compress(tarred(tarfile.PAX_FORMAT)), "a.tar.xz", {}, TAR, True),
    "idx": (IMAGES_IDX, "images", {"labels": LABELS_IDX}, IDX, True),
    "idx, packed": (gzip.compress(IMAGES_IDX), "images.gz", {"labels": LABELS_IDX}, IDX, False),
    "idx labels": (LABELS_IDX, "labels", {"images": IMAGES_IDX}, IDX, False),
    "cifar": (CIFAR_RECORDS, "data_batch_1.bin", {}, CIFAR, False),
    "cifar names": (b"a\nb\n", "batches.meta.txt", {"test_batch.bin": CIFAR_RECORDS}, CIFAR, False),
    "npz": (npz(), "a.npz", {}, NPZ, True),
}


def overwrite(at: float, patch: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        start = int(at * len(data))
        return data[:start] + patch + data[start + len(patch) :]

    return change


def cut(at: float, rest: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(at * len(data))] + rest


SHARES = st.floats(0, 1, exclude_max=True)
DAMAGES = st.one_of(
    st.builds(overwrite, SHARES, st.binary(min_size=1, max_size=4)),
    # Fields at the start of a file are its header.
    st.builds(overwrite, st.floats(0, 0.1), st.sampled_from([b"\0", b"\x7f", b"\xff" * 4])),
    st.builds(cut, SHARES, st.binary(max_size=20)),
    st.builds(lambda data: lambda _: data, st.binary(max_size=300)),
)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(damages=st.lists(DAMAGES, min_size=1, max_size=3))
def test_damage_ends_in_images_or_in_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    damages: list[Callable[[bytes], bytes]],
) -> None:
    data, file, beside, importer, by_file = SOURCES[name]
    for damage in damages:
        data = damage(data)
    folder = tmp_path_factory.getbasetemp() / "damaged_sources"
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in {**beside, file: data}.items():
        (folder / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / path).write_bytes(content)
    source = folder / "in" / file if by_file else folder / "in"
    importer.recognize(Source.of(source))
    listing = None
    try:
        job = ImportJob(folder / "out", ImportConfig(threads=1), Silent())
        listing = importer.read(Source.of(source), job)
        records = list(listing.records)
    except DataError as error:
        assert str(folder / "in") in error.message  # noqa: PT017
        assert listing is not None or not (folder / "out").exists()
        return
    assert all((listing.root / record.path).is_file() for record in records)
    assert all(folder / "out" in (listing.root / record.path).parents for record in records)


@pytest.mark.parametrize("name", SOURCES)
def test_sound_sources_are_read(tmp_path: Path, name: str) -> None:
    data, file, beside, importer, by_file = SOURCES[name]
    for path, content in {**beside, file: data}.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(content)
    source = tmp_path / "in" / file if by_file else tmp_path / "in"
    assert importer.recognize(Source.of(source))
    job = ImportJob(tmp_path / "out", ImportConfig(), Silent())
    listing = importer.read(Source.of(source), job)
    assert len(list(listing.records)) in (2, 4)
