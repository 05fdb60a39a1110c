"""Runs the command line as a person does: on a pseudo-terminal, with stdout or stderr elsewhere."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyte

from tests.terminal.at_widths import END

WIDTHS = (60, 80, 120)
ROOT = Path(__file__).parents[2]

Stream = Literal["terminal", "pipe", "file", "full", "closed"]


@dataclass(frozen=True)
class Shown:
    """What one run left behind.

    Args:
        code: The exit code.
        stdout: What went to a pipe or file; on a terminal, what the terminal got.
        stderr: Likewise.
        screen: The lines that a person sees when the command has ended, if there is a terminal.
    """

    code: int
    stdout: str
    stderr: str
    screen: tuple[str, ...]


def run(
    *arguments: object,
    stdout: Stream = "terminal",
    stderr: Stream = "terminal",
    columns: int = 80,
    module: str = "cnnclf",
    timeout_s: float = 120,
    cwd: Path = ROOT,
    **environment: str,
) -> Shown:
    """Run `python -m MODULE ARGUMENTS...` and give what it showed.

    Args:
        *arguments: Of the command line.
        stdout: Where it leads; `full` is a disk without room, `closed` no descriptor at all.
        stderr: Likewise.
        columns: Of the terminal, which has 50 lines.
        module: What to run.
        timeout_s: After which it is killed.
        cwd: Where it runs.
        **environment: More variables.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    received: dict[str, bytearray] = {name: bytearray() for name in ("tty", "stdout", "stderr")}
    readers = []
    files: dict[str, Any] = {}
    closed = [name for name, kind in (("1", stdout), ("2", stderr)) if kind == "closed"]
    for name, kind in (("stdout", stdout), ("stderr", stderr)):
        if kind == "terminal":
            files[name] = theirs
        elif kind in {"pipe", "file"}:
            reading, files[name] = os.pipe()
            readers.append(_read(os.fdopen(reading, "rb"), received[name]))
        else:
            files[name] = os.open("/dev/full" if kind == "full" else os.devnull, os.O_WRONLY)
    words = [sys.executable, "-m", module, *map(str, arguments)]
    if closed:  # a shell closes descriptors for good; Popen cannot
        redirect = " ".join(f"{number}>&-" for number in closed)
        words = ["sh", "-c", f'exec "$@" {redirect}', "sh", *words]
    process = subprocess.Popen(
        words,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=files["stdout"],
        stderr=files["stderr"],
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "", **environment},
    )
    for descriptor in {*files.values(), theirs}:
        os.close(descriptor)
    readers.append(_read(os.fdopen(ours, "rb", buffering=0), received["tty"]))
    code = process.wait(timeout_s)
    for reader in readers:
        reader.join(timeout_s)
    texts = {name: bytes(data).decode("utf-8", "replace") for name, data in received.items()}
    return Shown(
        code,
        texts["tty" if stdout == "terminal" else "stdout"],
        texts["tty" if stderr == "terminal" else "stderr"],
        draw(bytes(received["tty"]), columns),
    )


def run_each(
    calls: Sequence[tuple[int, Sequence[object]]], *, timeout_s: float = 900, **environment: Any
) -> list[Shown]:
    """Run command lines in one process, each on a terminal of its own width.

    Args:
        calls: Columns and arguments.
        timeout_s: For all of them.
        **environment: More variables.
    """
    words = json.dumps([(columns, [*map(str, arguments)]) for columns, arguments in calls])
    whole = run(words, module="tests.terminal.at_widths", timeout_s=timeout_s, **environment)
    parts = whole.stdout.split(END)
    assert len(parts) == 2 * len(calls) + 1, whole.stdout
    return [
        Shown(int(code), text, text, draw(text.encode(), columns))
        for (columns, _), text, code in zip(calls, parts[::2], parts[1::2], strict=False)
    ]


def _read(stream: IO[bytes], into: bytearray) -> threading.Thread:
    def read() -> None:
        with stream:
            while True:
                try:
                    part = (
                        stream.read(4096) if stream.seekable() else os.read(stream.fileno(), 4096)
                    )
                except OSError:  # Linux says so when nobody has the other side of a terminal
                    return
                if not part:
                    return
                into.extend(part)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def draw(data: bytes, columns: int) -> tuple[str, ...]:
    """Give the lines that are on the screen, those that scrolled out of it included."""
    screen = pyte.HistoryScreen(columns, 50, history=100_000, ratio=1)
    stream = pyte.ByteStream(screen)
    stream.feed(data)
    above = [
        "".join(line[column].data for column in range(columns)).rstrip()
        for line in screen.history.top
    ]
    lines = [*above, *(line.rstrip() for line in screen.display)]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)
