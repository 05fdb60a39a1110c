"""Where the rows of a prediction and their summary go: a file, a table, CSV or JSON on stdout."""

import contextlib
import json as json_module
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnclf.cli.output import SCHEMA_VERSION, out
from cnnclf.cli.words import count_cells, encodable, format_rate, pad_cells, safe_json, safe_text
from cnnclf.errors import CnnclfError, ExitCode
from cnnclf.names import count_of, name_some

if TYPE_CHECKING:
    from cnnclf.cli.predict_request import Sorting
    from cnnclf.config import PredictConfig
    from cnnclf.prediction.inputs import ImageInputs
    from cnnclf.prediction.job import PredictionJob
    from cnnclf.prediction.label_pipeline import PredictOptions
    from cnnclf.prediction.row_file import Mode
    from cnnclf.prediction.rows import Prediction, RowColumns, RowWriter
    from cnnclf.prediction.summary import PredictSummary, SoFar

_PAST_TENSE = {"copy": "copied", "link": "linked", "move": "moved"}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz")
_MAX_LABELS = 12  # in the summary line; --json has all


@dataclass(frozen=True)
class RowTarget:
    """Where rows are to be written.

    Args:
        path: The file; None for stdout.
        mode: What happens to an existing file.
        sorting: How files are sorted; rows then contain the new path.
        config: What is written.
        csv_safe: See `RowColumns`.
    """

    path: Path | None
    mode: "Mode"
    sorting: "Sorting | None"
    config: "PredictConfig"
    csv_safe: bool = False


@dataclass(frozen=True)
class Sink:
    """An open target of rows."""

    rows: "RowWriter"
    so_far: "SoFar"
    end: Callable[["PredictSummary"], None]


def choose_columns(
    target: RowTarget, labels: tuple[str, ...], *, options: "PredictOptions"
) -> "RowColumns":
    """Return the columns that rows have."""
    from cnnclf.prediction.rows import RowColumns

    config, by_distance = target.config, options.rules.unknown_by != "probability"
    return RowColumns(
        options.top_k,
        nearest=by_distance or options.threshold is not None,
        placed=target.sorting is not None,
        csv_safe=target.csv_safe,
        classes=labels if config.all_probabilities else (),
        identity=config.id_column,
        views=config.views,
        sets=options.rules.set_words,
        # A file that is to be submitted has no column that was not asked for.
        familiar=options.rules.familiar_words if config.id_column == "path" or by_distance else "",
    )


@contextlib.contextmanager
def open_sink(
    target: RowTarget,
    labels: tuple[str, ...],
    *,
    checksum: str,
    options: "PredictOptions",
    inputs: "ImageInputs",
) -> Iterator[Sink]:
    """Open a file or stdout for the rows of a job."""
    from cnnclf.prediction.job import PredictionJob

    columns = choose_columns(target, labels, options=options)
    if target.path is None:
        yield _open_stdout_sink(columns, labels)
        return
    job = PredictionJob.describe(
        checksum,
        inputs.inputs,
        columns=columns,
        threshold=options.threshold,
        shard=inputs.shard,
    )
    resumable = None if target.sorting is not None else job
    with open_file_sink(target.path, columns, job=resumable, mode=target.mode) as sink:
        yield sink


def report_finished(
    path: Path, inputs: list[str], *, model: str, kind: str, asked: Mapping[str, object]
) -> ExitCode | None:
    """Report a job whose rows are complete already: nothing is left to do."""
    from cnnclf.prediction.row_file import settle_finished

    if not settle_finished(path, inputs, model=model, asked=asked):
        return None
    more = _find_new(path, inputs, kind=kind, shard=asked.get("shard"))
    if more:
        word = "file has" if len(more) == 1 else "files have"
        out.warn(
            f"the job of {path} is finished, but {len(more):,} {word} no row: {name_some(more)}"
        )
        out.hint("label all again with --overwrite, or the new ones into another --out")
    else:
        out.note(f"rows: {path}; they are complete, there was nothing left to do")
    out.json({"finished": path, "without_rows": len(more)})
    return ExitCode.SOME_FAILED if more else ExitCode.OK


