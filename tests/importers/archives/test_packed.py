import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnclf.errors import DataError
from cnnclf.importers.archives import packed
from cnnclf.importers.archives.packed import PackedReader, packing_of, read_start, zip_faults

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=5000),
    packing=st.sampled_from(sorted(PACKERS)),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=8),
)
def test_reading_and_going_forward_is_as_in_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    packing: str,
    steps: list[tuple[bool, int]],
) -> None:
    content = b"start" + content
    path = tmp_path_factory.getbasetemp() / "packed.bin"
    path.write_bytes(PACKERS[packing](content))
    plain = io.BytesIO(content)
    with PackedReader(path) as reader:
        assert reader.packing == packing
        for skip, amount in steps:
            if skip:
                target = min(plain.tell() + amount, len(content))
                assert reader.seek(target) == plain.seek(target)
            else:
                assert reader.read(amount) == plain.read(amount)
            assert reader.tell() == plain.tell()
        reader.seek(len(content))
        reader.expect_end()
        reader.drain()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    packing=st.sampled_from(sorted(PACKERS)),
    at=st.integers(0, 200),
    bit=st.integers(0, 7),
    cut=st.integers(0, 200) | st.none(),
)
def test_damage_is_a_data_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, packing: str, at: int, bit: int, cut: int | None
) -> None:
    data = bytearray(PACKERS[packing](bytes(range(256)) * 3))
    data[at % len(data)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    path.write_bytes(bytes(data[:cut]))
    try:
        with PackedReader(path) as reader:
            while reader.read(100):
                pass
    except DataError as error:
        assert str(path) in error.message  # noqa: PT017


def test_going_back_and_asking_for_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with PackedReader(path) as reader:
        reader.read(10)
        with pytest.raises(DataError, match="backwards"):
            reader.seek(9)
        with pytest.raises(DataError, match="backwards"):
            reader.seek(-1, io.SEEK_END)
        for size in (-1, 2**40):
            with pytest.raises(DataError, match=f"{size} bytes at once"):
                reader.read(size)
        with pytest.raises(DataError, match="too early"):
            reader.read_exactly(91)


def test_more_than_was_promised_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"12"))
    with PackedReader(path) as reader:
        reader.read(1)
        with pytest.raises(DataError, match="more bytes follow after its end"):
            reader.expect_end()


def test_a_bomb_is_refused_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "HARMLESS_BYTES", 1_000_000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    with PackedReader(path) as reader:
        assert reader.read(900_000) == bytes(900_000)
        with pytest.raises(DataError, match="at most 200 times"):
            reader.seek(4_000_000)
        assert reader.tell() < 2_500_000


def test_xz_that_needs_gigabytes_to_unpack_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**20}]
    data = bytearray(lzma.compress(b"x" * 100, filters=filters, check=lzma.CHECK_NONE))
    # Byte 16 of a file with one filter is its dictionary size: 40 means 4 GiB.
    assert data[14:16] == b"\x21\x01"
    data[16] = 40
    crc = zlib.crc32(bytes(data[12:20]))
    data[20:24] = crc.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"[Mm]emory"):
        PackedReader(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert read_start(path, 4) == b""
        with pytest.raises(DataError, match=str(path)):
            PackedReader(path)
    path.write_bytes(b"BZhello")
    assert read_start(path, 3) == b"BZh"
    assert packing_of(b"BZhello") == "bzip2"


def test_what_zipfile_raises_becomes_one_error() -> None:
    for error in (zipfile.BadZipFile("bad"), RuntimeError("x"), EOFError()):
        with pytest.raises(DataError, match="the zip file bad is damaged"), zip_faults(Path("bad")):
            raise error


def test_an_unsupported_zip_is_not_damaged() -> None:
    with (
        pytest.raises(DataError, match="not supported: compression") as caught,
        zip_faults(Path("z")),
    ):
        raise NotImplementedError("compression type 9 (deflate64)")
    assert "damaged" not in caught.value.message
