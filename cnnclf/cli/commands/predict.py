"""`cnnclf predict`: label images with a trained model, as rows, as a table, or into folders."""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from cnnclf.cli import options
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.cli.words import format_rate
from cnnclf.config import PredictConfig
from cnnclf.errors import DataError, UsageError
from cnnclf.progress import Progress, Silent

if TYPE_CHECKING:
    from cnnclf.cli.predict_with_ray import ClusterCall
    from cnnclf.cli.row_sinks import Sink
    from cnnclf.inference.classifier import Classifier
    from cnnclf.prediction.inputs import Found, ImageInputs
    from cnnclf.prediction.label_pipeline import PredictOptions
    from cnnclf.prediction.path_lists import ByteStream
    from cnnclf.prediction.placing import Placer
    from cnnclf.prediction.row_file import Mode
    from cnnclf.prediction.summary import PredictSummary

_LARGE = "Large jobs"
_SORTING = "Sorting into class folders"
_DONE = {"copy": "copied", "link": "linked", "move": "moved"}
_LABELS_SHOWN = 12  # in the summary line; --json has all


@partial(add_settings, kind=PredictConfig, rows={"engine": options.ENGINE_CHOICES})
def predict_command(
    run: options.Model,
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
        typer.Option(
            "--out", metavar="FILE", help="Write rows to this .csv, .jsonl or .parquet file."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            rich_help_panel=_LARGE,
            help="Go on with an interrupted --out; begin it if there is none.",
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", rich_help_panel=_LARGE, help="Replace an --out that exists."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            rich_help_panel=_LARGE,
            help="Take part I of N, chosen by the paths: one command for each machine.",
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", rich_help_panel=_LARGE, help="Keep labeling new files until Ctrl-C."
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            rich_help_panel=_LARGE,
            help="Work on a Ray cluster: auto or HOST:PORT; without an address on one of its own.",
        ),
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            "--parts",
            metavar="csv|jsonl|parquet",
            rich_help_panel=_LARGE,
            help="With --ray: let the workers write parts into the directory --out.",
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
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Label images with a trained model.

    Rows go to --out, or as a table to the terminal, or as CSV to a pipe. A file that cannot be read
    becomes a row with an error; then the exit code is 7. Sorting never overwrites a file.
    """
    config = read_settings(PredictConfig, settings)
    target = _choose_target(copy_to, link_to, move_to, dry_run=dry_run)
    is_sorting = target is not None
    mode = _choose_mode(out_, resume=resume, overwrite=overwrite, is_sorting=is_sorting)
    cluster = _choose_cluster(ray, parts, out_, mode, watch=watch, is_sorting=is_sorting)
    from cnnclf.inference.classifier import Classifier, find_bundle
    from cnnclf.inference.origins import warn_of_unfinished
    from cnnclf.prediction.predict import predict_images, watch_images

    # What is wrong with the paths is told before seconds go into loading a model.
    bundle = find_bundle(run)
    warn_of_unfinished(run, use="used", progress=out.progress())
    progress = _choose_progress(out_)
    inputs = _choose_inputs(images, shard, target, progress, watch=watch)
    found, nothing = _find_first(inputs, None if cluster else out_, mode, watch=watch)
    if cluster is not None:
        from cnnclf.cli.predict_with_ray import predict_with_ray
        from cnnclf.inference.bundles import read_bundle
        from cnnclf.prediction.cluster.worker import Computing

        model = read_bundle(bundle)
        stored = model.content.get("threshold")
        summary = predict_with_ray(
            cluster,
            model,
            found,
            inputs=inputs,
            top_k=config.top_k,
            threshold=_choose_threshold(config.threshold, stored, model.labels),
            computing=Computing(
                config.engine,
                config.precision,
                config.device,
                config.threads,
                config.batch_size,
                verbose,
            ),
        )
        _show(summary, None)
        return summary.exit_code
    classifier = Classifier.load(
        bundle,
        engine=config.engine,
        precision=config.precision,
        device=config.device,
        threads=config.threads,
        verbose=verbose,
        progress=out.progress(),
    )
    how = _choose_options(classifier, config)
    placer = _open_placer(target, classifier.labels, dry_run=dry_run)
    with _open_sink(out_, mode, classifier, how, inputs, placer) as sink:
        if nothing is not None and not sink.so_far.summary.earlier:
            raise nothing
        if watch:
            with _summed_up(sink, placer):
                watch_images(
                    classifier,
                    inputs,
                    rows=sink.rows,
                    options=how,
                    progress=progress,
                    placer=placer,
                    so_far=sink.so_far,
                )
        else:
            predict_images(
                classifier,
                found,
                rows=sink.rows,
                options=how,
                progress=progress,
                inputs=inputs,
                placer=placer,
                so_far=sink.so_far,
            )
        summary = sink.so_far.summary
        sink.end(summary)
    _show(summary, placer)
    return summary.exit_code


def _choose_mode(out_: Path | None, *, resume: bool, overwrite: bool, is_sorting: bool) -> "Mode":
    """Say what to do with a file of rows that is there, and refuse early what cannot be done."""
    if resume and overwrite:
        raise UsageError("expected --resume or --overwrite, received both", "give one of them")
    mode: Mode = "resume" if resume else "overwrite" if overwrite else "new"
    if out_ is None:
        if mode != "new":
            raise UsageError(f"expected --out FILE beside --{mode}, received none", "add --out")
        return mode
    if resume and is_sorting:
        raise UsageError(
            "expected --resume without sorting into folders, received both",
            "sorting cannot tell which files it has dealt with; files that were moved are gone "
            "from their place, so the same command with another --out does the rest",
        )
    return mode


def _choose_cluster(
    ray: str | None,
    parts: str | None,
    out_: Path | None,
    mode: "Mode",
    *,
    watch: bool,
    is_sorting: bool,
) -> "ClusterCall | None":
    """Say which cluster is to work, if any, and refuse early what cannot be written."""
    if ray is not None:
        from cnnclf.cli.predict_with_ray import choose_cluster

        return choose_cluster(ray, out_, parts, mode, watch=watch, is_sorting=is_sorting)
    if parts is not None:
        raise UsageError("expected --ray beside --parts, received none", "leave --parts out")
    if out_ is not None:
        from cnnclf.prediction.row_file import check_row_file

        check_row_file(out_, mode)
    return None


def _choose_inputs(
    images: list[str],
    shard: str | None,
    target: tuple[str, Path] | None,
    progress: Progress,
    *,
    watch: bool,
) -> "ImageInputs":
    from cnnclf.prediction.inputs import ImageInputs
    from cnnclf.prediction.new_files import check_watchable
    from cnnclf.prediction.sharding import parse_shard

    if watch:
        if out.json_mode:
            raise UsageError(
                "expected --watch without --json, received both",
                "a document ends, watching does not: use --out rows.jsonl",
            )
        check_watchable(images)
        out.note(f"watching {', '.join(images)} for new files; Ctrl-C ends it")
    inputs = ImageInputs(
        images,
        cast("ByteStream", sys.stdin.buffer) if "-" in images and sys.stdin else None,
        passed_over=target[1] if target else None,
        progress=progress,
        shard=parse_shard(shard) if shard is not None else None,
        may_be_empty=watch,
    )
    if target is not None and target[0] == "move":
        # A folder may skip files when others are taken out of it while it is listed.
        inputs.sort_at_once = sys.maxsize
    return inputs


def _find_first(
    inputs: "ImageInputs", path: Path | None, mode: "Mode", *, watch: bool
) -> "tuple[Iterator[Found], DataError | None]":
    """Look for the first path; if there is none, say whether a job that goes on may be done."""
    from cnnclf.prediction.inputs import NoImagesError
    from cnnclf.prediction.row_file import is_interrupted

    if watch:
        return inputs.find(), None
    try:
        return inputs.first(), None
    except NoImagesError as error:
        if mode != "resume" or path is None or not is_interrupted(path):
            raise
        return iter(()), error


def _choose_options(classifier: "Classifier", config: PredictConfig) -> "PredictOptions":
    from cnnclf.prediction.label_pipeline import PredictOptions

    return PredictOptions(
        min(config.top_k, len(classifier.labels)),
        _choose_threshold(config.threshold, classifier.threshold, classifier.labels),
        config.batch_size,
        config.threads,
    )


def _choose_threshold(
    given: float | None, stored: float | None, labels: tuple[str, ...]
) -> float | None:
    from cnnclf.prediction.rows import UNKNOWN

    threshold = stored if given is None else given
    if threshold is not None and UNKNOWN in labels:
        out.warn(f"a class is called {UNKNOWN!r}, too; the threshold's answer looks the same")
    return threshold


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


def _open_placer(
    target: tuple[str, Path] | None, labels: tuple[str, ...], *, dry_run: bool
) -> "Placer | None":
    from cnnclf.prediction.placing import Placer

    return Placer(*target, labels, dry_run=dry_run) if target else None


@contextlib.contextmanager
def _open_sink(
    path: Path | None,
    mode: "Mode",
    classifier: "Classifier",
    how: "PredictOptions",
    inputs: "ImageInputs",
    placer: "Placer | None",
) -> Iterator["Sink"]:
    """Open what takes the rows."""
    from cnnclf.cli.row_sinks import open_file_sink, open_stdout_sink
    from cnnclf.prediction.job import Job
    from cnnclf.prediction.rows import Columns

    columns = Columns(how.top_k, nearest=how.threshold is not None, placed=placer is not None)
    if path is None:
        yield open_stdout_sink(columns, classifier.labels)
        return
    job = Job.describe(
        classifier.bundle["sha256"],
        inputs.inputs,
        columns=columns,
        threshold=how.threshold,
        shard=inputs.shard,
    )
    with open_file_sink(path, columns, job=None if placer else job, mode=mode) as sink:
        yield sink


@contextlib.contextmanager
def _summed_up(sink: "Sink", placer: "Placer | None") -> Iterator[None]:
    """Say what came out so far when Ctrl-C ends the watching."""
    try:
        yield
    except KeyboardInterrupt:
        _show(sink.so_far.summary, placer)
        raise


class _Remarks(Silent):
    """Shows notes and warnings, and no tasks."""

    def note(self, text: str) -> None:
        out.note(text)

    def warn(self, text: str) -> None:
        out.warn(text)


def _show(summary: "PredictSummary", placer: "Placer | None") -> None:
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
    if summary.earlier:
        parts.append(f"{summary.earlier:,} of them were there before")
    rate = format_rate(summary.images_per_s)
    out.note(f"{summary.files:,} images ({rate}/s): {'; '.join(parts)}")
    if summary.earlier and summary.files == summary.earlier:
        out.note("there was nothing left to do")
    if summary.limit is not None:
        out.note(str(summary.limit))
    if summary.failed:
        named = "; ".join(f"{path}: {error}" for path, error in summary.examples)
        more = "; ..." if summary.failed > len(summary.examples) else ""
        out.warn(f"{summary.failed:,} of {summary.files:,} files failed: {named}{more}")
