"""Options that several commands share, declared once.

A command writes `json: Json = False`; the help, the short name and the check are here. The output
options act on `out` while they are parsed, so that a command only has to declare them.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from cnnclf.cli.completion import complete_run
from cnnclf.cli.output import out
from cnnclf.errors import UsageError
from cnnclf.inference.engines.engine_table import ENGINES

OUTPUT_PANEL = "Output"

ENGINE_CHOICES = ("auto", *(row.name for row in ENGINES))


def _use_json(value: bool) -> bool:
    out.json_mode = out.json_mode or value
    return value


def _use_quiet(value: bool) -> bool:
    out.quiet = out.quiet or value
    return value


# Not a Path, which would change names such as hf://user/name.
Dataset = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Dataset, or any source that 'cnnclf import' can read.",
    ),
]
Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", autocompletion=complete_run, help="Run directory, checkpoint or bundle."
    ),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        autocompletion=complete_run,
        help="Run directory, checkpoint, bundle, or export of a run.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_use_json,
        rich_help_panel=OUTPUT_PANEL,
        help="Write the result to stdout as JSON.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_use_quiet,
        rich_help_panel=OUTPUT_PANEL,
        help="Show neither progress nor notes.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=OUTPUT_PANEL,
        help="Show messages of TensorFlow and other libraries.",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", rich_help_panel=OUTPUT_PANEL, help="Replace what exists."),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Remove without asking."),
]


def check_new(path: Path | None, *, overwrite: bool) -> None:
    """Refuse to replace what the user named with --out, unless that was asked for.

    Args:
        path: The value of --out; None if it was not given.
        overwrite: Whether --overwrite was given.

    Raises:
        UsageError: It exists, and is not an empty directory.
    """
    if path is None or overwrite or not os.path.lexists(path):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise UsageError(
        f"{path} already exists", "replace it with --overwrite, or choose another --out"
    )
