"""Work in processes: the same results in the same order, whatever happens to a process."""

import os
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cnnclf.errors import DataError
from cnnclf.processes import map_in_processes


class Worker:
    """Says which process squared a number; can be pickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parent = os.getpid()

    def square(self, number: int) -> tuple[int, int]:
        sys.stdout.write("not an answer")
        sys.stdout.flush()
        return number * number, os.getpid()

    def end_once(self, number: int) -> tuple[int, int]:
        """Work, but end the first process that is asked for number 3, as the kernel would."""
        mark = self.folder / "ended"
        if number == 3 and os.getpid() != self.parent and not mark.exists():
            mark.touch()
            os._exit(9)
        return self.square(number)

    def refuse(self, number: int) -> tuple[int, int]:
        if number == 3:
            raise DataError(f"number {number} is refused")
        return self.square(number)


def run(work: Any, count: int = 40, *, workers: int = 2, first: int = 0) -> list[tuple[int, int]]:
    found = map_in_processes(
        work, range(count), processes=workers, ahead=4, name="test", first=first
    )
    return list(found)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Remember all processes that are started."""
    found: list[subprocess.Popen[bytes]] = []

    class Kept(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Kept)
    return found


def test_results_come_in_order_from_processes_that_end(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    found = run(Worker(tmp_path).square)
    assert [square for square, _ in found] == [number**2 for number in range(40)]
    ids = {each.pid for each in started}
    assert len(ids) == 2
    assert {pid for _, pid in found} <= ids
    assert [each.returncode for each in started] == [0, 0]


def test_few_items_or_one_thread_start_no_process(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    here = {os.getpid()}
    assert {pid for _, pid in run(Worker(tmp_path).square, first=40)} == here
    assert {pid for _, pid in run(Worker(tmp_path).square, workers=1)} == here
    assert not started
    found = run(Worker(tmp_path).square, first=39)
    assert [square for square, _ in found] == [number**2 for number in range(40)]
    assert [pid for _, pid in found[:39]] == [os.getpid()] * 39
    assert found[39][1] == started[0].pid


def test_killed_process_loses_nothing(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    found = run(Worker(tmp_path).end_once)
    assert (tmp_path / "ended").exists()
    assert [square for square, _ in found] == [number**2 for number in range(40)]
    assert found[3][1] == os.getpid()
    assert sorted(each.returncode for each in started) == [0, 9]


def test_error_is_raised_as_in_a_thread(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    with pytest.raises(DataError, match="number 3 is refused"):
        run(Worker(tmp_path).refuse)
    assert started
    assert all(each.returncode is not None for each in started)


@pytest.mark.parametrize("program", ["", "/no/such/python", os.devnull])
def test_without_a_python_to_start_threads_do_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    found = run(Worker(tmp_path).square)
    assert [square for square, _ in found] == [number**2 for number in range(40)]
    assert {pid for _, pid in found} == {os.getpid()}


def test_unfinished_work_leaves_no_process(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    before = threading.active_count()
    work = Worker(tmp_path).square
    with closing(map_in_processes(work, range(10**6), processes=2, ahead=4, name="test")) as found:
        assert next(found)[0] == 0
        assert started
    assert [each.returncode for each in started] == [0] * len(started)
    assert threading.active_count() == before


def test_script_without_a_guard_and_a_folder_with_modules_run_once(tmp_path: Path) -> None:
    for name in ("random", "pickle", "numpy"):
        (tmp_path / f"{name}.py").write_text("open(f'run-{__name__}', 'w').close()")
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "mine.py").write_text(
        textwrap.dedent("""
            print("begun")
            from functools import partial
            from cnnclf.processes import map_in_processes
            import os, operator
            work = partial(operator.pow, 2)
            found = map_in_processes(work, range(9), processes=2, ahead=4, name="test")
            print(sum(found))
        """)
    )
    done = subprocess.run(
        [sys.executable, folder / "mine.py"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("begun\n511\n", "")
    assert not list(tmp_path.glob("run-*"))
