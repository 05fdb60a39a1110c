"""How library code reports its progress, independent of who displays it.

The command line displays live bars (`cli/output.py`); tests and programs can pass `Silent()`.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

STEPS = "steps"
SECONDS = "seconds"
"""The unit of tasks whose steps differ, so that a rate or remaining time would be meaningless."""


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""

    def describe(self, text: str) -> None:
        """Set the text next to the bar."""

    def expect(self, total: int) -> None:
        """Set the total number of units."""


TaskContext = AbstractContextManager[Task]


class Progress(Protocol):
    """Receives progress, notes and warnings."""

    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> TaskContext:
        """Open a task; use it in a with statement.

        Args:
            name: What the task does, such as `decoding`.
            total: Number of units; None: unknown.
            unit: What is counted; for `STEPS` neither a rate nor the remaining time is shown, for
                `SECONDS` no rate.
            since: When the task began, as of `time.monotonic`; None: now.
        """

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Add a row to the table named `table`, such as the metrics of an epoch.

        The first row sets the columns; all rows of a table have the same keys.
        """

    def note(self, text: str) -> None:
        """Report information."""

    def warn(self, text: str) -> None:
        """Report something that the user may need to act on."""


class _SilentTask:
    def advance(self, amount: int = 1) -> None:
        pass

    def describe(self, text: str) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


class Silent:
    """A `Progress` that keeps rows, notes and warnings in lists and shows nothing."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, object]]] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    @contextmanager
    def task(
        self,
        name: str,  # noqa: ARG002
        total: int | None,  # noqa: ARG002
        *,
        unit: str,  # noqa: ARG002
        since: float | None = None,  # noqa: ARG002
    ) -> Iterator[Task]:
        """Open a task that is not displayed."""
        yield _SilentTask()

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Keep a row."""
        self.rows.append((table, dict(figures)))

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


class Abandoned(Exception):  # noqa: N818 - not an error
    """The result of a task is no longer needed."""


class Held:
    """A `Progress` for background work: it keeps all reports until there is a listener.

    The working thread reports to it. Another thread calls `release` when the screen is free, or
    `abandon` to stop the work at its next step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Callable[[Progress], None]] = []
        self._listener: Progress | None = None
        self._is_abandoned = False

    @property
    def listener(self) -> Progress | None:
        """The listener; None before `release`.

        Raises:
            Abandoned: The work was abandoned.
        """
        if self._is_abandoned:
            raise Abandoned
        return self._listener

    def release(self, listener: Progress) -> None:
        """Pass what was kept, and all later reports, to this listener."""
        with self._lock:
            for say in self._kept:
                say(listener)
            self._kept.clear()
            self._listener = listener

    def abandon(self) -> None:
        """Stop the work: its next step raises `Abandoned`."""
        self._is_abandoned = True

    @contextmanager
    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> Iterator[Task]:
        """Open a task that is displayed once there is a listener, if it has not ended."""
        with ExitStack() as stack:
            began = time.monotonic() if since is None else since

            def show(listener: Progress, total: int | None) -> TaskContext:
                return listener.task(name, total, unit=unit, since=began)

            yield _HeldTask(self, stack, show, total)

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Keep a row, or pass it on."""
        self._say(lambda listener: listener.row(table, figures))

    def note(self, text: str) -> None:
        """Keep a note, or pass it on."""
        self._say(lambda listener: listener.note(text))

    def warn(self, text: str) -> None:
        """Keep a warning, or pass it on."""
        self._say(lambda listener: listener.warn(text))

    def _say(self, say: Callable[[Progress], None]) -> None:
        with self._lock:
            if self._listener is None:
                self._kept.append(say)
            else:
                say(self._listener)


class _HeldTask:
    """Counts on its own until there is a listener; then the working thread opens the real task."""

    def __init__(
        self,
        progress: Held,
        stack: ExitStack,
        show: Callable[[Progress, int | None], TaskContext],
        total: int | None,
    ) -> None:
        self._progress = progress
        self._stack = stack
        self._show = show
        self._total = total
        self._done = 0
        self._words = ""
        self._shown: Task | None = None

    def advance(self, amount: int = 1) -> None:
        shown = self._find_shown()
        self._done += amount
        if shown is not None:
            shown.advance(amount)

    def describe(self, text: str) -> None:
        shown = self._find_shown()
        self._words = text
        if shown is not None:
            shown.describe(text)

    def expect(self, total: int) -> None:
        shown = self._find_shown()
        self._total = total
        if shown is not None:
            shown.expect(total)

    def _find_shown(self) -> Task | None:
        listener = self._progress.listener
        if listener is not None and self._shown is None:
            self._shown = self._stack.enter_context(self._show(listener, self._total))
            self._shown.advance(self._done)
            self._shown.describe(self._words)
        return self._shown
