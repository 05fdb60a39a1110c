"""Rows as text, and the same rows read again, however they are cut off."""

import csv
import io
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnclf.prediction.rows import CSV, JSON_LINES, Prediction, RowColumns, RowFormat

GOOD = Prediction("a,b.jpg", (("cat", 0.75), ("dog", 0.2499999999), ("cow", 1e-10)))
UNSURE = Prediction("ü.jpg", (("dog", 0.4), ("cat", 0.35)), is_unknown=True)
BAD = Prediction("bad.jpg", error="expected an image, received text")
MOVED = Prediction("c.jpg", (("cat", 1.0),), placed="out/cat/c.jpg")


def lines(form: RowFormat, columns: RowColumns, *rows: Prediction) -> str:
    return form.heading(columns) + "".join(form.line(row, columns) for row in rows)


def test_csv() -> None:
    assert lines(CSV, RowColumns(2), GOOD, UNSURE, BAD) == (
        "path,label,probability,label_2,probability_2,error\n"
        '"a,b.jpg",cat,0.75,dog,0.25,\n'
        "ü.jpg,unknown,0.4,cat,0.35,\n"
        'bad.jpg,,,,,"expected an image, received text"\n'
    )


def test_columns_follow_the_options() -> None:
    columns = RowColumns(1, nearest=True, placed=True)
    rows = list(csv.DictReader(lines(CSV, columns, UNSURE, MOVED, BAD).splitlines()))
    assert list(rows[0]) == ["path", "label", "probability", "nearest", "placed", "error"]
    assert [row["label"] for row in rows] == ["unknown", "cat", ""]
    assert [row["nearest"] for row in rows] == ["dog", "cat", ""]
    assert [row["placed"] for row in rows] == ["", "out/cat/c.jpg", ""]


def test_jsonl() -> None:
    good, bad = lines(JSON_LINES, RowColumns(3), GOOD, BAD).splitlines()
    assert json.loads(good) == {
        "path": "a,b.jpg",
        "label": "cat",
        "probability": 0.75,
        "label_2": "dog",
        "probability_2": 0.25,
        "label_3": "cow",
        "probability_3": 1e-10,
        "error": None,
    }
    assert json.loads(bad)["label"] is None


# --- read again

PATHS = st.one_of(
    st.text("ab,\"\r\n\t é\u2028=-@'", min_size=1, max_size=6),
    st.binary(min_size=1, max_size=6).filter(lambda raw: b"\0" not in raw).map(os.fsdecode),
)
ROWS = st.lists(
    st.builds(
        Prediction,
        path=PATHS,
        ranking=st.sampled_from([(), (("cat", 0.75), ('the "dog"', 0.25))]),
        error=st.sampled_from(["", "no,\nno"]),
    ),
    max_size=6,
)


def test_cells_that_a_spreadsheet_would_compute_are_quoted_if_asked_for() -> None:
    odd = Prediction("-a.jpg", (("=1+1", 0.9), ("+b", 0.1)), placed="'=x", error="@e")
    columns = RowColumns(2, placed=True)
    assert CSV.line(odd, columns) == "-a.jpg,=1+1,0.9,+b,0.1,'=x,@e\n"
    safe = columns._replace(csv_safe=True)
    assert CSV.line(odd, safe) == "'-a.jpg,'=1+1,0.9,'+b,0.1,''=x,'@e\n"


@given(ROWS, st.sampled_from([CSV, JSON_LINES]), st.data())
def test_whole_rows_come_back_however_the_file_is_cut(
    rows: list[Prediction], form: RowFormat, data: Any
) -> None:
    columns = RowColumns(2, csv_safe=data.draw(st.booleans()))
    heading = form.heading(columns).encode()
    parts = [form.line(row, columns).encode("utf-8", "surrogateescape") for row in rows]
    content = heading + b"".join(parts)
    cut = data.draw(st.integers(len(heading), len(content)))
    file = io.BytesIO(content[:cut])
    file.seek(len(heading))
    kept = list(form.read(file, columns))
    ends = [len(heading) + len(b"".join(parts[: at + 1])) for at in range(len(parts))]
    assert [row.end for row in kept] == [end for end in ends if end <= cut]
    assert [row.cells["path"] for row in kept] == [row.path for row in rows[: len(kept)]]
    assert [row.cells["error"] or "" for row in kept] == [row.error for row in rows[: len(kept)]]
    assert [row.cells["label"] or "" for row in kept] == [row.label for row in rows[: len(kept)]]


@pytest.mark.parametrize("form", [CSV, JSON_LINES])
@pytest.mark.parametrize(
    "damage", [b"\0" * 40, b"a,b\n", b"[1]\n", b'{"path": 1}\n', b"\xff\n", b"\n"]
)
def test_reading_ends_where_something_else_begins(form: RowFormat, damage: bytes) -> None:
    columns = RowColumns(2)
    good = form.line(GOOD, columns).encode()
    file = io.BytesIO(good + damage + good)
    assert [row.end for row in form.read(file, columns)] == [len(good)]


@given(ROWS)
def test_other_programs_read_the_csv(rows: list[Prediction]) -> None:
    text = io.StringIO(lines(CSV, RowColumns(1), *rows), newline="")
    assert [row["path"] for row in csv.DictReader(text)] == [row.path for row in rows]
