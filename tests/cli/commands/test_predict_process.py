"""What stops a prediction from outside: Ctrl-C, kill, a full disk, a reader that goes away."""

import contextlib
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of posix")
ROOT = Path(__file__).parents[3]
RUN = ROOT / "sample_data" / "tiny_run"
IMAGES = ROOT / "sample_data" / "x_or_o"
COUNT = 300


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number}.jpg").write_bytes(b"")
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `cnnclf predict` with the fake engine; what still runs in the end is killed."""
    started = []

    def call(*arguments: object, slow_s: float = 0.05, **how: Any) -> "subprocess.Popen[str]":
        words = ["predict", RUN, *arguments, "--batch-size", 4]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.commands.predict_process", *map(str, words)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CNNCLF_TEST_SLOW_S": str(slow_s)},
            **how,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def wait_for_rows(process: "subprocess.Popen[str]", path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no rows came"
        time.sleep(0.01)


def read_names(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [Path(row["path"]).name for row in csv.DictReader(file)]


EVERY_NAME = [f"{number}.jpg" for number in range(COUNT)]


def test_ctrl_c_keeps_what_is_done(start: Start, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    process = start(photos, "--out", path)
    wait_for_rows(process, tmp_path / "rows.csv.partial", 20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "error: interrupted" in errors
    assert "hint: the same command with --resume continues" in errors
    done = read_names(tmp_path / "rows.csv.partial")
    assert f"{len(done)} rows kept in" in errors
    assert 20 <= len(done) < COUNT
    process = start(photos, "--out", path, "--resume", slow_s=0)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"{len(done)} of them from the interrupted job" in errors
    assert read_names(path) == EVERY_NAME


def test_the_reader_of_the_rows_may_go_away(start: Start, photos: Path) -> None:
    process = start(photos)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("path,label")
    assert "0.jpg" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr is not None
    assert "rror" not in process.stderr.read()
    process.stdout = None


def test_a_pipe_has_its_rows_at_once(start: Start, photos: Path) -> None:
    process = start(photos, slow_s=60)
    first = start(photos, slow_s=0.5)
    assert first.stdout is not None
    lines = [first.stdout.readline() for _ in range(5)]
    assert first.poll() is None  # it has just begun
    assert Path(lines[4].partition(",")[0]).name == "3.jpg"
    assert process.poll() is None


def run_on_a_terminal(*arguments: object, stdout: Any) -> tuple[int, str]:
    """Run it with a terminal on stderr and something else on stdout; give code and stderr."""
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "tests.cli.commands.predict_process", "predict", RUN, *arguments]
    environment = {**os.environ, "CNNCLF_TEST_SLOW_S": "0.2", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        list(map(str, words)), cwd=ROOT, stdout=stdout, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = bytearray()
    with contextlib.suppress(OSError):  # Linux says so when the other side is closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    return process.wait(timeout=60), shown.decode()


def test_rows_are_in_the_file_when_the_command_is_typed_in_a_terminal(
    photos: Path, tmp_path: Path
) -> None:
    """The live bar on stderr must not draw the rows to itself."""
    with (tmp_path / "rows.csv").open("wb") as file:
        code, shown = run_on_a_terminal(photos, stdout=file)
    assert code == 0, shown
    assert read_names(tmp_path / "rows.csv") == EVERY_NAME
    assert "299.jpg" not in shown


def test_json_is_in_the_file_when_the_command_is_typed_in_a_terminal(
    photos: Path, tmp_path: Path
) -> None:
    with (tmp_path / "rows.json").open("wb") as file:
        code, shown = run_on_a_terminal(photos, "--json", stdout=file)
    assert code == 0, shown
    document = json.loads((tmp_path / "rows.json").read_bytes())
    assert [Path(row["path"]).name for row in document["rows"]] == EVERY_NAME


def test_a_full_disk_in_the_middle(start: Start, photos: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    path = tmp_path / "rows.csv"
    process = start(photos, "--out", path, slow_s=0, preexec_fn=limit)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6, errors
    assert "error: the file size limit was reached" in errors
    assert "--resume continues" in errors
    assert (tmp_path / "rows.csv.partial").stat().st_size == 4096
    process = start(photos, "--out", path, "--resume", slow_s=0)
    assert process.communicate(timeout=60) is not None
    assert process.returncode == 0
    assert read_names(path) == EVERY_NAME


def test_a_list_that_comes_slowly_is_answered_at_once(start: Start, photos: Path) -> None:
    process = start("-", slow_s=0, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(3):
        process.stdin.write(f"{photos / f'{number}.jpg'}\n")
        process.stdin.flush()
        if number == 0:
            assert process.stdout.readline().startswith("path,label")
        assert f"{number}.jpg" in process.stdout.readline()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, ""), errors


def test_a_watched_folder_gets_rows_until_ctrl_c(
    start: Start, photos: Path, tmp_path: Path
) -> None:
    for file in photos.iterdir():
        os.utime(file, (1, 1))
    process = start(photos, "--out", tmp_path / "rows.jsonl", "--watch", slow_s=0)
    partial = tmp_path / "rows.jsonl.partial"
    wait_for_rows(process, partial, COUNT - 1)
    with (photos / "999.jpg").open("wb") as stream:
        stream.write(b"x")
        stream.flush()
        wait_for_rows(process, partial, COUNT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"{COUNT + 1} rows kept in" in errors
    assert partial.read_text().count("\n") == COUNT + 1


@pytest.mark.slow
def test_a_real_job_killed_and_resumed_gives_the_same_file(cli: Cli, tmp_path: Path) -> None:
    """With the tiny run, its model and its decoder: the last digits are the same, too."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images = sorted(IMAGES.glob("*/*.*"))
    for number in range(700):
        (folder / f"{number}.png").symlink_to(images[number * 7 % len(images)])
    (folder / "bad.jpg").write_text("no image")
    common = ["predict", RUN, folder, "--engine", "keras", "--batch-size", 16, "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnclf", *map(str, [*common, tmp_path / "rows.csv"])],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_rows(process, tmp_path / "rows.csv.partial", 100)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert cli(*common, tmp_path / "rows.csv", "--resume").code == 7
    assert cli(*common, tmp_path / "whole.csv").code == 7
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(read_names(tmp_path / "rows.csv")) == 701