def _find_new(path: Path, inputs: list[str], *, kind: str, shard: object) -> list[str]:
    """Return the files that came after a job was finished."""
    from cnnclf.prediction.inputs import PAUSE, ImageInputs
    from cnnclf.prediction.row_file import read_done
    from cnnclf.prediction.sharding import parse_shard

    if "-" in inputs:
        return []
    found = ImageInputs(
        inputs,
        shard=None if shard is None else parse_shard(str(shard)),
        kind=kind,
        may_be_empty=True,
    ).find()
    done, names = read_done(path), [each.path for each in found if each is not PAUSE]
    # the second as --csv-safe writes it
    return [name for name in names if not (done.take(name) or done.take(f"'{name}"))]


@contextlib.contextmanager
def open_file_sink(
    path: Path, columns: "RowColumns", *, job: "PredictionJob | None", mode: "Mode"
) -> Iterator[Sink]:
    """Open a file of rows; on an interruption, report where the rows so far are."""
    from cnnclf.prediction.row_file import name_partial, open_rows

    with open_rows(path, columns, job=job, mode=mode) as rows:
        try:
            yield Sink(rows, rows.so_far, _end)
        except (KeyboardInterrupt, CnnclfError) as error:
            partial = name_partial(path)
            if partial is not None and rows.kept:
                out.warn(f"{count_of(rows.kept, 'row')} kept in {partial}")
                if job is not None:
                    error.add_note("the same command with --resume continues")
            raise
    out.note(f"rows: {path}")


def _open_stdout_sink(columns: "RowColumns", labels: tuple[str, ...]) -> Sink:
    """Write rows to stdout: a document with --json, a table on a terminal, else CSV."""
    from cnnclf.prediction.summary import SoFar

    if out.json_mode:
        rows = _JsonRows(columns)
        return Sink(rows, SoFar(), rows.end)
    if sys.stdout.isatty():
        return Sink(_TableRows(columns, labels), SoFar(), _end)
    return Sink(_CsvRows(columns), SoFar(), _end)


def show_summary(summary: "PredictSummary", sorting: "Sorting | None") -> None:
    """Show the summary of a job as notes on stderr."""
    common = summary.counts.most_common()
    counts = [f"{label} {count:,}" for label, count in common[:_MAX_LABELS]]
    if len(common) > _MAX_LABELS:
        counts.append(f"{len(common) - _MAX_LABELS} more labels")
    parts = [", ".join(counts)] if counts else []
    if sorting is not None:
        verb = f"would {sorting.mode}" if sorting.dry_run else _PAST_TENSE[sorting.mode]
        parts.append(f"{verb} {summary.placed:,} to {sorting.directory}")
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    if summary.earlier:
        parts.append(f"{summary.earlier:,} of them from the interrupted job")
    rate = format_rate(summary.images_per_s)
    out.note(f"{count_of(summary.files, 'image')} ({rate}/s): {'; '.join(parts)}")
    if summary.earlier and summary.files == summary.earlier:
        out.note("there was nothing left to do")
    if summary.limit is not None:
        out.note(str(summary.limit))
    if summary.unsure:  # before the warning: hints after one are part of it, even with --quiet
        out.hint(_advise_on_unsure(summary))
    if summary.unfamiliar > summary.unlike:
        found = count_of(summary.unfamiliar - summary.unlike, "image")
        out.hint(
            f"{found} unlike anything learned: --unknown-by both labels such images as unknown"
        )
    if summary.failed:
        examples = "; ".join(f"{path}: {error}" for path, error in summary.examples)
        more = "; ..." if summary.failed > len(summary.examples) else ""
        out.warn(
            f"{summary.failed:,} of {count_of(summary.files, 'file')} failed: {examples}{more}"
        )
        _advise_on_failed(summary)


def _advise_on_failed(summary: "PredictSummary") -> None:
    """Say how files are given that are no images, but hold or name some."""
    for path, error in summary.examples:
        if error.endswith(": text") and path.lower().endswith(".txt"):
            out.hint(f"a list of paths is given with @ before it: @{path}")
        elif path.lower().endswith(_ARCHIVES):
            out.hint(f"unpack {path}, and give the folder")


