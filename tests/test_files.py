"""Writing that survives kills and full disks, JSON that any reader takes."""

import contextlib
import csv
import errno
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf import files, full_disks
from cnnclf.errors import DeviceError, MissingPackageError, RunError


def fill(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "a").write_text(text)
    (directory / "b").write_text(text)
    return directory


def whole(target: Path) -> str:
    found = files.find_whole_directory(target)
    assert found is not None
    text = (found / "a").read_text()
    assert (found / "b").read_text() == text
    return text


def test_free_bytes_of_a_directory_that_is_to_be_made(tmp_path: Path) -> None:
    assert files.free_bytes(tmp_path / "a" / "b") > 0


def test_replace_directory(tmp_path: Path) -> None:
    target = tmp_path / "best"
    for text in ("one", "two", "three"):
        with files.atomic_directory(target) as temporary:
            fill(temporary / "sub", text)
            (temporary / "a").write_text(text)
            (temporary / "b").write_text(text)
        assert whole(target) == text
        assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_a_failed_block_leaves_the_directory_alone(tmp_path: Path) -> None:
    target = fill(tmp_path / "best", "one")
    with pytest.raises(KeyboardInterrupt), files.atomic_directory(target):
        raise KeyboardInterrupt
    assert whole(target) == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("step", range(6))
