"""Files of rows: nothing is lost, nothing doubled, nothing replaced without being asked."""

import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from cnnclf.errors import DeviceError, ExitCode, MissingPackageError, RunError, UsageError
from cnnclf.prediction import parquet
from cnnclf.prediction.inputs import PAUSE, Found, skip_done
from cnnclf.prediction.job import PredictionJob, write_job
from cnnclf.prediction.row_file import (
    FILE_FORMATS,
    check_row_file,
    open_rows,
    read_done,
    settle_finished,
)
from cnnclf.prediction.rows import Prediction, RowColumns
from cnnclf.prediction.sharding import Shard

GOOD = Prediction("a,b.jpg", (("cat", 0.75), ("dog", 0.25)))
BAD = Prediction("bad.jpg", error="expected an image, received text")
COLUMNS = RowColumns(2)
JOB = PredictionJob("0" * 64, ("photos",), "/home/me", COLUMNS.top_k, tuple(COLUMNS.names()))
SUFFIXES = pytest.mark.parametrize("suffix", FILE_FORMATS)


def write(path: Path, *rows: Prediction, **how: Any) -> Path:
    with open_rows(path, COLUMNS, **how) as file:
        for row in rows:
            file.write(row)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return rows
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return [
        {name: cell or None for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def break_off(path: Path, *rows: Prediction, error: type[BaseException], **how: Any) -> None:
    with open_rows(path, COLUMNS, job=JOB, **how) as file:
        for row in rows:
            file.write(row)
        raise error("stop")


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- writing


@SUFFIXES
def test_rows_are_written_and_only_they_remain(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "sub" / f"p{suffix}", GOOD, BAD, job=JOB)
    rows = read(path)
    assert [row["path"] for row in rows] == ["a,b.jpg", "bad.jpg"]
    assert [row["label"] for row in rows] == ["cat", None]
    assert float(rows[0]["probability_2"]) == 0.25
    assert rows[1]["error"] == BAD.error
    assert names(tmp_path / "sub") == [f"p{suffix}"]


@SUFFIXES
def test_no_rows_are_a_file_too(tmp_path: Path, suffix: str) -> None:
    assert read(write(tmp_path / f"p{suffix}", job=JOB)) == []


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on posix only")
def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    row = Prediction(os.fsdecode(b"b\xe4r.jpg"), (("cat", 1.0),))
    assert b"b\xe4r.jpg,cat" in write(tmp_path / "p.csv", row).read_bytes()
    assert read(write(tmp_path / "p.jsonl", row))[0]["path"] == row.path
    assert read(write(tmp_path / "p.parquet", row))[0]["path"] == "b\\udce4r.jpg"
    for suffix in FILE_FORMATS:
        assert read_done(tmp_path / f"p{suffix}").take(row.path)  # it is no new file


def test_parquet_has_types_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 10)
    path = write(tmp_path / "p.parquet", *[GOOD] * 25, BAD)
    file = pyarrow.parquet.ParquetFile(path)
    assert file.num_row_groups == 3
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert kinds["probability"] == kinds["probability_2"] == "double"
    assert kinds["path"] == kinds["error"] == "string"
    file.close()


def test_a_flush_hands_everything_to_the_system(tmp_path: Path) -> None:
    with open_rows(tmp_path / "p.csv", COLUMNS, job=JOB) as file:
        file.write(GOOD)
        assert file.kept == 0
        file.flush()
        assert file.kept == 1
        assert '"a,b.jpg",cat' in partial(tmp_path / "p.csv").read_text()
        assert not (tmp_path / "p.csv").exists()


def test_rows_are_not_kept_back_without_end(tmp_path: Path) -> None:
    with open_rows(tmp_path / "p.csv", COLUMNS) as file:
        for _ in range(5000):
            file.write(BAD)
        assert partial(tmp_path / "p.csv").stat().st_size > 100_000


# --- what is there stays


@SUFFIXES
def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_text("old")
    with pytest.raises(UsageError, match="exists") as caught:
        write(path, GOOD)
    assert "--overwrite" in caught.value.hint
    assert "--resume" not in caught.value.hint  # there is nothing to resume
    assert path.read_text() == "old"
    assert len(read(write(path, GOOD, job=JOB, mode="overwrite"))) == 1
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DeviceError, BrokenPipeError])
def test_work_broken_off_keeps_the_rows_so_far(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old")
    with pytest.raises(error):
        break_off(path, BAD, error=error, mode="overwrite")
    assert path.read_text() == "old"
    assert "bad.jpg" in partial(path).read_text()
    for name in ("p.csv", "p.csv.partial"):
        assert (tmp_path / name).exists()
    with pytest.raises(UsageError, match="contains the rows of an interrupted job") as caught:
        write(path, GOOD, job=JOB)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "--resume" in caught.value.hint
    assert "bad.jpg" in partial(path).read_text()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("p.txt", "p", "p.xlsx"):
        with pytest.raises(UsageError, match=r"\.csv, \.jsonl or \.parquet"):
            write(tmp_path / name)
    assert names(tmp_path) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path / "p.csv")


