"""Run directories: names, status, refusals, and writing that survives a kill."""

import contextlib
import errno
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnclf import runs
from cnnclf.errors import DeviceError, ExitCode, RunError


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- creating and opening


def test_create_run_writes_a_running_record(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path / "a" / "b", command=["cnnclf", "train"])
    record = run.read_record()
    assert record["status"] == "running"
    assert record["version"] == runs.RUN_VERSION
    assert record["command"] == ["cnnclf", "train"]
    assert runs.open_run(run.path) == run
    assert run.status() == "running"


def test_create_run_refuses_a_directory_with_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"holds notes\.txt") as caught:
        runs.create_run(tmp_path)
    assert "--resume" in caught.value.hint
    assert "--out" in caught.value.hint
    assert caught.value.exit_code is ExitCode.CONFIG


def test_create_run_takes_an_empty_directory(tmp_path: Path) -> None:
    assert runs.create_run(tmp_path).record.exists()


def test_create_run_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        runs.create_run(tmp_path / "run")


def test_force_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    run.best.mkdir(parents=True)
    run.plan.write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    run.update_run(status="finished")
    runs.create_run(tmp_path, force=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notes.txt", "run.json"]


def test_force_refuses_a_run_that_is_being_trained(tmp_path: Path) -> None:
    runs.create_run(tmp_path)
    with pytest.raises(RunError, match="being trained"):
        runs.create_run(tmp_path, force=True)


def test_next_run_path_counts_on(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert runs.next_run_path("x_or_o", root) == root / "x_or_o-001"
    for name in ("x_or_o-002", "x_or_o-010", "x_or_o-best", "other-050"):
        (root / name).mkdir(parents=True)
    assert runs.next_run_path("x_or_o", root) == root / "x_or_o-011"
    assert runs.next_run_path("a/b", root).name == "a-b-001"
    assert runs.next_run_path("..", root).name == "run-001"


def test_open_run_tells_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="found nothing"):
        runs.open_run(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="found a file"):
        runs.open_run(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no run\.json"):
        runs.open_run(tmp_path / "empty")


def test_open_run_tells_a_damaged_run(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    run.record.write_bytes(run.record.read_bytes()[:20])
    with pytest.raises(RunError, match="damaged"):
        runs.open_run(tmp_path)
    run.record.write_text("[]")
    with pytest.raises(RunError, match="expected an object"):
        runs.open_run(tmp_path)
    runs.write_json_atomic(run.record, {"version": 1, "status": "odd"})
    with pytest.raises(RunError, match="expected a status"):
        runs.open_run(tmp_path)
    run.record.unlink()
    run.plan.write_text("{}")
    with pytest.raises(RunError, match=r"damaged: run\.json is missing"):
        runs.open_run(tmp_path)


@pytest.mark.parametrize("version", [None, 0, "1"])
def test_open_run_refuses_a_record_without_version(tmp_path: Path, version: object) -> None:
    runs.write_json_atomic(tmp_path / "run.json", {"version": version, "status": "finished"})
    with pytest.raises(RunError, match="expected a format version"):
        runs.open_run(tmp_path)


def test_open_run_refuses_a_newer_version(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    runs.write_json_atomic(run.record, run.read_record() | {"version": 99})
    with pytest.raises(RunError, match="newer cnnclf") as caught:
        runs.open_run(tmp_path)
    assert "upgrade" in caught.value.hint


# --- status


def test_update_run_keeps_other_fields(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path, seed=3)
    record = run.update_run(status="finished", accuracy=0.5)
    assert record == run.read_record()
    assert (record["seed"], record["accuracy"], run.status()) == (3, 0.5, "finished")
    assert record["ended"] >= record["created"]


def test_update_run_refuses_an_unknown_status(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    with pytest.raises(ValueError, match="done"):
        run.update_run(status="done")


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up on posix only")
def test_a_killed_run_counts_as_interrupted(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    runs.write_json_atomic(run.record, run.read_record() | {"pid": dead_pid()})
    assert run.status() == "interrupted"
    runs.create_run(tmp_path, force=True)
    assert run.status() == "running"


def test_a_run_of_another_machine_is_believed(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    other = {"pid": dead_pid(), "host": platform.node() + "-other"}
    runs.write_json_atomic(run.record, run.read_record() | other)
    assert run.status() == "running"


def test_resuming_takes_the_run_over(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    run.update_run(status="interrupted")
    runs.write_json_atomic(run.record, run.read_record() | {"pid": dead_pid()})
    run.update_run(status="running")
    assert run.status() == "running"


def test_list_runs_lists_damaged_ones_too(tmp_path: Path) -> None:
    assert runs.list_runs(tmp_path / "none") == []
    for name in ("x-10", "x-9"):
        runs.create_run(tmp_path / name).update_run(status="finished")
    runs.create_run(tmp_path / "x-11").record.write_text("{")
    (tmp_path / "notes").mkdir()
    rows = runs.list_runs(tmp_path)
    assert [row.directory.path.name for row in rows] == ["x-9", "x-10", "x-11"]
    assert [row.status for row in rows] == ["finished", "finished", "damaged"]
    assert "not JSON" in rows[2].problem


def test_names_stay_inside_the_run(tmp_path: Path) -> None:
    run = runs.RunDirectory(tmp_path)
    names = (run.plan, run.record, run.history, run.log, run.curves, run.best, run.last)
    inside = {path.relative_to(tmp_path).as_posix() for path in names}
    assert inside == {
        "plan.json",
        "run.json",
        "history.csv",
        "log.txt",
        "curves.png",
        "checkpoints/best",
        "checkpoints/last",
    }
    assert run.evaluation("test") == tmp_path / "evaluation" / "test"


# --- checkpoints


def test_find_checkpoint_tells_unfinished_from_damaged(tmp_path: Path) -> None:
    run = runs.create_run(tmp_path)
    with pytest.raises(RunError, match=r"unfinished \(running\)") as caught:
        run.find_checkpoint("best")
    assert "--resume" in caught.value.hint
    run.update_run(status="finished")
    with pytest.raises(RunError, match="damaged"):
        run.find_checkpoint("best")
    run.best.mkdir(parents=True)
    assert run.find_checkpoint("best") == run.best


def fill(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "a").write_text(text)
    (directory / "b").write_text(text)
    return directory


def whole(target: Path) -> str:
    found = runs.find_whole_directory(target)
    assert found is not None
    text = (found / "a").read_text()
    assert (found / "b").read_text() == text
    return text


def test_replace_directory(tmp_path: Path) -> None:
    target = tmp_path / "best"
    for text in ("one", "two", "three"):
        with runs.atomic_directory(target) as temporary:
            fill(temporary / "sub", text)
            (temporary / "a").write_text(text)
            (temporary / "b").write_text(text)
        assert whole(target) == text
        assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


def test_a_failed_block_leaves_the_directory_alone(tmp_path: Path) -> None:
    target = fill(tmp_path / "best", "one")
    with pytest.raises(KeyboardInterrupt), runs.atomic_directory(target):
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
            runs.replace_directory_atomic(fill(tmp_path / "best.new", "two"), target)
    assert whole(target) == ("one" if step < 2 else "two")
    with runs.atomic_directory(target) as temporary:
        (temporary / "a").write_text("three")
        (temporary / "b").write_text("three")
    assert whole(target) == "three"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best"]


# --- files


def test_atomic_path_keeps_the_suffix_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "table.csv"
    with runs.atomic_path(path) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("one")
        assert not path.exists()
    with contextlib.suppress(KeyboardInterrupt), runs.atomic_path(path) as temporary:
        temporary.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_atomic_path_writes_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    runs.write_text_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_atomic_path_gives_devices_as_they_are() -> None:
    with runs.atomic_path(Path(os.devnull)) as temporary:
        assert temporary == Path(os.devnull)
    assert Path(os.devnull).exists()


def test_a_full_disk_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="disk is full"), runs.atomic_path(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write") as caught:
        runs.write_text_atomic(tmp_path / "file" / "a.txt", "")
    assert "--out" in caught.value.hint


def test_errors_of_the_block_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), runs.atomic_path(tmp_path / "a"):
        (tmp_path / "none").read_text()


def test_json_is_strict_and_takes_numpy_and_paths(tmp_path: Path) -> None:
    value = {
        "nan": math.nan,
        "scalar": np.float32(0.5),
        "array": np.array([1.0, np.inf]),
        "path": Path("a") / "b",
        "tuple": (1, 2),
        3: "Ä",
    }
    runs.write_json_atomic(tmp_path / "a.json", value)
    assert runs.read_json(tmp_path / "a.json") == {
        "nan": None,
        "scalar": 0.5,
        "array": [1.0, None],
        "path": str(Path("a") / "b"),
        "tuple": [1, 2],
        "3": "Ä",
    }
    assert "Ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_keeps_undecodable_names(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xe4r.png")
    data = runs.json_bytes({"path": name})
    assert json.loads(data.decode("ascii")) == {"path": name}


def test_text_keeps_undecodable_names(tmp_path: Path) -> None:
    runs.write_text_atomic(tmp_path / "a.txt", "\udce4")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe4"


# --- names


def test_natural_key_sorts_numbers_as_numbers() -> None:
    names = ["10", "2", "a10", "a2", "A", "b", "1"]
    assert sorted(names, key=runs._natural_key) == ["1", "2", "10", "A", "a2", "a10", "b"]


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_safe_name_is_one_legal_file_name(text: str) -> None:
    name = runs.safe_name(text.encode("utf-8", "ignore").decode(), fallback="x")
    assert name not in {"", ".", ".."}
    assert not set(name) & set('/\\<>:"|?*\0')
    assert len(os.fsencode(name)) <= 120