def test_a_kill_at_any_step_leaves_a_whole_directory(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies before the step-th change of the file system; the next save mends it."""

    class Killed(BaseException):
        pass

    target = fill(tmp_path / "best", "one")
    left = step

    def killing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return original(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(Path.rename))
        patch.setattr(os, "unlink", killing(os.unlink))
        patch.setattr(os, "rmdir", killing(os.rmdir))
        with contextlib.suppress(Killed):
            new = tmp_path / ".best.cnnclf-new"  # where `atomic_directory` has it
            files.replace_directory_atomic(fill(new, "two"), target)
    assert whole(target) == ("one" if step < 2 else "two")
    with files.atomic_directory(target) as temporary:
        (temporary / "a").write_text("three")
        (temporary / "b").write_text("three")
    assert whole(target) == "three"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("suffix", [".old", ".new", ".rejected", ".partial"])
def test_directories_of_the_user_beside_it_are_left_alone(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / "model"
    mine = fill(tmp_path / f"model{suffix}", "precious")
    assert files.find_whole_directory(target) is None
    for text in ("one", "two"):
        with files.atomic_directory(target) as temporary:
            (temporary / "a").write_text(text)
    assert whole(mine) == "precious"
    assert {entry.name for entry in tmp_path.iterdir()} == {"model", mine.name}


def test_a_link_to_a_directory_stays_and_its_goal_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    fill(tmp_path / "elsewhere" / "real", "one")
    link = tmp_path / "link"
    link.symlink_to("elsewhere/real")
    with files.atomic_directory(link) as temporary:
        assert temporary.parent == tmp_path / "elsewhere"
        (temporary / "a").write_text("two")
    assert link.is_symlink()
    assert [entry.name for entry in link.iterdir()] == ["a"]
    assert {entry.name for entry in tmp_path.rglob("*")} == {"link", "elsewhere", "real", "a"}


def test_where_the_process_stands_is_no_place_to_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(".")
    for target in (Path(), tmp_path, tmp_path / "link"):
        with pytest.raises(RunError, match="is the current directory") as caught:
            files.check_replaceable(target)
        assert "NAME" in caught.value.hint
    files.check_replaceable(tmp_path / "new")
    assert files.find_whole_directory(Path()) == Path()


def test_a_mount_point_is_refused_before_and_after_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="is a mount point"):
        files.check_replaceable(Path("/"))
    target = fill(tmp_path / "volume", "one")
    rename = Path.rename

    def busy(path: Path, new: Path) -> Path:
        if path == target:  # one that is not known for one, such as a directory bound to itself
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        return rename(path, new)

    monkeypatch.setattr(Path, "rename", busy)
    with (
        pytest.raises(RunError, match=r"cannot write .*volume: Device or resource busy"),
        files.atomic_directory(target),
    ):
        pass
    assert whole(target) == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["volume"]


def test_atomic_path_keeps_the_suffix_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "table.csv"
    with files.atomic_path(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("one")
        assert not path.exists()
    with contextlib.suppress(KeyboardInterrupt), files.atomic_path(path) as temporary:
        temporary.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_atomic_path_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    files.write_text_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_atomic_path_gives_devices_as_they_are() -> None:
    with files.atomic_path(Path(os.devnull)) as temporary:
        assert temporary == Path(os.devnull)
    assert Path(os.devnull).exists()


def test_a_full_disk_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="disk is full"), files.atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _of_tensorflow(text: str) -> Exception:
    error = type("ResourceExhaustedError", (Exception,), {})(text)
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        _of_tensorflow("/x/variables.index; No space left on device [Op:MergeV2Checkpoints]"),
        RunError("cannot write"),
    ],
    ids=["full", "quota", "words", "cause"],
)
def test_a_full_disk_is_reported_whatever_the_writer_calls_it(
    tmp_path: Path, error: Exception
) -> None:
    if isinstance(error, RunError):
        error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(full_disks.DiskFullError, match=r"disk is full: cannot write .*model"),
        full_disks.reporting_full_disk(tmp_path / "model", tmp_path),
    ):
        raise error


@pytest.mark.parametrize("is_full", [True, False])
def test_words_that_tell_nothing_make_the_disk_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    def fsync(_: int) -> None:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with (
        pytest.raises(full_disks.DiskFullError if is_full else RuntimeError),
        full_disks.reporting_full_disk(tmp_path / "model", tmp_path / "none", tmp_path),
    ):
        raise RuntimeError("basic_ios::clear: iostream error")
    assert list(tmp_path.iterdir()) == []


def test_what_has_nothing_to_do_with_the_disk_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("the disk was tried"))
    for error in (KeyboardInterrupt(), MissingPackageError("onnx is missing")):
        with (
            pytest.raises(type(error)) as caught,
            full_disks.reporting_full_disk(tmp_path / "model", tmp_path),
        ):
            raise error
        assert caught.value is error


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write") as caught:
        files.write_text_atomic(tmp_path / "file" / "a.txt", "")
    assert "--out" in caught.value.hint


def test_errors_of_the_block_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.atomic_path(tmp_path / "a"):
        (tmp_path / "none").read_text()


@pytest.mark.parametrize("has_links", [True, False])
def test_of_those_who_make_a_file_together_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:  # as on a disk for cameras
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path, start = tmp_path / "new" / "run.json", threading.Barrier(8)

    def make(number: int) -> bool:
        start.wait()
        try:
            files.create_json(path, {"number": number}, hint="choose another --out")
        except RunError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert made.count(True) == 1
    assert files.read_json(path) == {"number": made.index(True)}
    assert list(path.parent.iterdir()) == [path]


def test_json_is_strict_and_takes_numpy_and_paths(tmp_path: Path) -> None:
    value = {
        "nan": math.nan,
        "scalar": np.float32(0.5),
        "array": np.array([1.0, np.inf]),
        "path": Path("a") / "b",
        "tuple": (1, 2),
        3: "Ä",
    }
    files.write_json_atomic(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == {
        "nan": None,
        "scalar": 0.5,
        "array": [1.0, None],
        "path": str(Path("a") / "b"),
        "tuple": [1, 2],
        "3": "Ä",
    }
    assert "Ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    where: Path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([[1.0, math.nan]]), [[1.0, None]]),
        (Path("a/b"), "a/b"),
        (Color.RED, "red"),
        (Point(1, Path("p")), {"x": 1, "where": "p"}),
        ({3: (1, 2)}, {"3": [1, 2]}),
        ({"b"}, ["b"]),
        ((each for each in (1, 2)), [1, 2]),
        (True, True),
        (None, None),
    ],
)
def test_plain(value: object, expected: object) -> None:
    assert files.plain(value) == expected


def test_plain_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match="received object"):
        files.plain(object())


def test_json_keeps_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xe4r.png")
    data = files.json_bytes({"path": name})
    assert json.loads(data.decode("ascii")) == {"path": name}


def test_text_keeps_undecodable_names(tmp_path: Path) -> None:
    files.write_text_atomic(tmp_path / "a.txt", "\udce4")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe4"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_safe_name_is_one_legal_file_name(text: str) -> None:
    name = files.safe_name(text.encode("utf-8", "ignore").decode(), fallback="x")
    assert name not in {"", ".", ".."}
    assert not set(name) & set('/\\<>:"|?*\0')
    assert len(os.fsencode(name)) <= 120


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (18_800_000, "18.8 MB"),
        (5e11, "500 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes_for_people(size: float, expected: str) -> None:
    assert files.format_bytes(size) == expected


def test_a_limit_of_file_sizes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries pass on the words of the system, or none at all."""
    words = f"{os.strerror(errno.EFBIG)} [Op:SaveV2]"
    with (
        pytest.raises(DeviceError, match="the file size limit was reached"),
        full_disks.reporting_full_disk(tmp_path / "model", tmp_path),
    ):
        raise RuntimeError(words)
    fault = OSError(errno.EFBIG, "too large")
    monkeypatch.setattr(full_disks, "_try_to_write", lambda _: fault)
    with (
        pytest.raises(DeviceError, match="the file size limit was reached"),
        full_disks.reporting_full_disk(tmp_path / "model", tmp_path),
    ):
        raise RuntimeError("iostream error")


def test_what_killed_processes_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, new = 7201, 3500
    for name, age_s in ((".a.part", old), (".b.part", new), ("c.part", old), (".d.part", old)):
        path = tmp_path / name
        path.mkdir() if name == ".d.part" else path.write_text("x")
        os.utime(path, (time.time() - age_s,) * 2)
    files.remove_abandoned(tmp_path, ".*.part", hours=3)
    assert len(list(tmp_path.iterdir())) == 4
    files.remove_abandoned(tmp_path, ".*.part")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.part", "c.part"]
    files.remove_abandoned(tmp_path / "none", "*")


@given(
    st.lists(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
)
def test_tables_survive_a_round_trip(rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        files.write_csv_atomic(path, rows)
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            assert list(csv.reader(file)) == rows
