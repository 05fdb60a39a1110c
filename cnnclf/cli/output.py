"""What the user sees: results on stdout, everything else on stderr.

All commands write through `out`. With --json, stdout carries one JSON document and the methods that
write for people write nothing there. Colors, widths and live bars depend on the stream: a terminal
gets them, a pipe gets plain lines. Characters that the console cannot encode are escaped.
Only this module, `live` and `help_layout` use rich.
"""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnnclf.cli.table_layout import (
    count_fitting,
    find_gap,
    natural_widths,
    right_aligned,
    squeeze,
    wrap_line,
    wrap_row,
    wrap_to_copy,
)
from cnnclf.cli.terminal_images import encode_image, find_protocol
from cnnclf.cli.words import count_cells, encodable, format_value, pad_cells, safe_json, safe_text
from cnnclf.errors import UsageError
from cnnclf.files import plain
from cnnclf.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

SCHEMA_VERSION = 1

_COMMAND_WORDS = ("cnnclf ", "pip ", "ulimit ")
_IMAGE_ROWS = 24  # lines that an image may take
_MANY = 12  # rows, which as records would take several screens
_MARKS = {"note": "", "hint": "cyan", "warning": "yellow", "error": "bold red"}


class Output:
    """Writes results and messages; `reset` restores the defaults for a new command.

    Attributes:
        json_mode: stdout carries one JSON document and nothing else (--json).
        quiet: no progress, no notes and no hints for the next step (--quiet); warnings, errors and
            their hints stay.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the mode and the streams of an earlier command in the same process."""
        self.json_mode = False
        self.quiet = False
        self._consoles: dict[str, Console] = {}
        self._has_written = False
        self._is_trouble = False  # the last message is a warning or an error

    # Results

    def table(
        self,
        title: str,
        columns: Sequence[str],
        *,
        rows: Iterable[Sequence[object]],
        needed: int = 2,
    ) -> None:
        """Write a table; on a terminal too narrow for it, its first columns or records.

        Args:
            title: A line above the table; empty for none.
            columns: The headings.
            rows: One sequence of values for each row; numbers are aligned to the right.
            needed: How many of the first columns a long table must have room for; otherwise each
                row is a record.
        """
        if self.json_mode:
            return
        cells = [[format_value(value) for value in row] for row in rows]
        self._title(title)
        width = self.width("stdout")
        if width is not None and not cells:
            return  # headings alone say nothing to a person
        if width is None:
            self._plain_table(columns, cells)
        elif gap := find_gap(columns, cells, width=width):
            self._rich_table(columns, cells, gap=gap)
        elif len(cells) > _MANY and (kept := count_fitting(columns, cells, width=width)) >= needed:
            cells = [row[:kept] for row in cells]
            gap = find_gap(columns[:kept], cells, width=width)
            self._rich_table(columns[:kept], cells, gap=gap)
            self.note(f"not shown at this width: {', '.join(columns[kept:])}; --json has them")
        else:
            for number, row in enumerate(cells):
                self.line("") if number else None
                self.line(row[0])
                self.pairs("", list(zip(columns[1:], row[1:], strict=True)), indent=2)

    def pairs(
        self,
        title: str,
        pairs: Mapping[str, object] | Iterable[tuple[str, object]],
        *,
        indent: int = 0,
    ) -> None:
        """Write names and values, one pair a line, values aligned.

        Args:
            title: A line above; empty for none.
            pairs: Names and values.
            indent: Spaces before each line.
        """
        if self.json_mode:
            return
        self._title(title)
        self._print_pairs("stdout", pairs, margin=" " * (indent or (2 if title else 0)))

    def line(self, text: str = "") -> None:
        """Write one line for people; nothing with --json. Line breaks in it are escaped."""
        if not self.json_mode:
            self._print("stdout", text)

    def row(self, words: Sequence[str], *, indent: int) -> None:
        """Write a line for people that a terminal breaks only between these words.

        Args:
            words: What stays whole.
            indent: Spaces before its last column, below which the line continues.
        """
        width = self.width("stdout")
        self.data(wrap_row([*map(safe_text, words)], width, indent=indent) + "\n")

    def image(self, pixels: "npt.NDArray[np.uint8]") -> bool:
        """Draw an image, on a terminal with colors that can show it.

        Args:
            pixels: uint8 [H, W, 3].

        Returns:
            Whether it was drawn.
        """
        console = self.console("stdout")
        if self.json_mode or not console.is_terminal or console.is_dumb_terminal:
            return False
        protocol = find_protocol(os.environ, console.color_system)
        if console.no_color or protocol is None or "utf" not in console.encoding:
            return False
        self.data(encode_image(pixels, protocol, columns=console.width, rows=_IMAGE_ROWS))
        return True

    def data(self, text: str) -> None:
        """Write text for machines to stdout unchanged, in every mode (CSV rows, JSON lines)."""
        self._is_trouble = False
        sys.stdout.write(encodable(text, sys.stdout.encoding))

    def json(self, data: Mapping[str, object]) -> None:
        """Write the machine result, with --json only.

        Args:
            data: Mappings, sequences, dataclasses, enums, paths, NumPy scalars and arrays are
                turned into JSON; numbers that are not finite become null.
        """
        if not self.json_mode:
            return
        document = {"schema_version": SCHEMA_VERSION, **plain(data)}
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        if encodable(text, sys.stdout.encoding) != text:
            text = json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False)
        self._is_trouble = False
        sys.stdout.write((safe_json(text) if sys.stdout.isatty() else text) + "\n")

    # Everything else

    def note(self, text: str) -> None:
        """Write a note."""
        if not self.quiet:
            self._message("note", text)

    def note_pairs(self, pairs: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        """Write names and values as notes, one pair per line, values aligned."""
        if not self.quiet:
            self._print_pairs("stderr", pairs)

    def warn(self, text: str) -> None:
        """Write a warning: the user may have to act."""
        self._message("warning", text)

    def hint(self, text: str) -> None:
        """Write a hint: the command or option that helps or, after a result, the next step."""
        if not self.quiet or self._is_trouble:
            self._message("hint", text)

    def error(self, text: str) -> None:
        """Write an error."""
        self._message("error", text)

    def trace(self, lines: Iterable[str]) -> None:
        """Write a traceback; what its lines quote is escaped.

        Args:
            lines: As made by `traceback.format_exception`; each may hold several lines.
        """
        for line in "".join(lines).rstrip("\n").split("\n"):
            self._print("stderr", line)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask on the terminal before something is removed.

        Args:
            question: Without the question mark's answers.
            yes: Whether the answer was given beforehand.

        Raises:
            UsageError: There is nobody to ask.
        """
        if yes:
            return True
        if sys.stdin is None or not sys.stdin.isatty() or not sys.stderr.isatty():
            raise UsageError(f"cannot ask without a terminal: {question}", "add --yes to agree")
        sys.stderr.write(f"{safe_text(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def progress(self) -> Progress:
        """Return a `Progress` for library code: live bars, plain lines or nothing."""
        from cnnclf.cli.live import LiveProgress

        return LiveProgress(self)

    def console(self, stream: Literal["stdout", "stderr"]) -> "Console":
        """Return the rich console of a stream."""
        if stream not in self._consoles:
            from rich.console import Console

            class PipeConsole(Console):
                def on_broken_pipe(self) -> None:
                    raise  # noqa: PLE0704 - called in an except block; `main` gives the exit code

            self._consoles[stream] = PipeConsole(
                stderr=stream == "stderr", highlight=False, markup=False, emoji=False
            )
        return self._consoles[stream]

    def is_live(self) -> bool:
        """Return whether stderr is a terminal that can move its cursor."""
        console = self.console("stderr")
        return console.is_terminal and not console.is_dumb_terminal

    def width(self, stream: Literal["stdout", "stderr"]) -> int | None:
        """Return the columns of the terminal, or None if lines may have any length."""
        console = self.console(stream)
        return console.width if console.is_terminal else None

    # How

    def _title(self, text: str) -> None:
        if text:
            if self._has_written:
                self.line()
            self._print("stdout", "", prefix=text, style="bold")

    def _print_pairs(
        self,
        stream: Literal["stdout", "stderr"],
        pairs: Mapping[str, object] | Iterable[tuple[str, object]],
        *,
        margin: str = "",
    ) -> None:
        items = [
            (safe_text(str(name)), format_value(value), value if isinstance(value, Path) else None)
            for name, value in (pairs.items() if isinstance(pairs, Mapping) else pairs)
        ]
        width = self.width(stream)
        longest = max((count_cells(name) for name, _, _ in items), default=0)
        room = None if width is None else max(width - len(margin) - longest - 2, 12)
        for name, value, path in items:
            lines = wrap_line(value, room)
            if room is not None and max(map(count_cells, lines)) > room:
                # A long path or command gets a line of its own, so that it can be copied.
                self._print(stream, margin + name)
                self._print(stream, f"{margin}  {value}", to_copy=True, link=path)
                continue
            first = f"{margin}{pad_cells(name, longest)}  {lines[0]}".rstrip()
            self._print(stream, first, link=path if len(lines) == 1 else None)
            for line in lines[1:]:
                self._print(stream, f"{margin}{'':<{longest}}  {line}")

    def _message(self, kind: str, text: str) -> None:
        self._is_trouble = kind in {"warning", "error"}
        prefix = "" if kind == "note" else f"{kind}: "
        holds_command = any(word in text for word in _COMMAND_WORDS)
        self._print("stderr", text, prefix=prefix, style=_MARKS[kind], to_copy=holds_command)

    def _print(
        self,
        stream: Literal["stdout", "stderr"],
        text: str,
        *,
        prefix: str = "",
        style: str = "",
        to_copy: bool = False,
        link: Path | None = None,
    ) -> None:
        """Write a line.

        Args:
            stream: Where.
            text: What.
            prefix: Comes before it, with the style.
            style: Of the prefix, in the words of rich.
            to_copy: Whether it stays one line although a terminal breaks it.
            link: The path that it ends with, if a terminal may open it.
        """
        from rich.text import Text

        console = self.console(stream)
        whole = encodable(safe_text(prefix + text), console.encoding)
        width = None if link is not None else self.width(stream)  # paths stay whole
        if stream == "stdout":
            self._has_written, self._is_trouble = True, False
        words = Text(wrap_to_copy(whole, width) if to_copy else "\n".join(wrap_line(whole, width)))
        words.stylize(style, 0, len(prefix))
        if link is not None and console.is_terminal and link.exists():
            words.stylize(f"link {_address(link)}", len(whole) - len(format_value(link)))
        if stream == "stdout" and hasattr(sys.stdout, "rich_proxied_file"):
            # A bar is shown on this terminal: only prints of its own console move above it.
            console = self.console("stderr")
        console.print(words, soft_wrap=True)

    def _plain_table(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        widths = natural_widths(columns, cells)
        right = right_aligned(cells) or [False] * len(columns)
        for row in [list(columns), *cells]:
            padded = (
                pad_cells(cell, width, right=is_right)
                for cell, width, is_right in zip(row, widths, right, strict=True)
            )
            self.line("  ".join(padded).rstrip())

    def _rich_table(
        self, columns: Sequence[str], cells: Sequence[Sequence[str]], *, gap: int
    ) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        console = self.console("stdout")
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap - 1, 0, 0)
        )
        right = right_aligned(cells)
        heads, *rows = (
            [encodable(safe_text(cell), console.encoding) for cell in row]
            for row in [columns, *cells]
        )
        widths = squeeze(heads, rows, width=console.width, gap=gap)
        for name, is_right, width in zip(heads, right, widths, strict=True):
            table.add_column(
                Text(name),
                justify="right" if is_right else "left",
                overflow="fold",
                width=width,
            )
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)


def _address(path: Path) -> str:
    """Return the address of a file; over SSH, its host is not the machine of the terminal."""
    host = platform.node() if "SSH_CONNECTION" in os.environ else ""
    return f"file://{host}{path.absolute().as_uri().removeprefix('file://')}"


out = Output()
