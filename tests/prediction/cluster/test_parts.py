"""A directory of parts: what it holds, how it gets its name, and how an interrupted job goes on."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from cnnclf.errors import DeviceError, RunError, UsageError
from cnnclf.prediction.cluster import parts as parts_module
from cnnclf.prediction.cluster.parts import PART_FORMATS, PartWriter, check_parts, open_parts
from cnnclf.prediction.job import PredictionJob
from cnnclf.prediction.row_file import FILE_FORMATS
from cnnclf.prediction.rows import Prediction, RowColumns

COLUMNS = RowColumns(2)
JOB = PredictionJob.describe("0" * 64, ["/photos"], columns=COLUMNS, threshold=None, shard=None)
ODD_NAME = os.fsdecode(b"caf\xe9.jpg")


def rows_of(*names: str) -> list[Prediction]:
    return [
        Prediction(name, error="no image")
        if name.startswith("bad")
        else Prediction(name, (("cat", 0.75), ("dog", 0.25)))
        for name in names
    ]


def read_paths(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path).column("path").to_pylist())
    if path.suffix == ".csv":
        with path.open(newline="", errors="surrogateescape") as file:
            return [row["path"] for row in csv.DictReader(file)]
    return [json.loads(line)["path"] for line in path.read_text().splitlines()]


def names_in(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def write(path: Path, suffix: str, *chunks: list[Prediction], stop: bool = False) -> None:
    """Do a job, or its beginning."""
    with open_parts(path, suffix, columns=COLUMNS, job=JOB, mode="resume") as parts:
        for index, rows in enumerate(chunks, parts.first):
            parts.writer.write(index, rows)
            parts.add(index)
        if stop:
            raise KeyboardInterrupt


def test_the_formats_are_those_of_files() -> None:
    assert [f".{name}" for name in PART_FORMATS] == list(FILE_FORMATS)


@pytest.mark.parametrize("suffix", FILE_FORMATS)
def test_each_chunk_is_a_part_and_nothing_else_is_left(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / "rows"
    write(path, suffix, rows_of("a", "bad"), rows_of("c"))
    assert names_in(path) == [f"part-000000{suffix}", f"part-000001{suffix}"]
    assert [read_paths(part) for part in sorted(path.iterdir())] == [["a", "bad"], ["c"]]
    assert names_in(path.parent) == ["rows"]


@pytest.mark.parametrize("suffix", FILE_FORMATS)
def test_an_interrupted_job_continues_after_its_parts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "rows"
    with pytest.raises(KeyboardInterrupt):
        write(path, suffix, rows_of("a", "bad"), rows_of(ODD_NAME), stop=True)
    assert not path.exists()
    (tmp_path / "rows.partial" / f".part-000002.12ab{suffix}").write_text("half a part")
    with open_parts(path, suffix, columns=COLUMNS, job=JOB, mode="resume") as parts:
        summary = parts.so_far.summary
        assert parts.first == 2
        assert (summary.files, summary.earlier, summary.failed) == (3, 3, 1)
        assert dict(summary.counts) == {"cat": 2}
        assert summary.examples == [("bad", "no image")]
        assert all(name in parts.so_far.done for name in ("a", "bad", ODD_NAME))
        parts.writer.write(2, rows_of("d"))
        parts.add(2)
    assert len(names_in(path)) == 3


def test_a_chunk_that_is_done_again_replaces_its_part(tmp_path: Path) -> None:
    write(tmp_path / "rows", ".csv", rows_of("a", "b"))
    writer = PartWriter(tmp_path / "rows", ".csv", COLUMNS)
    before = writer.path(0).read_bytes()
    writer.write(0, rows_of("a", "b"))
    assert writer.path(0).read_bytes() == before
    assert len(names_in(tmp_path / "rows")) == 1


def test_a_job_without_images_gives_an_empty_directory(tmp_path: Path) -> None:
    write(tmp_path / "rows", ".csv")
    assert names_in(tmp_path / "rows") == []


def test_a_part_that_went_to_another_disk_is_missed(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"a worker wrote .*part-000000\.csv"),
        open_parts(tmp_path / "rows", ".csv", columns=COLUMNS, job=JOB) as parts,
    ):
        parts.add(0)
    assert not (tmp_path / "rows").exists()


def test_a_node_without_the_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist") as caught:
        PartWriter(tmp_path / "none", ".csv", COLUMNS).check()
    assert "all nodes share" in caught.value.hint


def test_a_full_disk_is_reported_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DeviceError, match="the disk is full"):
        PartWriter(tmp_path, ".parquet", COLUMNS).write(0, rows_of("a"))
    assert names_in(tmp_path) == []


def finished(path: Path) -> None:
    write(path, ".csv", rows_of("a"))


def interrupted(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(path, ".csv", rows_of("a"), stop=True)


def a_file(path: Path) -> None:
    path.write_text("")


def foreign(path: Path) -> None:
    path.mkdir()
    (path / "letter.txt").write_text("precious")


@pytest.mark.parametrize(
    ("make", "mode", "message"),
    [
        (a_file, "new", "is a file"),
        (finished, "new", "exists"),
        (finished, "resume", "is finished"),
        (interrupted, "new", "interrupted job"),
        (foreign, "overwrite", "contains letter.txt"),
    ],
)
def test_what_is_there_is_not_replaced_unasked(
    tmp_path: Path, make: Callable[[Path], None], mode: str, message: str
) -> None:
    path = tmp_path / "rows"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=message):
        check_parts(path, ".csv", mode=mode)  # type: ignore[arg-type]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("make", [finished, interrupted])
def test_overwriting_starts_again(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "rows"
    make(path)
    with open_parts(path, ".jsonl", columns=COLUMNS, job=JOB, mode="overwrite") as parts:
        assert parts.first == 0
        assert not parts.so_far.summary.files
        parts.writer.write(0, rows_of("z"))
        parts.add(0)
    assert names_in(path) == ["part-000000.jsonl"]
    assert names_in(tmp_path) == ["rows"]


def test_an_interrupted_overwriting_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    finished(path)
    with (
        pytest.raises(KeyboardInterrupt),
        open_parts(path, ".csv", columns=COLUMNS, job=JOB, mode="overwrite"),
    ):
        raise KeyboardInterrupt
    assert read_paths(path / "part-000000.csv") == ["a"]
    write(path, ".csv", rows_of("b"))  # resumed, it may replace it
    assert read_paths(path / "part-000000.csv") == ["b"]


def test_another_job_or_format_does_not_continue(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    interrupted(path)
    other = replace(JOB, model="1" * 64)
    for suffix, job, message in (
        (".csv", other, "the model was"),
        (".jsonl", JOB, "are .csv files, not .jsonl"),
    ):
        with (
            pytest.raises(UsageError, match=message),
            open_parts(path, suffix, columns=COLUMNS, job=job, mode="resume"),
        ):
            pass


def test_directories_of_the_user_beside_it_are_left_alone(tmp_path: Path) -> None:
    path, mine = tmp_path / "rows", tmp_path / "rows.old" / "precious.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    finished(path)
    with open_parts(path, ".csv", columns=COLUMNS, job=JOB, mode="overwrite") as parts:
        parts.writer.write(0, rows_of("b"))
        parts.add(0)
    assert read_paths(path / "part-000000.csv") == ["b"]
    assert mine.read_text() == "mine"
    assert names_in(tmp_path) == ["rows", "rows.old"]


def test_a_link_leads_to_the_place(tmp_path: Path) -> None:
    (tmp_path / "disk" / "rows").mkdir(parents=True)
    (tmp_path / "rows").symlink_to(tmp_path / "disk" / "rows")
    write(tmp_path / "rows", ".csv", rows_of("a"))
    assert (tmp_path / "rows").is_symlink()
    assert names_in(tmp_path / "disk") == ["rows"]
    assert names_in(tmp_path / "disk" / "rows") == ["part-000000.csv"]


def test_what_cannot_be_replaced_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="the current directory"):
        check_parts(tmp_path, ".csv", mode="new")


def test_two_processes_do_not_write_the_same(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        open_parts(tmp_path / "rows", ".csv", columns=COLUMNS, job=JOB),
        pytest.raises(UsageError, match="another process"),
        open_parts(tmp_path / "rows", ".csv", columns=COLUMNS, job=JOB, mode="resume"),
    ):
        pass


def test_a_job_killed_before_its_directory_has_its_name_can_be_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts_module, "replace_directory_atomic", die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "rows", ".csv", rows_of("a"))
    write(tmp_path / "rows", ".csv")
    assert read_paths(tmp_path / "rows" / "part-000000.csv") == ["a"]
