"""Directories for unfinished work: removed at the end, also after kill -9, never while in use."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnnclf import workspaces
from cnnclf.errors import ExitCode
from cnnclf.runs.run_opening import create_run
from cnnclf.workspaces import is_in_use, remove_leftovers, workspace
from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "sample_data" / "x_or_o"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs flock and SIGKILL")


@contextmanager
def working(parent: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that works in a workspace until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from cnnclf.workspaces import workspace\n"
        "with workspace(Path(sys.argv[1]), 'pets', kind=sys.argv[2]) as path:\n"
        "    (path / 'image.png').write_bytes(b'x')\n"
        "    print(path, flush=True)\n"
        "    time.sleep(60)"
    )
    arguments = [sys.executable, "-c", code, str(parent), kind]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def left_over(parent: Path, kind: str) -> Path:
    """Make a directory as a killed process leaves it."""
    path = parent / f".pets.0123abcd.{kind}"
    path.mkdir(parents=True)
    (path / "image.png").write_bytes(b"x")
    return path


def test_a_workspace_is_removed_at_the_end_unless_it_is_renamed(tmp_path: Path) -> None:
    with workspace(tmp_path / "new", "pets", kind="importing") as path:
        assert path.is_dir()
        assert is_in_use(path)
    with workspace(tmp_path / "new", "pets", kind="importing") as path:
        path.rename(tmp_path / "pets")
    with pytest.raises(KeyError), workspace(tmp_path / "new", "pets", kind="importing"):
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []
    assert (tmp_path / "pets").is_dir()


def test_only_what_no_process_works_in_is_removed(tmp_path: Path) -> None:
    left = left_over(tmp_path, "importing")
    other = left_over(tmp_path, "other")
    (tmp_path / ".photos.importing").mkdir()  # not one of ours
    with working(tmp_path, "importing") as process:
        assert remove_leftovers(tmp_path, kind="importing") == [left]
        process.send_signal(signal.SIGKILL)
        process.wait()
        [killed] = remove_leftovers(tmp_path, kind="importing")
    assert not killed.exists()
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / ".photos.importing"])
    assert remove_leftovers(tmp_path / "nowhere", kind="importing") == []


def test_a_directory_that_another_process_took_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = workspaces._open
    taken: list[Path] = []

    def late(path: Path) -> int | None:
        if not taken:
            taken.append(path)
            path.rmdir()
        return opening(path)

    monkeypatch.setattr(workspaces, "_open", late)
    with workspace(tmp_path, "pets", kind="importing") as path:
        assert path.is_dir()
    assert taken != [path]


def test_links_and_directories_of_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "data").touch()
    link = tmp_path / ".pets.0123abcd.importing"
    link.symlink_to(target)
    assert remove_leftovers(tmp_path, kind="importing") == []
    assert (target / "data").exists()
    link.unlink()
    if os.geteuid() == 0:
        left = left_over(tmp_path, "importing")
        os.chown(left, 12345, -1)
        assert remove_leftovers(tmp_path, kind="importing") == []


@pytest.mark.parametrize("age_s", [3600, 2 * 24 * 3600])
def test_without_locks_only_old_directories_are_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: int
) -> None:
    monkeypatch.setattr(workspaces, "fcntl", None)
    left = left_over(tmp_path, "importing")
    then_s = left.stat().st_mtime - age_s
    os.utime(left, (then_s, then_s))
    is_old = age_s > 24 * 3600
    assert is_in_use(left) is not is_old
    assert remove_leftovers(tmp_path, kind="importing") == ([left] if is_old else [])


def test_import_removes_what_a_killed_import_left(cli: Cli, tmp_path: Path) -> None:
    left = left_over(tmp_path, "importing")
    with working(tmp_path, "importing"):
        result = cli("import", SAMPLES, "--out", tmp_path / "ds")
        [other] = tmp_path.glob(".*.importing")  # that of the living process
    assert result.code == ExitCode.OK
    assert f"removed {left}, which an import that was killed left" in result.stderr
    assert other != left


def test_sample_data_are_written_after_a_kill(cli: Cli, tmp_path: Path) -> None:
    left_over(tmp_path / "samples", "writing")
    assert cli("sample-data", tmp_path / "samples").code == ExitCode.OK
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["o", "x"]


def test_cache_clear_keeps_what_a_process_works_in(cli: Cli, own_cache: Path) -> None:
    left = left_over(own_cache / "datasets", "importing")
    with working(own_cache / "datasets", "importing"):
        assert cli("cache", "clear", "--yes").code == ExitCode.OK
        [other] = (own_cache / "datasets").iterdir()
    assert other != left


def test_removing_a_run_removes_what_a_kill_left(cli: Cli, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", command="train")
    run.update_run(status="finished")
    (run.path / ".plan.0123abcd.json").touch()
    assert cli("runs", "remove", run.path, "--yes").code == ExitCode.OK
    assert not run.path.exists()


def test_temporary_files_end_with_the_process(tmp_path: Path) -> None:
    left = left_over(tmp_path, "working")
    code = (
        "import tempfile; from cnnclf.workspaces import use_own_temporary_directory\n"
        "use_own_temporary_directory()\n"
        "print(tempfile.mkdtemp())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    arguments = [sys.executable, "-c", code]
    made = subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert Path(made).parent.parent == tmp_path
    assert not left.exists()
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)  # without a directory for temporary files, Python chooses another
    assert subprocess.run(arguments, env=environment, capture_output=True, check=True).stdout


def test_every_command_has_its_own_temporary_directory(tmp_path: Path) -> None:
    left = left_over(tmp_path, "working")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    arguments = [sys.executable, "-m", "cnnclf", "cache", "list", "--json"]
    done = subprocess.run(arguments, env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout)
    assert not left.exists()
    assert list(tmp_path.iterdir()) == []
