"""`cnnclf weights`: list, download and import pretrained weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cnnclf.cli import options
from cnnclf.cli.completion import complete_backbone
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.settings import blaming_options
from cnnclf.errors import MissingPackageError, UsageError
from cnnclf.files import format_bytes

if TYPE_CHECKING:
    from cnnclf.models.backbones import Backbone

_HERE = "cnnclf.cli.commands.weights"

WEIGHTS_COMMANDS = (
    ("list", _HERE, "list_command", "List pretrained weights and show which are on this machine."),
    ("pull", _HERE, "pull_command", "Download pretrained weights."),
    (
        "import",
        _HERE,
        "import_command",
        "Import weights files that were downloaded on another machine.",
    ),
    ("path", _HERE, "path_command", "Print where weights are stored."),
)


def list_command(
    *,
    check: Annotated[
        bool, option("--check", "Verify the checksums of files on this machine.")
    ] = False,
) -> None:
    """List the published ImageNet weights of all backbones and show which are on this machine."""
    from cnnclf.models.backbones import BACKBONES
    from cnnclf.models.weights.published import find_keras_directory

    rows = [_describe(row, check=check) for row in BACKBONES]
    out.json({"directory": find_keras_directory(), "weights": rows})
    out.table(
        "",
        ("backbone", "state", "size", "checksum"),
        rows=[
            (row["backbone"], row["state"], _size(row), row["algorithm"] or None) for row in rows
        ],
    )
    out.note(f"downloads are stored in {find_keras_directory()}; --json lists files and URLs")
    for row in rows:
        if row["fault"]:
            out.warn(f"{row['path']}: {row['fault']}")
            out.hint(f"cnnclf weights pull {row['backbone']} --overwrite replaces the file")


def pull_command(
    backbones: Annotated[
        list[str],
        argument(
            "BACKBONE...", "Names, as listed by 'cnnclf backbones'.", complete=complete_backbone
        ),
    ],
    *,
    overwrite: options.Overwrite = False,
) -> None:
    """Download the ImageNet weights of backbones and verify their checksums.

    A file is moved into place only when it is complete and correct. Existing files are verified.
    """
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.weights.downloads import fetch_published
    from cnnclf.models.weights.published import find_packaged

    with blaming_options({}):
        rows = [find_backbone(name) for name in backbones]
    progress = out.progress()
    paths = [
        find_packaged(row.imagenet)
        if row.imagenet.package
        else fetch_published(row, overwrite=overwrite, progress=progress)
        for row in rows
    ]
    out.pairs("", [(row.name, path) for row, path in zip(rows, paths, strict=True)])
    out.json({"weights": [_describe(row, check=False) for row in rows]})
    out.hint(f"cnnclf finetune DATASET --backbone {rows[0].name}")


def import_command(
    files: Annotated[list[Path], argument("FILE...", "Weights files as published.")],
    *,
    backbone: Annotated[
        str | None, option("--backbone NAME", "Backbone the file is for. [detected]")
    ] = None,
    overwrite: options.Overwrite = False,
    verbose: options.Verbose = False,
) -> None:
    """Copy published weights files, downloaded on another machine, to where they belong.

    A file is recognized by its checksum or name. Where no checksum is published, the backbone is
    built to verify that the file fits.
    """
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.weights.weight_imports import check_shapes, import_weights, plan_import

    if backbone is not None and len(files) > 1:
        raise UsageError(
            f"--backbone takes one file, got {len(files)}",
            "import them one by one, or without --backbone",
        )
    with blaming_options({}):
        row = None if backbone is None else find_backbone(backbone)
    done = []
    for planned in [plan_import(file, row) for file in files]:
        if not planned.is_verified:
            from cnnclf.runtime import setup_runtime

            setup_runtime(device="cpu", verbose=verbose, progress=out.progress())
            check_shapes(planned)
        is_new = import_weights(planned, overwrite=overwrite)
        proof = planned.backbone.imagenet.algorithm if planned.is_verified else "shapes"
        where = "copied to" if is_new else "already at"
        out.line(f"{planned.backbone.name}: {proof} verified, {where} {planned.target}")
        done.append(_describe(planned.backbone, check=False) | {"checked_by": proof})
    out.json({"weights": done})
    out.hint(f"cnnclf finetune DATASET --backbone {done[0]['backbone']}")


def path_command(
    backbone: Annotated[
        str | None,
        argument(
            "BACKBONE",
            "Backbone whose file to print. [the directory]",
            complete=complete_backbone,
        ),
    ] = None,
) -> None:
    """Print the directory where weights are stored, or the path of one file."""
    from cnnclf.models.backbones import find_backbone
    from cnnclf.models.weights.published import find_keras_directory, find_published_path

    if backbone is None:
        out.line(str(find_keras_directory()))
        out.json({"directory": find_keras_directory()})
        return
    with blaming_options({}):
        row = find_backbone(backbone)
    path = find_published_path(row)
    out.line(str(path))
    out.json(_describe(row, check=False))
    if not path.is_file():
        out.hint(f"not downloaded yet: cnnclf weights pull {row.name}")


def _describe(row: "Backbone", *, check: bool) -> dict[str, Any]:
    from cnnclf.models.weights.published import find_fault, find_published_path, find_state
    from cnnclf.models.weights.sources import estimate_bytes

    published = row.imagenet
    try:
        path = find_published_path(row)
    except MissingPackageError:
        path = None
    is_here = path is not None and path.is_file()
    fault = find_fault(path, published) if check and path is not None and is_here else ""
    return {
        "backbone": row.name,
        "state": "damaged" if fault else find_state(row),
        "file": published.name,
        "path": path,
        "size_bytes": path.stat().st_size if path is not None and is_here else None,
        "estimated_bytes": estimate_bytes(row),
        "algorithm": published.algorithm,
        "digest": published.digest,
        "package": published.package,
        "url": published.url,
        "fault": fault,
    }


def _size(row: Mapping[str, Any]) -> str:
    if row["size_bytes"] is not None:
        return format_bytes(row["size_bytes"])
    return f"~{format_bytes(row['estimated_bytes'])}"
