"""`cnnclf cache`: what cnnclf keeps for later, how much space it takes, and removing it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cnnclf.cli import options
from cnnclf.cli.declaring import option
from cnnclf.cli.output import out
from cnnclf.data.cache import CACHE_KINDS, cache_dir, list_cache
from cnnclf.errors import ExitCode, UsageError
from cnnclf.files import format_bytes
from cnnclf.full_disks import write_error
from cnnclf.names import count_of

if TYPE_CHECKING:
    from cnnclf.data.cache import CacheEntry

_HERE = "cnnclf.cli.commands.cache"
_DAY_S = 86_400

CACHE_COMMANDS = (
    ("list", _HERE, "list_command", "List what is cached and how much space it takes."),
    ("clear", _HERE, "clear_command", "Remove what is cached; it is made again when needed."),
)

Kind = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="|".join(CACHE_KINDS),
        autocompletion=lambda: list(CACHE_KINDS),
        help="Only this kind; can be given several times. [all]",
    ),
]


def list_command(kind: Kind = None) -> None:
    """List what is cached and how much space it takes, the largest first."""
    entries = list_cache(_check_kinds(kind))
    out.json({"directory": cache_dir(), "entries": [_fields(entry) for entry in entries]})
    _show(entries)
    total = format_bytes(sum(entry.size_bytes for entry in entries))
    out.note(f"{count_of(len(entries), 'entry')} with {total} in {cache_dir()}")
    if entries:
        out.hint("cnnclf cache clear removes them; they are made again when needed")


def clear_command(
    *,
    kind: Kind = None,
    older_than: Annotated[
        float, option("--older-than DAYS", "Only what was not used for DAYS.", min=0)
    ] = 0.0,
    dry_run: Annotated[bool, option("--dry-run", "Only list what would be removed.")] = False,
    yes: options.Yes = False,
) -> int:
    """Remove what is cached. Datasets, runs and weights of your own are never touched.

    Do not clear the cache while a training runs: it may have to decode images again.
    """
    latest_s = time.time() - older_than * _DAY_S
    entries = [entry for entry in list_cache(_check_kinds(kind)) if entry.used_s <= latest_s]
    size = format_bytes(sum(entry.size_bytes for entry in entries))
    if dry_run:
        _show(entries)
        out.json({"directory": cache_dir(), "would_remove": [_fields(entry) for entry in entries]})
        out.note(f"would remove {count_of(len(entries), 'entry')} with {size} from {cache_dir()}")
        return ExitCode.OK
    question = f"remove {count_of(len(entries), 'entry')} with {size} from {cache_dir()}?"
    if entries and not out.confirm(question, yes=yes):
        out.note("nothing was removed")
        return ExitCode.OK
    for entry in entries:
        try:
            entry.remove()
        except OSError as error:
            raise write_error(entry.paths[0], error, hint="check its owner and mode") from error
    out.json({"directory": cache_dir(), "removed": [_fields(entry) for entry in entries]})
    out.line(f"removed {count_of(len(entries), 'entry')} with {size}")
    return ExitCode.OK


def _show(entries: Sequence["CacheEntry"]) -> None:
    out.table(
        "",
        ("kind", "name", "of", "size", "last used"),
        rows=[
            (
                entry.kind,
                entry.name,
                entry.source or "-",
                format_bytes(entry.size_bytes),
                _age(entry),
            )
            for entry in entries
        ],
    )


def _check_kinds(given: list[str] | None) -> tuple[str, ...]:
    unknown = [each for each in given or () if each not in CACHE_KINDS]
    if unknown:
        raise UsageError(
            f"--kind: expected one of {', '.join(CACHE_KINDS)}, received {unknown[0]!r}"
        )
    return tuple(dict.fromkeys(given or CACHE_KINDS))


def _fields(entry: "CacheEntry") -> dict[str, object]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "source": entry.source,
        "paths": entry.paths,
        "size_bytes": entry.size_bytes,
        "used_s": round(entry.used_s),
        "unfinished": entry.is_unfinished,
    }


def _age(entry: "CacheEntry") -> str:
    days = int((time.time() - entry.used_s) // _DAY_S)
    age = "today" if days < 1 else f"{days} days ago" if days > 1 else "yesterday"
    return f"{age}, unfinished" if entry.is_unfinished else age
