import io
import json
import math
import re
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import pytest

from cnnclf.cli import live
from cnnclf.cli.live import _bar_columns
from cnnclf.cli.output import SCHEMA_VERSION, Output
from cnnclf.cli.words import format_ms, format_rate, format_seconds, format_value, safe_text
from cnnclf.progress import STEPS

LONG = "a-long-name-of-a-run-directory-without-any-space"


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class AsciiTerminal(Terminal):
    """A terminal that takes ASCII only, like its encoding says."""

    encoding = "ascii"

    def write(self, text: str) -> int:
        text.encode("ascii")
        return super().write(text)


def open_screen(
    monkeypatch: pytest.MonkeyPatch, columns: int, kind: type[Terminal]
) -> tuple[Terminal, Terminal]:
    stdout, stderr = kind(), kind()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return stdout, stderr


def rows_of(text: str) -> list[str]:
    """Give the lines that hold something, without colors."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    return [line.rstrip() for line in lines if line.strip()]


# Streams


def test_results_and_messages_take_different_streams(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.line("a result")
    out.note("a note")
    out.warn("look")
    out.error("expected a, received b")
    out.hint("try c")
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    assert captured.err == ("a note\nwarning: look\nerror: expected a, received b\nhint: try c\n")


def test_json_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.json_mode = True
    out.line("for people")
    out.table("title", ["a"], rows=[[1]])
    out.pairs("title", {"a": 1})
    out.json({"value": 1})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"schema_version": SCHEMA_VERSION, "value": 1}


def test_json_only_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Output().json({"value": 1})
    assert capsys.readouterr().out == ""


def test_quiet_keeps_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.quiet = True
    progress = out.progress()
    with progress.task("read", 3, unit="files") as task:
        task.advance(3)
    progress.row("epochs", {"epoch": 1})
    progress.note("a note")
    progress.warn("look")
    out.line("a result")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "warning: look\n")


@pytest.mark.parametrize("json_mode", [False, True])
def test_quiet_keeps_the_hints_of_errors_and_warnings_alone(
    json_mode: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Output()
    out.quiet, out.json_mode = True, json_mode
    out.hint("say more")
    out.warn("look")
    out.hint("there")
    out.warn("few images")
    out.line("a result")
    out.json({"value": 1})
    out.hint("what to do next")
    out.error("expected a, received b")
    out.hint("try c")
    lines = ["warning: look", "hint: there", "warning: few images"]
    lines += ["error: expected a, received b", "hint: try c"]
    assert capsys.readouterr().err.splitlines() == lines


def test_data_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.json_mode = True
    out.data("path,label\na.png,[bold]cat\n")
    assert capsys.readouterr().out == "path,label\na.png,[bold]cat\n"


# JSON


def test_json_holds_undecodable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, _ = open_screen(monkeypatch, 80, AsciiTerminal)
    out = Output()
    out.json_mode = True
    out.json({"path": "caf\u00e9-\udcff"})
    assert json.loads(stdout.getvalue())["path"] == "caf\u00e9-\udcff"


# Tables and pairs


def test_plain_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("Runs", ["run", "accuracy"], rows=[[LONG, 0.5], ["b", None], ["ni\u00f1o", 1.0]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Runs"
    assert lines[2] == f"{LONG}    0.5000"
    assert lines[3].endswith(" -")
    assert len({len(line) for line in lines[1:]}) == 1


def test_wide_characters_keep_columns_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("", ["label", "n"], rows=[["\u732b", 1], ["cat", 22]])
    assert capsys.readouterr().out.splitlines() == ["label   n", "\u732b      1", "cat    22"]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_table_on_a_terminal_shows_everything(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    stdout, _ = open_screen(monkeypatch, columns, Terminal)
    headings = ["run", "status", "test accuracy", "epochs", "parameters", "dataset"]
    Output().table("", headings, rows=[[LONG, "finished", 0.93123, 15, 89458, "fashion-mnist"]])
    lines = rows_of(stdout.getvalue())
    for expected in ("finished", "0.9312", "15", "89458", "fashion-mnist", *headings):
        assert any(expected in line for line in lines)
    assert all(len(line) <= columns for line in lines if line != LONG)
    first_column = "".join(re.split(r"\s{2,}", line)[0] for line in lines[2:])
    assert LONG in (lines[0], first_column)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_words_in_tables_stay_whole(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    names = ["mobilenetv3-small-0.75", "efficientnet-lite0", "runs/flowers-with-a-name-001"]
    rows = [[name, "some words that may be wrapped", name, 3.5] for name in names]
    stdout, _ = open_screen(monkeypatch, columns, Terminal)
    Output().table("", ["name", "what it is", "again", "figure"], rows=rows)
    lines = rows_of(stdout.getvalue())
    for name in names:
        assert sum(line.split().count(name) for line in lines) == 2
    assert all(len(line) <= columns for line in lines)


def test_tables_in_pipes_are_not_wrapped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    Output().table("", ["a", "b"], rows=[["word " * 20, "x" * 80]] * 2)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("", ["a", "b"], rows=[])
    assert capsys.readouterr().out == "a  b\n"


def test_pairs_wrap_under_their_value(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, _ = open_screen(monkeypatch, 40, Terminal)
    Output().pairs("", {"key": "word " * 20, "path": LONG * 2})
    lines = rows_of(stdout.getvalue())
    assert all(len(line) <= 40 for line in lines[:-1])
    assert lines[1].startswith("      word")
    assert lines[-2:] == ["path", f"  {LONG * 2}"]  # whole, to be copied


def test_messages_wrap_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 20, Terminal)
    Output().warn(f"three images could not be read in {LONG}")
    lines = rows_of(stderr.getvalue())
    assert lines == ["warning: three", "images could not be", "read in", LONG]


def test_markup_in_names_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.table("[red]", ["[bold]"], rows=[["[/] [link=x]"]])
    out.note("[1/2] :smile:")
    captured = capsys.readouterr()
    assert captured.out.split("\n")[:3] == ["[red]", "[bold]", "[/] [link=x]"]
    assert captured.err == "[1/2] :smile:\n"


def test_control_characters_in_names_are_shown_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Output()
    out.line("a\x1b[2Jb")
    out.pairs("", {"path": "c\rd"})
    out.warn("bad \x07 name")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert r"a\x1b[2Jb" in captured.out
    assert r"c\rd" in captured.out
    assert r"bad \x07 name" in captured.err


# What terminals obey: C0, DEL, C1, line breaks of Unicode, and what turns the reading direction.
HOSTILE = "a\nb\tc\rd\x1b[2J\x07\x7f\x85\x9b2J\u2028\u2029\u200f\u202e\u2066\u2069z"


def _write_json(out: Output) -> None:
    out.json_mode = True
    out.json({HOSTILE: [HOSTILE]})


def _run_task(out: Output) -> None:
    with out.progress().task(HOSTILE, 3, unit=HOSTILE) as task:
        task.describe(HOSTILE)
        task.advance(3)


WAYS: dict[str, Callable[[Output], object]] = {
    "line": lambda out: out.line(HOSTILE),
    "note": lambda out: out.note(HOSTILE),
    "warn": lambda out: out.warn(HOSTILE),
    "hint": lambda out: out.hint(HOSTILE),
    "command": lambda out: out.hint(f"cnnclf train {HOSTILE}"),
    "error": lambda out: out.error(HOSTILE),
    "trace": lambda out: out.trace([f"ValueError: {HOSTILE}\n"]),
    "table": lambda out: out.table(HOSTILE, [HOSTILE, "n"], rows=[[HOSTILE, 1], [[HOSTILE], None]]),
    "pairs": lambda out: out.pairs(HOSTILE, {HOSTILE: HOSTILE, "path": Path(HOSTILE)}),
    "notes": lambda out: out.note_pairs({HOSTILE: HOSTILE}),
    "json": _write_json,
    "row": lambda out: out.progress().row(HOSTILE, {HOSTILE: HOSTILE, "n": 1}),
    "task": _run_task,
}


@pytest.mark.parametrize("columns", [40, 120])
@pytest.mark.parametrize("way", WAYS)
def test_no_way_out_lets_a_terminal_obey_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, way: str, columns: int
) -> None:
    stdout, stderr = open_screen(monkeypatch, columns, Terminal)
    monkeypatch.setattr(live, "UNSEEN_S", 0)
    WAYS[way](Output())
    raw = stdout.getvalue() + stderr.getvalue()
    # The colors and cursor movements of our own do not count.
    text = re.sub(r"\x1b\[(\?25[lh]|[0-9;]*[mK]|1A)|\r", "", raw)
    assert {each for each in text if not each.isprintable()} <= {"\n"}
    if way != "trace":  # a traceback has lines of its own
        assert not re.search(r"^b", text, re.MULTILINE)  # one line stays one
    shown = "".join(text.split())
    assert "\\u202e" in shown
    assert "\\x9b" in shown or "\\u009b" in shown


def test_json_is_the_same_content_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, _ = open_screen(monkeypatch, 80, Terminal)
    WAYS["json"](Output())
    assert json.loads(stdout.getvalue())[HOSTILE] == [HOSTILE]
    assert "\n" in stdout.getvalue()[:-1]


def test_a_question_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 80, Terminal)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert Output().confirm(f"remove {HOSTILE}?", yes=False)
    assert stderr.getvalue().isprintable()


def test_ascii_console(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = open_screen(monkeypatch, 60, AsciiTerminal)
    out = Output()
    out.table("T\u00eete", ["caf\u00e9", "n"], rows=[["\u732b", 1]])
    out.pairs("\u2713", {"\u00e9": "\u00e8"})
    out.error("\udcff")
    with out.progress().task("d\u00e9coder", 2, unit="files") as task:
        task.advance()
    assert r"caf\xe9" in stdout.getvalue()
    assert r"\udcff" in stderr.getvalue()


def test_colors_on_a_terminal_only_if_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 80, Terminal)
    Output().error("x")
    assert "\x1b[" in stderr.getvalue()
    _, stderr = open_screen(monkeypatch, 80, Terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    Output().error("x")
    assert stderr.getvalue() == "error: x\n" or "\x1b[3" not in stderr.getvalue()


# Progress


def test_plain_progress_is_a_line_at_start_and_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress().task("decode", 2000, unit="files") as task:
        for _ in range(2000):
            task.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "decode: 2,000 files"
    assert lines[1].startswith("decode: 2,000 files in ")
    assert len(lines) == 2


def test_plain_progress_speaks_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Output().progress().task("decode", 100, unit="files") as task:
        task.describe("pass 1")
        for _ in range(50):
            clock[0] += 0.5
            task.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "decode: 20 of 100 files (20 %), 2 files/s, 40.0 s left, pass 1"
    assert len(lines) == 4
    assert lines[-1] == "decode: 50 files in 25.0 s (2 files/s)"


def test_total_that_is_learned_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Output().progress().task("list", None, unit="files") as task:
        clock[0] = 20.0
        task.advance(10)
        task.expect(40)
        clock[0] = 40.0
        task.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "list: started"
    assert lines[1] == "list: 10"  # the first ones give no rate: they may include the start
    assert lines[2] == "list: 20 of 40 files (50 %), 0.5 files/s, 40.0 s left"


def test_a_time_has_no_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Output().progress().task("tuning", 60, unit="seconds") as task:
        clock[0] = 20.0
        task.advance(20)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == ["tuning: 20 of 60 seconds (33 %), 40.0 s left", "tuning: 20.0 s"]


@pytest.mark.parametrize(("count", "said"), [(1, "1 kB"), (2032, "2,032 kB")])
def test_units_without_a_plural_stay_as_they_are(
    capsys: pytest.CaptureFixture[str], count: int, said: str
) -> None:
    with Output().progress().task("weights", count, unit="kB") as task:
        task.advance(count)
    first, last = capsys.readouterr().err.splitlines()
    assert first == f"weights: {said}"
    assert last.startswith(f"weights: {said} in ")


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
def test_live_bars(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    stdout, stderr = open_screen(monkeypatch, columns, Terminal)
    monkeypatch.setattr(live, "UNSEEN_S", 0)
    progress = Output().progress()
    with progress.task("outer", 3, unit="steps") as outer:
        with progress.task("inner", None, unit="files") as inner:
            inner.describe("words")
            inner.expect(5)
            inner.advance(5)
        progress.note("between")
        progress.row("epochs", {"epoch": 1, "loss": 0.5})
        outer.advance(3)
    text = " ".join(rows_of(stderr.getvalue()))
    assert "inner: 5 files in " in text
    assert "outer: 3 steps in " in text
    assert "between" in text
    assert stdout.getvalue() == ""


def test_what_takes_no_time_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 80, Terminal)
    with Output().progress().task("looking", 1, unit="files") as task:
        task.advance(1)
    assert "1 file in" not in stderr.getvalue()


def test_results_move_above_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = open_screen(monkeypatch, 80, Terminal)
    output = Output()
    with output.progress().task("explaining", 3, unit="images") as task:
        output.line("x.jpg: x 99.0 %")
        task.advance(3)
    output.line("after")
    assert stdout.getvalue() == "after\n", "on the same screen it would continue the bar's line"
    assert any("x.jpg: x 99.0 %" in row for row in rows_of(stderr.getvalue()))


def test_rows_for_machines_are_not_changed_by_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = open_screen(monkeypatch, 40, Terminal)
    output = Output()
    rows = ['{"path": "' + "a b " * 40 + '"}', "  a,[b]\tc,\u65e5\u672c" + "  x" * 40]
    with output.progress().task("predicting", 2, unit="images") as task:
        output.data(rows[0] + "\n" + rows[1])
        sys.stdout.flush()  # in the middle of a row
        task.advance(1)
        output.data("!\nrest")
    output.data(" of a row\n")
    above = stderr.getvalue()
    assert all(row in above for row in (rows[0] + "\n", rows[1] + "!\n"))
    assert stdout.getvalue() == "rest of a row\n"
    assert sys.stdout is stdout


def test_the_plain_progress_of_unlike_steps_guesses_no_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnnclf.cli.live.PLAIN_LINE_S", 0)
    began = time.monotonic() - 30
    with Output().progress().task("preparing", 3, unit=STEPS, since=began) as task:
        task.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["preparing: 3 steps", "preparing: 1 of 3 steps (33 %)"]
    assert re.fullmatch(r"preparing: 1 step in 30\.\d s", lines[2])


def test_the_first_images_do_not_count_for_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("cnnclf.cli.live.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("cnnclf.cli.live.PLAIN_LINE_S", 0)
    with Output().progress().task("training", 1000, unit="images") as task:
        for clock[0] in (100.0, 101.0, 102.0):  # the first waits for the compiler
            task.advance(100)
    assert capsys.readouterr().err.splitlines()[1:4] == [
        "training: 100 of 1,000 images (10 %)",
        "training: 200 of 1,000 images (20 %), 100 images/s, 8.0 s left",
        "training: 300 of 1,000 images (30 %), 100 images/s, 7.0 s left",
    ]


@pytest.mark.parametrize(
    ("unit", "words"), [(STEPS, "preparing 2/3"), ("images", "preparing 2/3 0.1 images/s 00:10")]
)
def test_the_live_bar_of_unlike_steps_guesses_no_time(unit: str, words: str) -> None:
    from rich.console import Console
    from rich.progress import Progress as Bars

    clock = [0.0]
    console = Console(file=io.StringIO(), width=75)
    bars = Bars(*_bar_columns(75), console=console, get_time=lambda: clock[0])
    number = bars.add_task("preparing", total=3, unit=unit, words="")
    for done in range(3):
        bars.update(number, completed=done)
        clock[0] += 10
    with console.capture() as shown:
        console.print(bars.get_renderable())
    assert " ".join(shown.get().split()) == words


def test_live_bars_end_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 80, Terminal)
    progress = Output().progress()

    def fail() -> None:
        with progress.task("outer", 3, unit="steps"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    text = stderr.getvalue()
    assert "outer: " not in text
    assert text.count("\x1b[?25h") == text.count("\x1b[?25l") > 0  # the cursor is back


def test_counting_from_threads_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Output().progress().task("decode", 8000, unit="files") as task:

        def count(_: int) -> None:
            for _ in range(1000):
                task.advance()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(count, range(8)))
    assert "decode: 8,000 files in" in capsys.readouterr().err


def test_rows_take_the_place_of_plain_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Output().progress()
    with progress.task("training", 100, unit="images") as task:
        progress.row("epochs", {"epoch": 1})
        for _ in range(50):
            clock[0] += 1
            task.advance()
        assert len(capsys.readouterr().err.splitlines()) == 3  # its start, heading and row
        clock[0] += 30
        task.advance()
        assert capsys.readouterr().err.startswith("training: 51 of 100 images")


def test_rows_grow_into_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Output().progress()
    progress.row("epochs", {"epoch": 1, "loss": 2.5, "val accuracy": 0.12341})
    progress.row("epochs", {"epoch": 10, "loss": 0.25, "val accuracy": None})
    assert capsys.readouterr().err.splitlines() == [
        " epoch    loss  val accuracy",
        "     1  2.5000        0.1234",
        "    10  0.2500             -",
    ]


def test_rows_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stderr = open_screen(monkeypatch, 20, Terminal)
    figures = {"epoch": 1, "loss": 2.5, "val accuracy": 0.5, "best": ""}
    Output().progress().row("epochs", figures)
    words = " ".join(rows_of(stderr.getvalue()))
    assert words == "epoch 1, loss 2.5000, val accuracy 0.5000"


def test_a_long_table_on_a_narrow_terminal_loses_its_last_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout, stderr = open_screen(monkeypatch, 20, Terminal)
    rows = [(f"network-{number}", 224, "stem..final") for number in range(20)]
    Output().table("", ("name", "size", "stages"), rows=rows)
    assert rows_of(stdout.getvalue())[-1] == "network-19   224"
    assert "not shown at this width: stages; --json has them" in " ".join(
        rows_of(stderr.getvalue())
    )
    stdout.truncate(0)
    Output().table("", ("name", "size", "stages"), rows=rows[:2])  # a short one shows all of it
    assert "stem..final" in stdout.getvalue()
    stdout.truncate(0)
    Output().table("", ("name", "size", "stages"), rows=rows, needed=3)  # records show all of it
    assert stdout.getvalue().count("stem..final") == 20


def test_a_hint_with_a_command_is_one_line_with_words_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, stderr = open_screen(monkeypatch, 20, Terminal)
    out = Output()
    out.hint("put the images of each class into a folder")
    out.hint("cnnclf train 'my photos' --out runs/1")
    *rows, command = rows_of(stderr.getvalue())
    assert rows == ["hint: put the images", "of each class into a", "folder"]
    # One line to copy, which a terminal of 20 columns breaks between words, but not within quotes.
    assert command == "hint: cnnclf train  'my photos' --out   runs/1"


# Words


class Color(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (True, "yes"),
        (3, "3"),
        (0.5, "0.5000"),
        (12.3456, "12.3456"),
        (0.0, "0.0000"),
        (4e-5, "4e-05"),
        (12345.6, "12,346"),
        ([1, "a"], "1, a"),
        (Color.RED, "red"),
        (math.nan, "nan"),
    ],
)
def test_format_value(value: object, expected: str) -> None:
    assert format_value(value) == expected


def test_format_quantities() -> None:
    assert [format_seconds(each) for each in (0.04, 59.94, 61, 3599.6, 7860)] == [
        "0.0 s",
        "59.9 s",
        "1 min 01 s",
        "1 h 00 min",
        "2 h 11 min",
    ]
    assert [format_ms(each) for each in (0.1234, 46.91, 999.4, 999.6, 3861.2)] == [
        *("0.123", "46.9", "999", "1,000", "3,861"),
    ]
    assert [format_rate(each) for each in (0.123, 5.5, 12.3, 5054)] == [
        "0.12",
        "5.5",
        "12",
        "5,054",
    ]


def test_safe_text_keeps_what_can_be_printed() -> None:
    assert safe_text("caf\u00e9 \u732b") == "caf\u00e9 \u732b"
    assert safe_text("a\nb\tc") == r"a\nb\tc"
    assert safe_text("x\u202ey") == "x\\u202ey"  # would turn the reading direction


def test_one_unit_is_singular(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress().task("explaining", 1, unit="images") as task:
        task.advance()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "explaining: 1 image"
    assert last.startswith("explaining: 1 image in ")
