"""How library code tells the outside what it is doing, without knowing who listens.

The command line listens with live bars (`cli/output.py`); tests and programs may pass `Silent()`.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""

    def describe(self, text: str) -> None:
        """Replace the words beside the bar."""

    def expect(self, total: int) -> None:
        """Set or change how many units there are in all."""


TaskContext = AbstractContextManager[Task]


class Progress(Protocol):
    """Receives progress, notes and warnings."""

    def task(self, name: str, total: int | None, unit: str) -> TaskContext:
        """Open a task of `total` units (None: not known yet); use it in a with statement."""

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Add one row to the growing table named `table`, such as the figures of an epoch.

        The first row sets the columns; every row of one table has the same keys.
        """

    def note(self, text: str) -> None:
        """Say something worth knowing."""

    def warn(self, text: str) -> None:
        """Say something the user may have to act on."""


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
    def task(self, name: str, total: int | None, unit: str) -> Iterator[Task]:  # noqa: ARG002
        """Open a task nobody sees."""
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
