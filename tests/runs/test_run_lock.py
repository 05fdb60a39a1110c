"""Only one process trains in a run directory, and a killed one leaves it free, on any host."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnnclf.errors import RunError
from cnnclf.files import write_json_atomic
from cnnclf.runs import run_lock
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_lock import LOCK_FILE, holding_run, is_held
from cnnclf.runs.run_opening import create_run

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from cnnclf.runs.run_lock import holding_run
with holding_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    assert is_held(tmp_path)
    with (
        pytest.raises(
            RunError,
            match=rf"still training \(process {holder.pid} on .+, last sign of life \d+ s ago\)",
        ) as caught,
        holding_run(tmp_path),
    ):
        pass
    assert "--force" in caught.value.hint
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not is_held(tmp_path)
    with holding_run(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(RunError, match="still training"), holding_run(tmp_path):
            pass
    assert is_held(tmp_path) is None


def test_a_killed_run_is_interrupted_even_if_its_number_is_taken_or_its_host_another(
    tmp_path: Path,
) -> None:
    """Every process of a container is number 1, and runs move between hosts."""
    run = create_run(tmp_path)
    with holding_run(tmp_path):
        assert run.status() is RunStatus.RUNNING
    assert not (tmp_path / LOCK_FILE).exists()
    (tmp_path / LOCK_FILE).touch()  # what a killed process leaves
    run.update_run(status="running")
    assert run.read_record()["pid"] == os.getpid()
    assert run.status() is RunStatus.INTERRUPTED
    record = run.read_record() | {"host": "elsewhere", "pid": 1}
    write_json_atomic(run.record, record)
    assert run.status() is RunStatus.INTERRUPTED


def test_without_locks_of_the_file_system_signs_of_life_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("cnnclf.runs.run_lock.fcntl.flock", refuse)
    with holding_run(tmp_path):
        monkeypatch.setattr(run_lock, "_HELD", set())  # as another process sees it
        assert is_held(tmp_path)
        with pytest.raises(RunError, match="still training"), holding_run(tmp_path):
            pass
    long_ago = time.time() - 3600
    (tmp_path / LOCK_FILE).touch()
    os.utime(tmp_path / LOCK_FILE, (long_ago, long_ago))
    assert not is_held(tmp_path)
    with holding_run(tmp_path):
        pass


def test_force_takes_a_run_for_interrupted(tmp_path: Path) -> None:
    run = create_run(tmp_path)
    with holding_run(tmp_path):
        run.declare_interrupted()
        assert run.status() is RunStatus.INTERRUPTED


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).mkdir()  # another error than that of a user who may not write
    with pytest.raises(RunError, match=f"cannot write {tmp_path}"), holding_run(tmp_path):
        pass


def test_what_was_never_locked_is_unknown(tmp_path: Path) -> None:
    assert is_held(tmp_path) is None


@pytest.mark.parametrize("who", [{"host": "elsewhere", "pid": 1}, {"host": "elsewhere", "pid": 77}])
def test_a_record_without_a_lock_says_who_trains_and_since_when(
    tmp_path: Path, who: dict[str, object]
) -> None:
    run = create_run(tmp_path)
    write_json_atomic(run.record, run.read_record() | who)
    os.utime(run.record, (time.time() - 90, time.time() - 90))
    with pytest.raises(RunError) as caught:
        run.check_ended()
    assert f"(process {who['pid']} on elsewhere, last sign of life 90 s ago)" in str(caught.value)


def test_force_frees_a_run_whose_holder_has_not_changed_the_status_yet(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    record = create_run(tmp_path / "made").read_record()
    run = RunDirectory(tmp_path)  # its holder is there already
    write_json_atomic(run.record, record | {"status": "interrupted"})
    with pytest.raises(RunError, match=f"process {holder.pid} on"), holding_run(tmp_path):
        pass
    run.declare_interrupted()
    with holding_run(tmp_path):
        assert run.status() is RunStatus.INTERRUPTED
