"""What a run records about itself: its status, log, history and curves."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cnnclf.bounded import describe_fault, read_table
from cnnclf.errors import RunError
from cnnclf.files import read_json, write_csv_atomic
from cnnclf.full_disks import write_error
from cnnclf.progress import Progress, TaskContext
from cnnclf.runs.run_directory import RunDirectory, RunStatus
from cnnclf.runs.run_lock import holding_run
from cnnclf.runs.run_names import STATE_FILE
from cnnclf.training.epochs import EpochRow
from cnnclf.training.fitting.state import TrainingState

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo


@dataclass
class Outcome:
    """How a run ends if nothing goes wrong, and why; nothing if as planned."""

    status: RunStatus = RunStatus.FINISHED
    reason: str = ""


@contextmanager
def recorded(
    run: RunDirectory, runtime: "RuntimeInfo", *, seconds: Callable[[], float]
) -> Iterator[Outcome]:
    """Keep run.json's status and wall-clock time true, however the run ends.

    Args:
        run: The run; if it was resumed, the time of this leg is added to that of the former ones.
        runtime: What it runs on.
        seconds: Returns the seconds since the run began in this process.

    Raises:
        RunError: Another process is training in it.

    Yields:
        The status at the end of the with statement, which may be set.
    """
    with holding_run(run.path):
        run.remove_unfinished()
        record = run.update_run(
            status=RunStatus.RUNNING,
            why_ended=None,
            device=runtime.summary,
            precision=runtime.precision,
            precision_reason=runtime.precision_reason,
            seed=runtime.seed,
            versions=dict(runtime.versions),
        )
        outcome, status, reason = Outcome(), RunStatus.FAILED, None
        try:
            yield outcome
            status, reason = outcome.status, outcome.reason or None
        except KeyboardInterrupt:
            status = RunStatus.INTERRUPTED
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise
        finally:
            wall_s = (record.get("wall_s") or 0.0) + seconds()
            run.update_run(status=status, why_ended=reason, wall_s=round(wall_s, 3))


def draw_curves(run: RunDirectory, state: TrainingState, *, averaged: int = 1) -> None:
    """Draw the learning curves of all epochs; val is averaged over some to find the best."""
    from cnnclf.evaluation import learning_curves

    history = [row.to_dict() for row in state.history]
    learning_curves.draw_curves(history, run.curves, best_epoch=state.best_epoch, averaged=averaged)


def read_epochs(run: RunDirectory) -> list[EpochRow]:
    """Return the history up to the last checkpoint; epochs after it are run again.

    Raises:
        RunError: It is missing or damaged.
    """
    if run.status() is RunStatus.FINISHED and not run.last.exists():
        return _read_history(run)  # a run that was copied without the state that continues it
    path = run.find_checkpoint("last") / STATE_FILE
    hint = "train again into another --out"
    history: Any = read_json(path, hint=hint).get("history")
    try:
        return [EpochRow.from_dict(row) for row in history]
    except (TypeError, ValueError) as error:
        raise RunError(
            f"{path} is damaged: it has no whole history ({describe_fault(error)})", hint
        ) from error


def _read_history(run: RunDirectory) -> list[EpochRow]:
    def parse(row: dict[str, str]) -> EpochRow:
        return EpochRow.from_dict({name: text or None for name, text in row.items()})

    return read_table(run.history, parse)


class HistoryFile:
    """Writes history.csv, one row per epoch."""

    def __init__(self, run: RunDirectory, rows: Iterable[EpochRow] = ()) -> None:
        self._path = run.history
        self._rows = [row.to_dict() for row in rows]

    def on_epoch(self, row: EpochRow, is_best: bool) -> None:  # noqa: ARG002
        """Write the file with one more row."""
        self._rows.append(row.to_dict())
        write_csv_atomic(self._path, [self._rows[0], *(row.values() for row in self._rows)])


class LoggedProgress:
    """Passes everything on, and writes notes, warnings and epochs to log.txt as well."""

    def __init__(self, progress: Progress, run: RunDirectory) -> None:
        self._progress = progress
        self._file = run.log
        self._is_lost = False

    def write(self, text: str) -> None:
        """Add a line to the log alone."""
        if self._is_lost:
            return
        try:
            with self._file.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        except OSError as error:  # hours of training are worth more than its log
            self._is_lost = True
            problem = write_error(self._file, error)
            self._progress.warn(f"{problem.message}; training continues without a log")

    def on_epoch(self, row: EpochRow, is_best: bool) -> None:
        """Log an epoch in one line."""
        figures = (
            ("loss", row.loss),
            ("accuracy", row.accuracy),
            ("val_loss", row.val_loss),
            ("val_accuracy", row.val_accuracy),
        )
        parts = [f"{name} {figure:.4f}" for name, figure in figures if figure is not None]
        best = ", best so far" if is_best else ""
        self.write(f"{row.phase} epoch {row.epoch}, {', '.join(parts)}{best}")

    def task(
        self, name: str, total: int | None, *, unit: str, since: float | None = None
    ) -> TaskContext:
        """Open a task."""
        return self._progress.task(name, total, unit=unit, since=since)

    def row(self, table: str, figures: Mapping[str, object]) -> None:
        """Pass a row on."""
        self._progress.row(table, figures)

    def note(self, text: str) -> None:
        """Log and pass on."""
        self.write(text)
        self._progress.note(text)

    def warn(self, text: str) -> None:
        """Log and pass on."""
        self.write(f"warning: {text}")
        self._progress.warn(text)