def test_parquet_without_its_package_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingPackageError) as caught:
        check_row_file(tmp_path / "p.parquet")
    assert "cnnclf[parquet]" in caught.value.hint
    assert caught.value.exit_code is ExitCode.MISSING_PACKAGE


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write(tmp_path / "file" / "p.csv")


@pytest.mark.skipif(os.name != "posix", reason="locks of posix")
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with open_rows(path, COLUMNS, job=JOB) as file:
        file.write(GOOD)
        file.flush()
        before = partial(path).read_bytes()
        for mode in ("resume", "overwrite"):
            with pytest.raises(UsageError, match="another process is writing"):
                write(path, BAD, job=JOB, mode=mode)
        assert partial(path).read_bytes() == before
    assert len(read(path)) == 1


# --- pipes and devices


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    os.mkfifo(path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE, text=True)
    write(path, GOOD, job=JOB)
    text, _ = reader.communicate(timeout=30)
    assert text.splitlines()[1].startswith('"a,b.jpg",cat')
    assert names(tmp_path) == ["p.csv"]
    with pytest.raises(UsageError, match="is a pipe or device"):
        check_row_file(path, "resume")


def test_a_full_disk_is_a_device_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "p.csv").symlink_to(full)
    with pytest.raises(DeviceError, match="disk is full"):
        write(tmp_path / "p.csv", *[BAD] * 10_000)


FILL = """
import resource, sys
from pathlib import Path
from tests.prediction.test_row_file import *
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with open_rows(Path(sys.argv[1]), COLUMNS, job=JOB) as file:
        for number in range(10_000):
            file.write(replace(BAD, path=f"{number}.jpg"))
            if number % 7 == 0:
                file.flush()
except DeviceError as error:
    sys.exit(f"{int(error.exit_code)}: {error.message}; {error.hint}")
"""


