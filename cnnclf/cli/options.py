"""Options that several commands share, declared once.

A command writes `json: Json = False`; the help, the short name and the check are here. The output
options act on `out` while they are parsed, so that a command only has to declare them.
"""

from pathlib import Path
from typing import Annotated

import typer

from cnnclf.cli.output import out
from cnnclf.inference.engines.engine_table import ENGINES, find_engine
from cnnclf.inference.engines.engine_table import PRECISIONS as ENGINE_PRECISIONS

_OUTPUT = "Output"
_MACHINE = "Machine"

DEVICES = ("auto", "cpu", "gpu", "gpu:all")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
CACHES = ("disk", "ram", "none")
ENGINE_CHOICES = ("auto", *(row.name for row in ENGINES))
ENGINE_PRECISION_CHOICES = ("auto", *ENGINE_PRECISIONS)


def _use_json(value: bool) -> bool:
    out.json_mode = out.json_mode or value
    return value


def _use_quiet(value: bool) -> bool:
    out.quiet = out.quiet or value
    return value


def _check_device(value: str) -> str:
    prefix, _, number = value.partition(":")
    if value in DEVICES or (prefix == "gpu" and number.isdigit()):
        return value
    raise typer.BadParameter(
        f"expected auto, cpu, gpu, gpu:all or gpu:N (N = 0, 1, ...), received {value!r}"
    )


def _one_of(choices: tuple[str, ...], value: str) -> str:
    if value in choices:
        return value
    raise typer.BadParameter(f"expected one of {', '.join(choices)}, received {value!r}")


def _check_precision(value: str) -> str:
    return _one_of(PRECISIONS, value)


def _check_engine(value: str | None) -> str | None:
    if value is not None and value != "auto":
        find_engine(value)  # names the nearest
    return value


def _check_engine_precision(value: str) -> str:
    return _one_of(ENGINE_PRECISION_CHOICES, value)


def _check_cache(value: str) -> str:
    return _one_of(CACHES, value)


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
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|gpu|gpu:all|gpu:N",
        callback=_check_device,
        autocompletion=lambda: list(DEVICES),
        rich_help_panel=_MACHINE,
        help="What to compute on; auto takes a GPU if one can be used.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(PRECISIONS),
        callback=_check_precision,
        autocompletion=lambda: list(PRECISIONS),
        rich_help_panel=_MACHINE,
        help="Number format of the computation; auto takes what the device is fast in.",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINE_CHOICES),
        callback=_check_engine,
        autocompletion=lambda: list(ENGINE_CHOICES),
        rich_help_panel=_MACHINE,
        help="What computes; auto takes Keras on a GPU, else OpenVINO if it is installed.",
    ),
]
ExactEngine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="|".join(ENGINE_CHOICES),
        callback=_check_engine,
        autocompletion=lambda: list(ENGINE_CHOICES),
        rich_help_panel=_MACHINE,
        help="What computes [keras, which is what was trained; an artifact has its own].",
    ),
]
EnginePrecision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="|".join(ENGINE_PRECISION_CHOICES),
        callback=_check_engine_precision,
        autocompletion=lambda: list(ENGINE_PRECISION_CHOICES),
        rich_help_panel=_MACHINE,
        help="Number format; auto takes bfloat16 where the processor computes in it.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, rich_help_panel=_MACHINE, help="Threads to use; default: all cores."
    ),
]
Cache = Annotated[
    str,
    typer.Option(
        "--cache",
        metavar="|".join(CACHES),
        callback=_check_cache,
        autocompletion=lambda: list(CACHES),
        rich_help_panel=_MACHINE,
        help="Where decoded images are kept between epochs and commands.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Start of all random numbers; the same seed repeats a run."),
]
