"""Options that several commands share, declared once.

A command writes `json: Json = False`; the help, the short name and the check are here. The output
options act on `out` while they are parsed, so that a command only has to declare them.
"""

from pathlib import Path
from typing import Annotated

import typer

from cnnclf.cli.output import out
from cnnclf.inference.engines.engine_table import ENGINES

_OUTPUT = "Output"

ENGINE_CHOICES = ("auto", *(row.name for row in ENGINES))


def _use_json(value: bool) -> bool:
    out.json_mode = out.json_mode or value
    return value


def _use_quiet(value: bool) -> bool:
    out.quiet = out.quiet or value
    return value


Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="A dataset made by 'cnnclf import', or any source it can read (folder, archive, ...).",
    ),
]
Run = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run directory, a checkpoint in it, or a bundle."),
]
Model = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run directory, a checkpoint in it, a bundle, or what 'export' wrote.",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        callback=_use_json,
        rich_help_panel=_OUTPUT,
        help="Write the result to stdout as JSON.",
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_use_quiet,
        rich_help_panel=_OUTPUT,
        help="No progress and no notes.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        rich_help_panel=_OUTPUT,
        help="Show what TensorFlow and other libraries print.",
    ),
]