def test_a_file_that_may_not_grow_keeps_its_whole_rows(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "p.csv"
    done = subprocess.run(
        [sys.executable, "-c", FILL, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr.strip().startswith("6: the file size limit was reached"), done.stderr
    assert "ulimit -f" in done.stderr
    assert partial(path).stat().st_size == 20_000  # the last row is cut off
    with open_rows(path, COLUMNS, job=JOB, mode="resume") as file:
        begun = file.so_far.summary.earlier
        assert begun > 300
        for number in range(begun, 600):
            file.write(replace(BAD, path=f"{number}.jpg"))
    assert [row["path"] for row in read(path)] == [f"{number}.jpg" for number in range(600)]


# --- going on


@SUFFIXES
@pytest.mark.parametrize("cut", [0, 1, 7, 19])
def test_a_job_continues_after_its_last_whole_row(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"p{suffix}"
    rows = [replace(GOOD, path=f"{number}.jpg") for number in range(10)]
    whole = write(tmp_path / f"whole{suffix}", *rows, BAD, job=JOB).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        break_off(path, *rows[:6], error=KeyboardInterrupt)
    os.truncate(partial(path), partial(path).stat().st_size - cut)
    with open_rows(path, COLUMNS, job=JOB, mode="resume") as file:
        assert file.so_far.summary.files == file.so_far.summary.earlier == (6 if cut == 0 else 5)
        assert file.so_far.summary.counts == {"cat": file.so_far.summary.files}
        left = list(skip_done((Found(f"{number}.jpg") for number in range(10)), file.so_far.done))
        assert [found.path for found in left] == [
            row.path for row in rows[file.so_far.summary.files :]
        ]
        for row in [*rows[file.so_far.summary.files :], BAD]:
            file.write(row)
    assert path.read_bytes() == whole
    assert names(tmp_path) == sorted([path.name, f"whole{suffix}"])


def test_paths_are_matched_by_name_and_count(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [replace(GOOD, path=name) for name in ("a", "b", "a", "gone")]
    with pytest.raises(KeyboardInterrupt):
        break_off(path, *rows, error=KeyboardInterrupt)
    with open_rows(path, COLUMNS, job=JOB, mode="resume") as file:
        source = [Found("new"), Found("a"), PAUSE, Found("a"), Found("a"), Found("b"), Found("b")]
        assert list(skip_done(source, file.so_far.done)) == [
            Found("new"),
            PAUSE,
            Found("a"),
            Found("b"),
        ]


def test_failed_rows_are_done_too(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        break_off(path, BAD, GOOD, error=KeyboardInterrupt)
    with open_rows(path, COLUMNS, job=JOB, mode="resume") as file:
        assert list(skip_done([Found("bad.jpg")], file.so_far.done)) == []
        assert file.so_far.summary.failed == 1
        assert file.so_far.summary.examples == [("bad.jpg", BAD.error)]
        assert file.so_far.summary.exit_code is ExitCode.SOME_FAILED


def test_resuming_what_never_began_begins_it(tmp_path: Path) -> None:
    assert len(read(write(tmp_path / "p.csv", GOOD, job=JOB, mode="resume"))) == 1
    # Killed between making the file and its first rows.
    partial(tmp_path / "q.csv").write_bytes(b"")
    assert len(read(write(tmp_path / "q.csv", GOOD, job=JOB, mode="resume"))) == 1
    partial(tmp_path / "r.csv").write_bytes(b"")
    assert len(read(write(tmp_path / "r.csv", GOOD, job=JOB))) == 1


def test_resuming_what_is_finished_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", GOOD, job=JOB)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is finished"):
        write(path, GOOD, job=JOB, mode="resume")
    assert path.read_bytes() == before


@SUFFIXES
def test_what_a_kill_after_the_last_rename_left_is_cleaned(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"p{suffix}", GOOD, job=JOB)
    before = path.read_bytes()
    write_job(tmp_path / f"p{suffix}.partial.json", JOB, may_replace=True)
    assert not settle_finished(path, ("others",), model=JOB.model)
    assert not settle_finished(path, JOB.inputs, model="1" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "cwd", lambda: Path(JOB.folder))
        assert settle_finished(path, JOB.inputs, model=JOB.model)
        assert names(tmp_path) == [path.name]
        assert settle_finished(path, JOB.inputs, model=JOB.model)  # killed a moment later
        os.utime(path, ns=(0, 0))  # changed since
        assert not settle_finished(path, JOB.inputs, model=JOB.model)
    with pytest.raises(UsageError, match="is finished"):
        write(path, GOOD, job=JOB, mode="resume")
    assert path.read_bytes() == before


def test_a_job_that_may_replace_a_file_continues_if_killed_before_its_first_row(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old")
    partial(path).write_bytes(b"")
    write_job(tmp_path / "p.csv.partial.json", JOB, may_replace=False)
    with pytest.raises(UsageError, match="was created while its job was interrupted"):
        write(path, GOOD, job=JOB, mode="resume")
    write_job(tmp_path / "p.csv.partial.json", JOB, may_replace=True)
    with pytest.raises(UsageError, match="belongs to another job"):
        write(path, GOOD, job=OTHERS["the argument IMAGES"], mode="resume")
    assert path.read_text() == "old"
    assert len(read(write(path, GOOD, job=JOB, mode="resume"))) == 1
    assert names(tmp_path) == ["p.csv"]


def test_an_incomplete_heading_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        break_off(path, GOOD, error=KeyboardInterrupt)
    os.truncate(partial(path), 11)
    assert len(read(write(path, GOOD, job=JOB, mode="resume"))) == 1


OTHERS = {
    "the model": replace(JOB, model="1" * 64),
    "the argument IMAGES": replace(JOB, inputs=("photos", "more")),
    "the working directory": replace(JOB, folder="/elsewhere"),
    "--top-k": replace(JOB, top_k=1),
    "the list of columns": replace(JOB, columns=("path", "label", "probability", "error")),
    "--threshold": replace(JOB, threshold=0.5),
    "--shard": replace(JOB, shard=Shard(1, 4)),
}


@pytest.mark.parametrize("words", OTHERS)
def test_another_job_is_refused_by_name(tmp_path: Path, words: str) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        break_off(path, GOOD, error=KeyboardInterrupt)
    before = partial(path).read_bytes()
    with pytest.raises(UsageError, match=f"belongs to another job: {words} was") as caught:
        write(path, BAD, job=OTHERS[words], mode="resume")
    assert "--overwrite" in caught.value.hint
    assert partial(path).read_bytes() == before
    assert len(read(write(path, BAD, job=JOB, mode="resume"))) == 2


def test_every_field_of_a_job_is_compared() -> None:
    assert len(OTHERS) == len(JOB.to_record())


def test_rows_that_nobody_owns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    partial(path).write_text("path,label\nprecious,row\n")
    with pytest.raises(
        UsageError, match=r"p\.csv\.partial\.json, which records its job, is missing"
    ):
        write(path, GOOD, job=JOB, mode="resume")
    assert "precious" in partial(path).read_text()
    partial(path).with_name("p.csv.partial.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        write(path, GOOD, job=JOB, mode="resume")
    assert "precious" in partial(path).read_text()


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        break_off(path, GOOD, error=KeyboardInterrupt)
    path.write_text("somebody else's")
    with pytest.raises(UsageError, match="was created while its job was interrupted"):
        write(path, BAD, job=JOB, mode="resume")
    assert path.read_text() == "somebody else's"
    assert len(read(write(path, BAD, job=JOB, mode="overwrite"))) == 1


def test_what_began_as_overwrite_continues_as_such(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        break_off(path, GOOD, error=KeyboardInterrupt, mode="overwrite")
    assert len(read(write(path, BAD, job=JOB, mode="resume"))) == 2


def test_the_target_of_a_link_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "p.csv").symlink_to(tmp_path / "real" / "p.csv")
    write(tmp_path / "p.csv", GOOD, job=JOB)
    assert (tmp_path / "p.csv").is_symlink()
    assert len(read(tmp_path / "real" / "p.csv")) == 1
