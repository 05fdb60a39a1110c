"""Progress on stderr: live bars on a terminal, a few plain lines elsewhere, nothing when quiet.

Part of the output (`cli/output.py`).
"""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnnclf.cli.words import (
    count_cells,
    encodable,
    format_rate,
    format_seconds,
    format_value,
    pad_cells,
    safe_text,
)
from cnnclf.names import count_of
from cnnclf.progress import SECONDS, STEPS, Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID

    from cnnclf.cli.output import Output

# Counting is cheap and may happen a million times; drawing is not, so it is done this often.
REDRAW_S = 0.1
UNSEEN_S = 0.05  # nobody waited for what took less, so its line says nothing
PLAIN_LINE_S = 10.0
BESIDE_ROWS_S = 60.0  # the rows of a table already show the progress in a log


class LiveProgress:
    """A `cnnclf.progress.Progress` for people.

    Tasks may run at the same time and count from several threads.
    """

    def __init__(self, screen: "Output") -> None:
        self._screen = screen
        self._lock = threading.RLock()
        self._bars: Bars | None = None
        self._stdout: _AboveBars | None = None
        self._open_tasks = 0
        self._widths: dict[str, list[int]] = {}
        self._plain_tasks: list[_PlainTask] = []

    @contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        """Show one task while the with statement runs, and one line when it has ended."""
        if self._screen.quiet:
            yield _Counter(name, total, unit, since)
            return
        if not self._screen.is_live():
            plain = _PlainTask(self._screen, name, total, unit, since)
            self._plain_tasks.append(plain)
            try:
                yield plain
                plain.close()
            finally:
                self._plain_tasks.remove(plain)
            return
        bar = _BarTask(self._open(), name, total, unit, since)
        try:
            yield bar
            if bar.seconds >= UNSEEN_S:
                self._screen.note(bar.summary())
        finally:
            bar.close()
            self._close()

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Print one row of a growing table; the first row of a table prints its heading."""
        cells = [format_value(value) for value in figures.values()]
        with self._lock:
            if table not in self._widths:
                self._widths[table] = [
                    max(count_cells(name), count_cells(cell), 6)
                    for name, cell in zip(figures, cells, strict=True)
                ]
                if self._has_room(table):
                    self._screen.note(_join(list(figures), self._widths[table]))
            if self._has_room(table):
                self._screen.note(_join(cells, self._widths[table]))
            else:
                pairs = zip(figures, cells, strict=True)
                shown = (f"{name} {cell}" for name, cell in pairs if cell)
                self._screen.note(", ".join(shown))
            for task in self._plain_tasks:
                task.give_way()

    def note(self, text: str) -> None:
        """Write a note."""
        self._screen.note(text)

    def warn(self, text: str) -> None:
        """Write a warning: the user may have to act."""
        self._screen.warn(text)

    def _has_room(self, table: str) -> bool:
        console = self._screen.console("stderr")
        needed = sum(self._widths[table]) + 2 * (len(self._widths[table]) - 1)
        return not console.is_terminal or needed <= console.width

    def _open(self) -> "Bars":
        from rich.progress import Progress as Bars

        with self._lock:
            if self._bars is None:
                console = self._screen.console("stderr")
                self._bars = Bars(
                    *_bar_columns(console.width),
                    console=console,
                    transient=True,
                    expand=False,
                    redirect_stdout=False,  # rich would wrap what machines read
                )
                self._bars.start()
                if sys.stdout.isatty():  # a file or pipe gets its own lines
                    self._stdout = sys.stdout = _AboveBars(sys.stdout, console)
            self._open_tasks += 1
            return self._bars

    def _close(self) -> None:
        with self._lock:
            self._open_tasks -= 1
            if self._bars is not None and self._open_tasks == 0:
                self._bars.stop()
                self._bars = None
                if self._stdout is not None:
                    sys.stdout = stream = self._stdout.rich_proxied_file
                    stream.write(self._stdout.rest)
                    self._stdout = None


class _AboveBars:
    """A stdout on the terminal of live bars: its lines appear above them, unchanged.

    Args:
        stream: The terminal; rich looks for it under this name.
        console: The console of the bars.

    Attributes:
        rest: The start of a line that has not ended yet.
    """

    def __init__(self, stream: Any, console: "Console") -> None:
        self.rich_proxied_file = stream
        self.rest = ""
        self._console = console

    def write(self, text: str) -> int:
        """Write the lines that have ended."""
        from rich.segment import Segment, Segments

        lines, line_end, self.rest = (self.rest + text).rpartition("\n")
        if line_end:
            self._console.print(Segments([Segment(lines + line_end)]), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the console has flushed the lines, and a line is not broken."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


class _Counter:
    """Counts units; the base of everything that is shown."""

    _every_s = float("inf")

    def __init__(self, name: str, total: int | None, unit: str, since: float | None) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.words = ""
        self._lock = threading.Lock()
        now = time.monotonic()
        self._started = now if since is None else since
        self._first: tuple[float, int] | None = None  # when the first units were done, and how many
        self._shown = now

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        with self._lock:
            self.done += amount
            now = time.monotonic()
            if self._first is None and amount:
                self._first = (now, self.done)
            if now - self._shown < self._every_s:
                return
            self._shown = now
        self._show()

    def describe(self, text: str) -> None:
        """Replace the text next to the bar."""
        self.words = text

    def expect(self, total: int) -> None:
        """Set or change the total number of units."""
        self.total = total

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def summary(self) -> str:
        """Return what was done, in what time, at what rate."""
        seconds = self.seconds
        if self.unit == SECONDS:
            return f"{self.name}: {format_seconds(seconds)}"
        text = f"{self.name}: {_amount(self.done, self.unit)} in {format_seconds(seconds)}"
        if seconds >= 1 and self.done and self.unit not in (STEPS, "epochs"):
            text += f" ({format_rate(self.done / seconds)} {self.unit}/s)"
        return text

    def _rate(self) -> float | None:
        """Return the units per second since the first ones, which may include a compilation."""
        began, before = self._first or (self._started, self.done)
        if self.unit == SECONDS:
            began, before = self._started, 0
        return (self.done - before) / max(time.monotonic() - began, 1e-9) or None

    def _show(self) -> None:
        pass


def _amount(count: int, unit: str) -> str:
    """Return "1 image", "2 images" or "2,032 kB"."""
    if unit.endswith("s"):
        return count_of(count, unit.removesuffix("s"))
    return f"{count:,} {unit}"


class _PlainTask(_Counter):
    """Writes a line at the start, at the end and now and then between."""

    def __init__(
        self, screen: "Output", name: str, total: int | None, unit: str, since: float | None
    ) -> None:
        super().__init__(name, total, unit, since)
        self._screen = screen
        self._every_s = PLAIN_LINE_S
        amount = "started" if total is None else _amount(total, unit)
        screen.note(f"{name}: {amount}")

    def close(self) -> None:
        """Write the last line."""
        self._screen.note(self.summary())

    def give_way(self) -> None:
        """Write less often: a row has just shown the progress."""
        with self._lock:
            self._shown = time.monotonic()
            self._every_s = BESIDE_ROWS_S

    def _show(self) -> None:
        rate = self._rate()
        parts = [f"{self.name}: {self.done:,}"]
        if self.total:
            parts[0] += f" of {self.total:,} {self.unit} ({100 * self.done / self.total:.0f} %)"
        if self.unit != STEPS and rate is not None:
            if self.unit != SECONDS:
                parts.append(f"{format_rate(rate)} {self.unit}/s")
            if self.total:
                left_s = max(self.total - self.done, 0) / rate
                parts.append(f"{format_seconds(left_s)} left")
        if self.words:
            parts.append(self.words)
        self._screen.note(", ".join(parts))


class _BarTask(_Counter):
    """Moves one live bar."""

    _every_s = REDRAW_S

    def __init__(
        self, bars: "Bars", name: str, total: int | None, unit: str, since: float | None
    ) -> None:
        super().__init__(name, total, unit, since)
        self._bars = bars
        encoding = bars.console.encoding
        self._id: TaskID = bars.add_task(
            encodable(safe_text(name), encoding), total=total, unit=unit, words=""
        )

    def close(self) -> None:
        """Remove the bar."""
        self._bars.remove_task(self._id)

    def describe(self, text: str) -> None:
        """Replace the text next to the bar."""
        super().describe(text)
        self._show()

    def expect(self, total: int) -> None:
        """Set or change the total number of units."""
        super().expect(total)
        self._show()

    def _show(self) -> None:
        words = encodable(safe_text(self.words), self._bars.console.encoding)
        self._bars.update(self._id, completed=self.done, total=self.total, words=words)


def _join(cells: list[str], widths: list[int]) -> str:
    return "  ".join(
        pad_cells(cell, width, right=True) for cell, width in zip(cells, widths, strict=True)
    )


def _counts(words: str) -> bool:
    """Return whether a text says how much is done, such as "epoch 2/9, loss 0.5"."""
    return words.startswith("epoch ")


def _bar_columns(width: int) -> list["ProgressColumn"]:
    """Choose the columns that fit; where there is little room, "epoch 2/9" replaces the count."""
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Task as BarState
    from rich.text import Text

    class Rate(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: BarState) -> Text:
            unit = task.fields["unit"]
            if not task.speed or unit in {STEPS, SECONDS}:
                return Text("")
            return Text(f"{format_rate(task.speed)} {unit}/s")

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: BarState) -> Text:
            return Text("") if task.fields["unit"] == STEPS else super().render(task)

    is_narrow = 60 <= width < 100

    class Count(ProgressColumn):
        def render(self, task: BarState) -> Text:
            if is_narrow and _counts(task.fields["words"]):
                return Text("")
            total = "" if task.total is None else f"/{task.total:,.0f}"
            return Text(f"{task.completed:,.0f}{total}")

    class Words(ProgressColumn):
        def render(self, task: BarState) -> Text:
            words = task.fields["words"]
            return Text("" if is_narrow and not _counts(words) else words)

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False)]
    if width >= 76:
        columns.append(BarColumn(bar_width=max(10, min(40, width - 76))))
    columns.append(Count())
    if width >= 60:
        columns.append(Rate())
    columns.append(TimeLeft(compact=True))
    if width >= 60:
        columns.append(Words())
    return columns
