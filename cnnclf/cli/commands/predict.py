"""`cnnclf predict`: label pictures with a trained model, as rows, as a table, or into folders."""

import contextlib
import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cnnclf.cli import options
from cnnclf.cli.output import SCHEMA_VERSION, out
from cnnclf.cli.words import encodable, format_rate, safe_text
from cnnclf.errors import CnnclfError, UsageError
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    from cnnclf.inference.inputs import ByteStream
    from cnnclf.inference.placing import Placer
    from cnnclf.inference.predict import PredictOptions, PredictSummary
    from cnnclf.inference.rows import Columns, Prediction, RowWriter

_SORTING = "Sorting into class folders"
_DONE = {"copy": "copied", "link": "linked", "move": "moved"}
_LABELS_SHOWN = 12  # in the summary line; --json has all


def predict_command(
    run: options.Run,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Files, folders, patterns in quotes, @FILE for a list of paths, - for a list on "
            "stdin.",
        ),
    ],
    *,
    out_: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write rows to this .csv or .jsonl file."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels to name.")] = 3,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", min=0, max=1, help="Below this probability the label is 'unknown'."
        ),
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option("--copy-to", metavar="DIR", rich_help_panel=_SORTING, help="Copy files."),
    ] = None,
    link_to: Annotated[
        Path | None,
        typer.Option("--link-to", metavar="DIR", rich_help_panel=_SORTING, help="Link files."),
    ] = None,
    move_to: Annotated[
        Path | None,
        typer.Option("--move-to", metavar="DIR", rich_help_panel=_SORTING, help="Move files."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=_SORTING, help="Only say where files would go."),
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Pictures computed at once [32].")
    ] = None,
    engine: options.Engine = "auto",
    precision: options.EnginePrecision = "auto",
    threads: options.Threads = None,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Label pictures with a trained model.

    Rows go to --out, or as a table to the terminal, or as CSV to a pipe. A file that cannot be read
    becomes a row with an error; then the exit code is 7. Sorting never overwrites a file.
    """
    target = _choose_target(copy_to, link_to, move_to, dry_run=dry_run)
    from cnnclf.inference.classifier import Classifier, find_bundle
    from cnnclf.inference.inputs import ImageInputs
    from cnnclf.inference.predict import PredictOptions, predict_images
    from cnnclf.inference.rows import check_row_file

    if out_ is not None:
        check_row_file(out_)
    # What is wrong with the paths is told before seconds go into loading TensorFlow.
    bundle = find_bundle(run)
    _warn_of_unfinished(run)
    progress = _choose_progress(out_)
    inputs = ImageInputs(images, _open_stdin(images), target[1] if target else None, progress)
    found = inputs.first()
    classifier = Classifier.load(
        bundle,
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        verbose=verbose,
        progress=out.progress(),
    )
    how = PredictOptions(
        min(top_k, len(classifier.labels)),
        classifier.threshold if threshold is None else threshold,
        batch_size or PredictOptions.batch_size,
        threads,
    )
    _warn_of_unknown(classifier.labels, how.threshold)
    placer = _open_placer(target, classifier.labels, dry_run=dry_run)
    with _open_sink(out_, _choose_columns(how, placer), classifier.labels) as sink:
        summary = predict_images(
            classifier,
            found,
            rows=sink,
            options=how,
            progress=progress,
            inputs=inputs,
            placer=placer,
        )
        sink.end(summary)
    _show(summary, placer, progress)
    return summary.exit_code


def _open_stdin(images: list[str]) -> "ByteStream | None":
    return cast("ByteStream", sys.stdin.buffer) if "-" in images and sys.stdin else None


def _choose_target(
    copy_to: Path | None, link_to: Path | None, move_to: Path | None, *, dry_run: bool
) -> tuple[str, Path] | None:
    given = [
        (mode, path)
        for mode, path in (("copy", copy_to), ("link", link_to), ("move", move_to))
        if path is not None
    ]
    if len(given) > 1:
        words = " and ".join(f"--{mode}-to" for mode, _ in given)
        raise UsageError(f"expected one way to sort files, received {words}", "give one of them")
    if dry_run and not given:
        raise UsageError(
            "expected --copy-to, --link-to or --move-to beside --dry-run, received none",
            "predicting alone changes nothing: leave --dry-run out",
        )
    return given[0] if given else None


def _choose_progress(out_: Path | None) -> Progress:
    """A table that grows on the terminal is its own progress; a bar would tear it."""
    if out_ is None and not out.json_mode and sys.stdout.isatty():
        return _Remarks()
    return out.progress()


def _choose_columns(how: "PredictOptions", placer: "Placer | None") -> "Columns":
    from cnnclf.inference.rows import Columns

    return Columns(how.top_k, nearest=how.threshold is not None, placed=placer is not None)


def _open_placer(
    target: tuple[str, Path] | None, labels: tuple[str, ...], *, dry_run: bool
) -> "Placer | None":
    from cnnclf.inference.placing import Placer

    return Placer(*target, labels, dry_run=dry_run) if target else None


class _Remarks(Silent):
    """Shows notes and warnings, and no tasks."""

    def note(self, text: str) -> None:
        out.note(text)

    def warn(self, text: str) -> None:
        out.warn(text)


class _Sink:
    """Hands rows to a writer; the way the command line ends a stream of rows."""

    def __init__(self, rows: "RowWriter | None") -> None:
        self._rows = rows

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        if self._rows is not None:
            self._rows.write(prediction)

    def end(self, summary: "PredictSummary") -> None:
        """Write what follows the last row."""
        out.json(_summary_fields(summary))


class _JsonSink(_Sink):
    """One JSON document on stdout, written while the rows come."""

    def __init__(self, columns: "Columns") -> None:
        super().__init__(None)
        self._columns = columns
        self._lead = f'{{"schema_version": {SCHEMA_VERSION}, "rows": [\n'

    def write(self, prediction: "Prediction") -> None:
        """Write a row."""
        from cnnclf.inference.rows import row_json

        text = row_json(prediction, self._columns)
        if encodable(text, sys.stdout.encoding) != text:
            text = json_module.dumps(json_module.loads(text))
        out.data(self._lead + text)
        self._lead = ",\n"

    def end(self, summary: "PredictSummary") -> None:
        """Close the list of rows and add the summary."""
        fields = json_module.dumps(_summary_fields(summary))
        out.data(f"\n], {fields[1:]}\n")


class _TableSink(_Sink):
    """Lines for people, aligned without knowing the paths to come."""

    def __init__(self, columns: "Columns", labels: tuple[str, ...]) -> None:
        super().__init__(None)
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


@contextlib.contextmanager
def _open_sink(path: Path | None, columns: "Columns", labels: tuple[str, ...]) -> Iterator[_Sink]:
    from cnnclf.inference.rows import CsvRows, open_rows

    if path is None and out.json_mode:
        yield _JsonSink(columns)
    elif path is None and sys.stdout.isatty():
        yield _TableSink(columns, labels)
    elif path is None:
        yield _Sink(CsvRows(out.data, columns))
    else:
        try:
            with open_rows(path, columns) as rows:
                yield _Sink(rows)
        except (KeyboardInterrupt, CnnclfError):
            partial = path.with_name(path.name + ".partial")
            if partial.exists():
                out.warn(f"the rows so far are in {partial}")
            raise
        out.note(f"rows: {path}")


def _warn_of_unfinished(path: Path) -> None:
    from cnnclf.runs import RunDirectory

    run = RunDirectory(path)
    status = run.status() if run.record.exists() else "finished"
    if status != "finished":
        out.warn(f"the run {path} is {status}; its best checkpoint so far is used")


def _warn_of_unknown(labels: tuple[str, ...], threshold: float | None) -> None:
    from cnnclf.inference.rows import UNKNOWN

    if threshold is not None and UNKNOWN in labels:
        out.warn(f"a class is called {UNKNOWN!r}, too; the threshold's answer looks the same")


def _summary_fields(summary: "PredictSummary") -> dict[str, object]:
    return {
        "files": summary.files,
        "failed": summary.failed,
        "placed": summary.placed,
        "counts": dict(summary.counts.most_common()),
        "seconds": round(summary.seconds, 3),
        "images_per_s": round(summary.images_per_s, 1),
    }


def _show(summary: "PredictSummary", placer: "Placer | None", progress: Progress) -> None:
    common = summary.counts.most_common()
    counts = [f"{label} {count:,}" for label, count in common[:_LABELS_SHOWN]]
    if len(common) > _LABELS_SHOWN:
        counts.append(f"{len(common) - _LABELS_SHOWN} more labels")
    parts = [", ".join(counts)] if counts else []
    if placer is not None:
        did = f"would {placer.mode}" if placer.dry_run else _DONE[placer.mode]
        parts.append(f"{did} {summary.placed:,} into {placer.directory}")
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    rate = format_rate(summary.images_per_s)
    out.note(f"{summary.files:,} images ({rate}/s): {'; '.join(parts)}")
    if summary.failed:
        named = "; ".join(f"{path}: {error}" for path, error in summary.examples)
        more = "; ..." if summary.failed > len(summary.examples) else ""
        out.warn(f"{summary.failed:,} of {summary.files:,} files failed: {named}{more}")
