"""`cnnclf predict`: label images with a trained model, as rows, as a table, or into folders."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.predict_request import (
    ImageSearch,
    Sorting,
    check_columns,
    choose_cluster,
    choose_cutoff,
    choose_mode,
    choose_options,
    choose_sorting,
    search_images,
)
from cnnclf.cli.row_sinks import RowTarget, Sink, open_sink, report_finished, show_summary
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import PredictConfig
from cnnclf.errors import CnnclfError, ExitCode

if TYPE_CHECKING:
    from cnnclf.prediction.summary import PredictSummary

_LARGE = "Large jobs"
_SORTING = "Sorting into class folders"


@partial(add_settings, kind=PredictConfig, rows={"engine": options.ENGINE_CHOICES})
def predict_command(
    run: options.Model,
    images: Annotated[
        list[str],
        argument(
            "IMAGES...", "Files, folders, quoted patterns, @FILE for a list, - for a list on stdin."
        ),
    ],
    *,
    out_: Annotated[
        Path | None, option("--out -o FILE", "Write rows to this .csv, .jsonl or .parquet file.")
    ] = None,
    csv_safe: Annotated[
        bool,
        option(
            "--csv-safe", "In CSV, write an apostrophe before cells that begin with = + - or @."
        ),
    ] = False,
    resume: Annotated[
        bool, option("--resume", "Continue an interrupted --out, or start a new one.", panel=_LARGE)
    ] = False,
    overwrite: Annotated[
        bool, option("--overwrite", "Replace an existing --out.", panel=_LARGE)
    ] = False,
    shard: Annotated[
        str | None,
        option(
            "--shard I/N",
            "Process shard I of N, selected by path: one command per machine.",
            panel=_LARGE,
        ),
    ] = None,
    watch: Annotated[
        bool, option("--watch", "Keep labeling new files until Ctrl-C.", panel=_LARGE)
    ] = False,
    ray: Annotated[
        str | None,
        option(
            "--ray [ADDRESS]",
            "Run on a Ray cluster: auto or HOST:PORT; without an address on a temporary one.",
            panel=_LARGE,
        ),
    ] = None,
    parts: Annotated[
        str | None,
        option(
            "--parts csv|jsonl|parquet",
            "With --ray: workers write files of this format into the directory --out.",
            panel=_LARGE,
        ),
    ] = None,
    copy_to: Annotated[Path | None, option("--copy-to DIR", "Copy files.", panel=_SORTING)] = None,
    link_to: Annotated[Path | None, option("--link-to DIR", "Link files.", panel=_SORTING)] = None,
    move_to: Annotated[Path | None, option("--move-to DIR", "Move files.", panel=_SORTING)] = None,
    dry_run: Annotated[
        bool, option("--dry-run", "Only show where files would go.", panel=_SORTING)
    ] = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Label images with a trained model.

    Rows are written to --out, or shown as a table on a terminal, or printed as CSV to a pipe. A
    file that cannot be read gets a row with an error; then the exit code is 7. Sorting never
    overwrites a file.
    """
    config = read_settings(PredictConfig, settings)
    sorting = choose_sorting(copy_to, link_to, move_to=move_to, dry_run=dry_run)
    mode = choose_mode(out_, resume=resume, overwrite=overwrite, sorting=sorting)
    check_columns(config, resume=resume, cluster=ray is not None)
    if mode == "resume" and ray is None:
        finished = _report_finished(run, images, out_, config=config, shard=shard)
        if finished is not None:
            return finished
    is_sorting = sorting is not None
    cluster = choose_cluster(ray, parts, path=out_, mode=mode, watch=watch, is_sorting=is_sorting)
    from cnnclf.inference.bundle_paths import check_order, find_bundle
    from cnnclf.inference.origins import warn_of_unfinished

    check_order(run, images, command="predict")
    bundle = find_bundle(run)
    warn_of_unfinished(run, use="used", progress=out.progress())
    path = None if cluster else out_
    search = search_images(
        images,
        shard,
        path=path,
        mode=mode,
        watch=watch,
        sorting=sorting,
        bundle=bundle,
    )
    if cluster is not None:
        from cnnclf.cli.predict_with_ray import predict_with_ray

        summary = predict_with_ray(
            cluster, bundle, search=search, config=config, csv_safe=csv_safe, verbose=verbose
        )
    else:
        target = RowTarget(path, mode, sorting, config, csv_safe=csv_safe)
        summary = _predict_here(bundle, search, target=target, watch=watch, verbose=verbose)
    show_summary(summary, sorting)
    return summary.exit_code


