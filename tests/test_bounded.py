"""Files that anybody may have written are read with bounds."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.bounded import TarSlice, check_regular, find_slice, parse_json, parse_toml, read_bytes


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes of posix")
def test_a_device_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="device, not a regular file"):
        read_bytes(Path("/dev/zero"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe, not a regular file"):
        read_bytes(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="device"):
        check_regular(tmp_path / "link")


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="it is a directory") as caught:
        read_bytes(tmp_path)
    assert caught.value.errno == errno.EISDIR
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bytes(path, max_bytes=4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="files of no size")
def test_a_file_that_hides_its_size_is_bounded() -> None:
    with pytest.raises(OSError, match="more than 10 bytes"):
        read_bytes(Path("/proc/self/status"), max_bytes=10)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "beyond 64 bits"),
        ("9" * 30, "beyond 64 bits"),
        ("[NaN]", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("{", "Expecting property name"),
    ],
)
def test_hostile_json_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a=" + "[" * 100_000, "nested too deeply"),
        (".".join("a" * 50_000) + "=1", "too many dots"),
        ("a=" + "9" * 5000, "beyond 64 bits"),
        ("a=[{b=0x" + "f" * 5000 + "}]", "beyond 64 bits"),
        ("a=", "Invalid value"),
    ],
)
def test_hostile_toml_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_toml(text)


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert parse_json(data) is not Ellipsis


def test_a_part_of_a_tar_file_is_read_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    path = tmp_path / TarSlice(Path("a.tar"), 2, 5).name("x/y.jpg")
    assert path == tmp_path / "a.tar" / "2+5" / "x" / "y.jpg"
    assert find_slice(path) == (tmp_path / "a.tar", 2, 5)
    assert read_bytes(path, max_bytes=5) == b"23456"
    found, whole = check_regular(path), (tmp_path / "a.tar").stat()
    assert found.st_size == 5
    assert (found.st_mtime, found.st_mtime_ns) == (whole.st_mtime, whole.st_mtime_ns)
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bytes(path, max_bytes=4)
    with pytest.raises(OSError, match=r"a\.tar ends before it"):
        read_bytes(tmp_path / "a.tar/2+9/x")


def test_other_paths_are_no_part_of_a_tar_file(tmp_path: Path) -> None:
    (tmp_path / "b.tar" / "1+2").mkdir(parents=True)
    (tmp_path / "b.tar" / "1+2" / "x").write_bytes(b"file")
    assert read_bytes(tmp_path / "b.tar" / "1+2" / "x") == b"file"
    (tmp_path / "a.tar").write_bytes(b"0123456789")
    for name in ("a.tar", "a.tar/1+2", "a.tar/1+2/", "a.tar/x/y", "c.tar/1+2/x"):
        assert find_slice(f"{tmp_path}/{name}") is None
