"""Where the rows of a prediction go: a file, a table for people, CSV or JSON on stdout."""

import contextlib
import json as json_module
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import SCHEMA_VERSION, out
from cnnclf.cli.words import encodable, safe_text
from cnnclf.errors import CnnclfError

if TYPE_CHECKING:
    from cnnclf.prediction.job import Job
    from cnnclf.prediction.row_file import Mode
    from cnnclf.prediction.rows import Columns, Prediction, RowWriter
    from cnnclf.prediction.summary import PredictSummary, SoFar


@dataclass(frozen=True)
class Sink:
    """What takes rows.

    Args:
        rows: Takes them.
        so_far: What is there already, if a job goes on.
        end: Writes what follows the last row.
    """

    rows: "RowWriter"
    so_far: "SoFar"
    end: Callable[["PredictSummary"], None]


@contextlib.contextmanager
def open_file_sink(
    path: Path, columns: "Columns", *, job: "Job | None", mode: "Mode"
) -> Iterator[Sink]:
    """Write rows to a file; say where they are if the work is broken off.

    Args:
        path: As of `open_rows`.
        columns: What the rows hold.
        job: Who may go on with them later; None for nobody.
        mode: As of `open_rows`.
    """
    from cnnclf.prediction.row_file import name_partial, open_rows

    with open_rows(path, columns, job=job, mode=mode) as rows:
        try:
            yield Sink(rows, rows.so_far, _end)
        except (KeyboardInterrupt, CnnclfError) as error:
            partial = name_partial(path)
            if partial is not None and rows.kept:
                out.warn(f"{rows.kept:,} rows are in {partial}")
                if job is not None:
                    error.add_note("the same command with --resume goes on")
            raise
    out.note(f"rows: {path}")


def open_stdout_sink(columns: "Columns", labels: tuple[str, ...]) -> Sink:
    """Write rows to stdout: one document with --json, a table for people, CSV for a pipe."""
    from cnnclf.prediction.summary import SoFar

    if out.json_mode:
        rows = _JsonRows(columns)
        return Sink(rows, SoFar(), rows.end)
    if sys.stdout.isatty():
        return Sink(_TableRows(columns, labels), SoFar(), _end)
    return Sink(_CsvRows(columns), SoFar(), _end)


def summary_fields(summary: "PredictSummary") -> dict[str, object]:
    """Give a summary as `--json` shows it."""
    limit = summary.limit
    return {
        "files": summary.files,
        "earlier": summary.earlier,
        "failed": summary.failed,
        "placed": summary.placed,
        "counts": dict(summary.counts.most_common()),
        "seconds": round(summary.seconds, 3),
        "images_per_s": round(summary.images_per_s, 1),
        "limit": limit and {"stage": limit.stage, "share": round(limit.share, 3)},
    }


def _end(summary: "PredictSummary") -> None:
    out.json(summary_fields(summary))


class _StdoutRows:
    """What rows on stdout have in common."""

    def flush(self) -> None:
        """Let the reader of a pipe have them."""
        sys.stdout.flush()


class _CsvRows(_StdoutRows):
    """CSV for a pipe."""

    def __init__(self, columns: "Columns") -> None:
        from cnnclf.prediction.rows import CSV

        self._columns = columns
        self._line = CSV.line
        out.data(CSV.heading(columns))

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        out.data(self._line(prediction, self._columns))


class _JsonRows(_StdoutRows):
    """One JSON document, written while the rows come."""

    def __init__(self, columns: "Columns") -> None:
        self._columns = columns
        self._lead = f'{{"schema_version": {SCHEMA_VERSION}, "rows": [\n'

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        from cnnclf.prediction.rows import json_line

        text = json_line(prediction, self._columns).rstrip("\n")
        if encodable(text, sys.stdout.encoding) != text:
            text = json_module.dumps(json_module.loads(text))
        out.data(self._lead + text)
        self._lead = ",\n"

    def end(self, summary: "PredictSummary") -> None:
        """Close the list of rows and add the summary."""
        fields = json_module.dumps(summary_fields(summary))
        # Without any row, as a shard may be, the list is still to be opened.
        opened = "" if self._lead == ",\n" else self._lead
        out.data(f"{opened}\n], {fields[1:]}\n")


class _TableRows(_StdoutRows):
    """Lines for people, aligned without knowing the paths to come."""

    def __init__(self, columns: "Columns", labels: tuple[str, ...]) -> None:
        self._columns = columns
        self._width = min(max(map(len, (*labels, "unknown"))), 24)
        out.data(f"{'label':<{self._width}}  probability  path\n")

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        ranking = prediction.ranking
        others = ranking if prediction.is_unknown else ranking[1:]
        best = f"{ranking[0][1]:.4f}" if ranking else "-"
        line = f"{prediction.label or '-':<{self._width}}  {best:>11}  {prediction.path}"
        if prediction.placed:
            line += f" -> {prediction.placed}"
        if others:
            line += f"  ({', '.join(f'{label} {value:.4f}' for label, value in others)})"
        if prediction.error:
            line += f"  error: {prediction.error}"
        out.data(safe_text(line) + "\n")  # never wrapped, so that paths can be copied
