"""`cnnclf explain`: why a trained network gives an image its label, and what its layers compute."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli import options
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.option_hints import missing_error
from cnnclf.cli.output import out
from cnnclf.cli.settings import add_settings, read_settings
from cnnclf.config import ExplainConfig
from cnnclf.errors import ExitCode
from cnnclf.explainers.explainer_table import DEFAULT_VIEW, EVERY_VIEW, EXPLAINERS, find_explainers
from cnnclf.full_disks import check_writable
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.explainers.explaining import ExplainedImage, ExplainRequest

_PLACE = Path("explained")
_VIEWS = ", ".join(row.name for row in EXPLAINERS)


@partial(add_settings, kind=ExplainConfig, rows={"engine": options.ENGINE_CHOICES})
def explain_command(
    run: options.Model,
    images: Annotated[
        list[str] | None,
        argument(
            "IMAGES",
            "Files, folders, quoted patterns, @FILE for a list, - for a list on stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    show: Annotated[
        list[str] | None,
        option(
            "--show VIEW",
            f"View to draw, may be repeated: {_VIEWS}, all. [{DEFAULT_VIEW}]",
            complete=lambda: [row.name for row in EXPLAINERS],
        ),
    ] = None,
    class_: Annotated[
        list[str] | None,
        option("--class LABEL", "Class to explain, may be repeated. [the most probable ones]"),
    ] = None,
    data: Annotated[
        str | None,
        option("--data DATASET", "Training images, for views that need them. [those of RUN]"),
    ] = None,
    out_: Annotated[
        Path | None,
        option(
            "--out -o DIR",
            f"Directory of the figures; --overwrite keeps other files in it. [{_PLACE}]",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    npz: Annotated[
        bool, option("--npz", "Write the numbers of each figure to an .npz file, too.")
    ] = False,
    verbose: options.Verbose = False,
    **settings: object,
) -> int:
    """Explain what a trained network sees in images.

    Writes one PNG file per image and view. Each map is checked: whether it adds up to the logit,
    whether its places matter more than random places and edges, and whether it depends on what was
    learned. A file that is not an image is reported, and the exit code is 7.
    """
    config = read_settings(ExplainConfig, settings)
    views = find_explainers(show or ())
    options.check_new(out_, overwrite=overwrite)
    place = _PLACE if out_ is None else out_
    check_writable(place)
    needs_images = any(row.needs_image for row in views)
    if needs_images and not images:
        others = ", ".join(f"--show {row.name}" for row in EXPLAINERS if not row.needs_image)
        hint = f"only the views of the network need none: {others}"
        raise missing_error("cnnclf explain", "IMAGES", hint=hint)
    from cnnclf.inference.bundle_paths import check_order, find_bundle
    from cnnclf.inference.bundles import read_bundle, read_kind
    from cnnclf.inference.origins import warn_of_unfinished
    from cnnclf.prediction.inputs import ImageInputs

    check_order(run, images or (), command="explain")
    bundle = find_bundle(run)
    warn_of_unfinished(run, use="used", progress=out.progress())
    found = (
        ImageInputs(
            images or (), excluded=(place,), progress=out.progress(), kind=read_kind(bundle)
        ).first()
        if images
        else ()
    )
    from cnnclf.explainers.explain_opening import load_explained, open_context
    from cnnclf.explainers.explaining import (
        ExplainRequest,
        check_count,
        check_names,
        explain_images,
    )

    check_names(read_bundle(bundle), classes=class_ or (), layer=config.layer)
    classifier = load_explained(bundle, config, verbose=verbose, progress=out.progress())
    context = open_context(classifier, run, config=config, data=data, progress=out.progress())
    request = ExplainRequest(
        views,
        tuple(class_ or ()),
        place,
        npz,
        overwrite=overwrite,
        is_every=EVERY_VIEW in (show or ()),
    )
    some = list(islice(found, config.limit + 1)) if needs_images else []
    if len(some) > config.limit:
        out.note(
            f"explaining only the first {count_of(config.limit, 'image')}; --limit changes that"
        )
    if len(some) == 1:  # else the bar of the images moves
        context.network.progress = out.progress()
    check_count(context, len(some[: config.limit]), request=request)
    explained = explain_images(context, some[: config.limit], request=request)
    return _show(explained, len(some[: config.limit]), request)


def _show(explained: "Iterator[ExplainedImage]", count: int, request: "ExplainRequest") -> int:
    """Show outcomes as they come; returns the exit code."""
    rows: list[ExplainedImage] = []
    with out.progress().task(
        "explaining", count or None, unit="images" if count else "figures"
    ) as task:
        for row in explained:
            if not row.path and not count:
                task.advance()
            if rows and row.path != rows[-1].path and rows[-1].path:
                task.advance()
            rows.append(row)
            _show_row(row)
        if rows and rows[-1].path:
            task.advance()
    failed = [row for row in rows if row.error]
    out.json({"out": request.out, "rows": [row.to_dict() for row in rows], "failed": len(failed)})
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _show_row(row: "ExplainedImage") -> None:
    if row.skipped:
        out.note(f"skipped: {row.skipped}")
        return
    if row.error:
        is_named = not row.path or row.error.startswith(row.path)
        out.warn(row.error if is_named else f"{row.path}: {row.error}")
        return
    what = (
        f"{row.path}: {row.label} {100 * row.probability:.1f} %"
        if row.probability is not None
        else ""
    )
    out.line(f"{what or 'the network'}, {row.view}: {row.figure}")
    if row.summary:
        out.line(f"  {row.summary}")