def _advise_on_unsure(summary: "PredictSummary") -> str:
    limit = summary.unsure_below
    found = f"{count_of(summary.unsure, 'image')} with no class above {100 * limit:.0f} %"
    if summary.unlike:
        found += f", {summary.unlike:,} of them unlike anything learned"
    labeled = summary.files - summary.failed
    if labeled > 1 and summary.unsure > labeled / 2:  # a threshold would leave few labels
        return f"{found}, most of them: cnnclf evaluate shows how accurate the model is"
    return f"{found}: --threshold {limit:.2g} labels such images as unknown"


def summary_fields(summary: "PredictSummary") -> dict[str, object]:
    """Return a summary as JSON values for `--json`."""
    limit = summary.limit
    return {
        "files": summary.files,
        "earlier": summary.earlier,
        "failed": summary.failed,
        "placed": summary.placed,
        "unfamiliar": summary.unfamiliar,
        "counts": dict(summary.counts.most_common()),
        "seconds": round(summary.seconds, 3),
        "images_per_s": round(summary.images_per_s, 1),
        "limit": limit and {"stage": limit.stage, "share": round(limit.share, 3)},
    }


def _end(summary: "PredictSummary") -> None:
    out.json(summary_fields(summary))


class _StdoutRows:
    """Base of the rows on stdout."""

    def flush(self) -> None:
        """Send the rows to the reader of the pipe."""
        sys.stdout.flush()


class _CsvRows(_StdoutRows):
    """CSV for a pipe."""

    def __init__(self, columns: "RowColumns") -> None:
        from cnnclf.prediction.rows import CSV

        self._columns = columns
        self._line = CSV.line
        out.data(CSV.heading(columns))

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        out.data(self._line(prediction, self._columns))


class _JsonRows(_StdoutRows):
    """A JSON document that is written row by row."""

    def __init__(self, columns: "RowColumns") -> None:
        self._columns = columns
        self._lead = f'{{"schema_version": {SCHEMA_VERSION}, "rows": [\n'

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        from cnnclf.prediction.rows import json_line

        text = json_line(prediction, self._columns).rstrip("\n")
        if encodable(text, sys.stdout.encoding) != text:
            text = json_module.dumps(json_module.loads(text))
        if sys.stdout.isatty():
            text = safe_json(text)
        out.data(self._lead + text)
        self._lead = ",\n"

    def end(self, summary: "PredictSummary") -> None:
        """Close the list of rows and append the summary."""
        fields = json_module.dumps(summary_fields(summary))
        # Without any rows, as in an empty shard, the list is not open yet.
        opened = "" if self._lead == ",\n" else self._lead
        out.data(f"{opened}\n], {fields[1:]}\n")


class _TableRows(_StdoutRows):
    """Lines of a table, aligned without knowing later paths."""

    def __init__(self, columns: "RowColumns", labels: tuple[str, ...]) -> None:
        words = ("label", *labels, *(("unknown",) if columns.nearest else ()))
        self._width = min(max(count_cells(safe_text(each)) for each in words), 24)
        self._indent = self._width + len("  probability  ")
        out.data(f"{'label':<{self._width}}  probability  path\n")

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        ranking = prediction.ranking
        others = ranking if prediction.is_unknown else ranking[1:]
        best = f"{ranking[0][1]:.4f}" if ranking else "-"
        label = pad_cells(safe_text(prediction.label or "-"), self._width)
        words = [f"{label}  {best:>11} ", str(prediction.path)]
        if prediction.label_set:
            words += _enclose("{", prediction.label_set, "}")
        if prediction.is_unfamiliar:
            words.append(" unlike anything learned")
        if prediction.placed:
            words.append(f"-> {prediction.placed}")
        if others:
            words += _enclose("(", [f"{label} {value:.4f}" for label, value in others], ")")
        if prediction.error:
            words += [" error:", *prediction.error.split(" ")]
        out.row(words, indent=self._indent)


def _enclose(opening: str, items: Sequence[str], closing: str) -> list[str]:
    """Return items as words of a list in brackets, with one more space before it."""
    last = len(items) - 1
    return [
        ("" if at else f" {opening}") + item + ("," if at < last else closing)
        for at, item in enumerate(items)
    ]
