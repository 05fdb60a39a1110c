"""Options that several commands share, declared once.

A command writes `overwrite: Overwrite = False`; the help, the short name and the check are here.
Every command has --json and --quiet without declaring them.
"""

import os
from pathlib import Path
from typing import Annotated

from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.cli.output_files import check_directory_name
from cnnclf.errors import UsageError
from cnnclf.full_disks import check_writable
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
    str, argument("DATASET", "Dataset, or any source that 'cnnclf import' can read.")
]
Run = Annotated[
    Path, argument("RUN", "Run directory, checkpoint or bundle.", complete=complete_run)
]
Model = Annotated[
    Path,
    argument(
        "RUN", "Run directory, checkpoint, bundle, or export of a run.", complete=complete_run
    ),
]
Verbose = Annotated[
    bool,
    option("--verbose -v", "Show messages of TensorFlow and other libraries.", panel=OUTPUT_PANEL),
]
Overwrite = Annotated[bool, option("--overwrite", "Replace what exists.", panel=OUTPUT_PANEL)]
Yes = Annotated[bool, option("--yes -y", "Remove without asking.")]


def set_output(
    json: Annotated[
        bool,
        option(
            "--json", "Write the result to stdout as JSON.", callback=_use_json, panel=OUTPUT_PANEL
        ),
    ] = False,
    quiet: Annotated[
        bool,
        option(
            "--quiet -q",
            "Show neither progress nor notes.",
            callback=_use_quiet,
            panel=OUTPUT_PANEL,
        ),
    ] = False,
) -> None:
    """Declare the options of every command; they act on `out` while they are parsed."""


def check_new(path: Path | None, *, overwrite: bool) -> None:
    """Refuse to replace what the user named with --out, unless that was asked for.

    Raises:
        UsageError: It exists, and is not an empty directory, or it is named like a file.
        RunError: It cannot be written.
    """
    check_directory_name(path)
    if path is None:
        return
    check_writable(path)
    if overwrite or not os.path.lexists(path):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise UsageError(
        f"{path} already exists", "replace it with --overwrite, or choose another --out"
    )
