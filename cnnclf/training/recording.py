"""What a run writes about itself while it goes: its status, log, history and curves."""

import csv
import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cnnclf.errors import RunError
from cnnclf.files import read_json, write_error, write_text_atomic
from cnnclf.progress import Progress, TaskContext
from cnnclf.runs import STATE_FILE, RunDirectory
from cnnclf.training.fitting.state import TrainingState

if TYPE_CHECKING:
    from cnnclf.runtime import RuntimeInfo


@contextmanager
def recorded(run: RunDirectory, runtime: "RuntimeInfo") -> Iterator[None]:
    """Keep run.json's status true, however the run ends."""
    started = time.perf_counter()
    run.update_run(
        status="running",
        device=runtime.summary,
        seed=runtime.seed,
        versions=dict(runtime.versions),
    )
    status = "failed"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        run.update_run(status=status, wall_s=round(time.perf_counter() - started, 3))


def draw_curves(run: RunDirectory, state: TrainingState) -> None:
    """Draw the learning curves of all epochs."""
    from cnnclf.evaluation import figures

    figures.draw_curves(state.history, run.curves, best_epoch=state.best_epoch)


def read_epochs(run: RunDirectory) -> list[dict[str, Any]]:
    """Return the history up to the last checkpoint; epochs after it are run again."""
    path = run.find_checkpoint("last") / STATE_FILE
    hint = "train again into another --out"
    history = read_json(path, hint=hint).get("history")
    if not isinstance(history, list):
        raise RunError(f"{path} is damaged: expected a history, received {history!r}", hint)
    return history


def write_history(run: RunDirectory, rows: list[dict[str, Any]]) -> None:
    """Write one row per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text_atomic(run.history, text.getvalue())


def epoch_line(row: dict[str, Any], *, is_best: bool) -> str:
    """Say how an epoch went, in one line."""
    parts = [f"epoch {row['epoch']}"] + [
        f"{name} {row[name]:.4f}"
        for name in ("loss", "accuracy", "val_loss", "val_accuracy")
        if row[name] is not None
    ]
    return ", ".join(parts) + (", best so far" if is_best else "")


class LoggedProgress:
    """Passes everything on and keeps notes, warnings and epochs in log.txt."""

    def __init__(self, progress: Progress, run: RunDirectory) -> None:
        self._progress = progress
        self._file = run.log

    def write(self, text: str) -> None:
        """Add a line to the log alone."""
        try:
            with self._file.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
        except OSError as error:
            raise write_error(self._file, error) from error

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