def _report_finished(
    run: Path, images: list[str], path: Path | None, *, config: PredictConfig, shard: str | None
) -> ExitCode | None:
    """Report that a job was finished before, if it was; a wrong path is reported later."""
    from cnnclf.files import read_json
    from cnnclf.inference.bundle_paths import find_bundle
    from cnnclf.inference.bundles import read_kind
    from cnnclf.runs.run_names import CLASSIFIER_FILE

    is_plain = config.sets is None and config.unknown_by == "probability"
    is_plain = is_plain and config.views == "none"
    if path is None or not path.is_file() or not is_plain:
        return None
    try:
        place = find_bundle(run)
        bundle, kind = read_json(place / CLASSIFIER_FILE), read_kind(place)
        labels = tuple(bundle["labels"])
        threshold = choose_cutoff(config.threshold, bundle, labels=labels).threshold
    except (CnnclfError, KeyError, TypeError, ValueError):
        return None  # reported when the model is loaded
    count = len(labels) if config.all_probabilities else min(config.top_k, len(labels))
    asked = {"top_k": count, "threshold": threshold, "shard": shard}
    model = str(bundle.get("sha256"))
    return report_finished(path, images, model=model, kind=kind, asked=asked)


def _predict_here(
    bundle: Path,
    search: ImageSearch,
    *,
    target: RowTarget,
    watch: bool,
    verbose: bool,
) -> "PredictSummary":
    """Predict on this machine."""
    from cnnclf.inference.bundles import read_bundle
    from cnnclf.inference.classifier import Classifier
    from cnnclf.prediction.predict import predict_images, watch_images

    config, options = target.config, choose_options(read_bundle(bundle), target.config)
    classifier = Classifier.load(
        bundle,
        engine=config.engine,
        precision=config.precision,
        device=config.device,
        threads=config.threads,
        features=options.rules.features,
        views=config.views,
        verbose=verbose,
        progress=out.progress(),
    )
    labels = classifier.labels
    placer = target.sorting.open_placer(labels) if target.sorting else None
    checksum, inputs = classifier.bundle["sha256"], search.inputs
    with open_sink(target, labels, checksum=checksum, options=options, inputs=inputs) as sink:
        search.check(earlier=sink.so_far.summary.earlier)
        sink.so_far.summary.unsure_below = options.unsure_below
        if watch:
            with _summary_on_interrupt(sink, target.sorting):
                watch_images(
                    classifier,
                    search.inputs,
                    rows=sink.rows,
                    options=options,
                    progress=search.progress,
                    placer=placer,
                    so_far=sink.so_far,
                )
        else:
            predict_images(
                classifier,
                search.found,
                rows=sink.rows,
                options=options,
                progress=search.progress,
                inputs=search.inputs,
                placer=placer,
                so_far=sink.so_far,
            )
        sink.end(sink.so_far.summary)
    search.end()
    return sink.so_far.summary


@contextlib.contextmanager
def _summary_on_interrupt(sink: Sink, sorting: Sorting | None) -> Iterator[None]:
    """Show the summary when Ctrl-C ends the watching."""
    try:
        yield
    except KeyboardInterrupt:
        show_summary(sink.so_far.summary, sorting)
        raise
