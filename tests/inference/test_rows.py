"""Rows and files of rows."""

import csv
import json
import os
from pathlib import Path

import pytest

from cnnclf.errors import DeviceError, RunError, UsageError
from cnnclf.inference.rows import Columns, Prediction, open_rows

GOOD = Prediction("a,b.jpg", (("cat", 0.75), ("dog", 0.2499999999), ("cow", 1e-10)))
UNSURE = Prediction("ü.jpg", (("dog", 0.4), ("cat", 0.35)), is_unknown=True)
BAD = Prediction("bad.jpg", error="expected a picture, received text")
MOVED = Prediction("c.jpg", (("cat", 1.0),), placed="out/cat/c.jpg")


def write(path: Path, columns: Columns, *rows: Prediction) -> str:
    with open_rows(path, columns) as writer:
        for row in rows:
            writer.write(row)
    return path.read_text(encoding="utf-8")


def test_csv(tmp_path: Path) -> None:
    text = write(tmp_path / "sub" / "p.csv", Columns(2), GOOD, UNSURE, BAD)
    assert text == (
        "path,label,probability,label_2,probability_2,error\n"
        '"a,b.jpg",cat,0.75,dog,0.25,\n'
        "ü.jpg,unknown,0.4,cat,0.35,\n"
        'bad.jpg,,,,,"expected a picture, received text"\n'
    )
    assert [entry.name for entry in (tmp_path / "sub").iterdir()] == ["p.csv"]


def test_columns_follow_the_options(tmp_path: Path) -> None:
    columns = Columns(1, nearest=True, placed=True)
    rows = list(csv.DictReader(write(tmp_path / "p.csv", columns, UNSURE, MOVED, BAD).splitlines()))
    assert list(rows[0]) == ["path", "label", "probability", "nearest", "placed", "error"]
    assert [row["label"] for row in rows] == ["unknown", "cat", ""]
    assert [row["nearest"] for row in rows] == ["dog", "cat", ""]
    assert [row["placed"] for row in rows] == ["", "out/cat/c.jpg", ""]


def test_jsonl(tmp_path: Path) -> None:
    lines = write(tmp_path / "p.jsonl", Columns(3), GOOD, BAD).splitlines()
    assert json.loads(lines[0]) == {
        "path": "a,b.jpg",
        "label": "cat",
        "probability": 0.75,
        "label_2": "dog",
        "probability_2": 0.25,
        "label_3": "cow",
        "probability_3": 1e-10,
        "error": None,
    }
    assert json.loads(lines[1])["label"] is None


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on posix only")
def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    row = Prediction(os.fsdecode(b"b\xe4r.jpg"), (("cat", 1.0),))
    with open_rows(tmp_path / "p.csv", Columns(1)) as writer:
        writer.write(row)
    assert b"b\xe4r.jpg,cat" in (tmp_path / "p.csv").read_bytes()
    with open_rows(tmp_path / "p.jsonl", Columns(1)) as writer:
        writer.write(row)
    assert json.loads((tmp_path / "p.jsonl").read_text(encoding="utf-8"))["path"] == row.path


def test_work_broken_off_keeps_the_old_file_and_the_rows_so_far(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("old")

    def broken_off() -> None:
        with open_rows(path, Columns(1)) as writer:
            writer.write(BAD)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert path.read_text() == "old"
    assert "bad.jpg" in (tmp_path / "p.csv.partial").read_text()
    assert "bad.jpg" in write(path, Columns(1), BAD)
    assert not (tmp_path / "p.csv.partial").exists()


@pytest.mark.parametrize("name", ["p.txt", "p", "p.xlsx"])
def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        write(tmp_path / name, Columns(1))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        write(tmp_path / "p.csv", Columns(1))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write(tmp_path / "file" / "p.csv", Columns(1))


def test_a_full_disk_is_a_device_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "p.csv").symlink_to(full)

    def fill() -> None:
        with open_rows(tmp_path / "p.csv", Columns(1)) as writer:
            for _ in range(10_000):
                writer.write(BAD)

    with pytest.raises(DeviceError, match="disk is full"):
        fill()
