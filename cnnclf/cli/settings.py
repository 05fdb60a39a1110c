"""Command-line options made from the settings in `config/`.

A command takes `**settings` and is passed through `add_settings`, which gives it one option per
setting. Options are None unless typed; `config.load_config` checks their values together with the
file's and those of --set, and reports all errors at once.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer
from pydantic.fields import FieldInfo

from cnnclf.cli.completion import complete_backbone, complete_weights
from cnnclf.cli.option_hints import suggest_row
from cnnclf.config import (
    CommandConfig,
    TrainConfig,
    describe_default,
    describe_type,
    list_fields,
    load_config,
    option_name,
)
from cnnclf.config.describing import words_of
from cnnclf.errors import ConfigError, UsageError

_Config = TypeVar("_Config", bound=CommandConfig)

# Before the names of parameters made from settings, so that none collides with a command's own.
SETTING_PREFIX = "setting__"

_PANELS = {
    "data": "Images",
    "model": "Network",
    "backbone": "Backbone",
    "head": "Head: the first phase",
    "tail": "Tail: the second phase",
    "features": "Frozen layers",
    "optimizer": "Optimizer",
    "training": "Training",
    "augment": "Augmentation",
    "runtime": "Machine",
    # of commands without sections
    "batch_size": "Machine",
    "cache": "Machine",
    "device": "Machine",
    "engine": "Machine",
    "precision": "Machine",
    "threads": "Machine",
}


_MAX_METAVAR = 64  # in a line of help; longer lists of choices are in the text
_NO_ROWS: Mapping[str, tuple[str, ...]] = {}


def add_settings(
    command: Callable[..., Any],
    *,
    kind: type[CommandConfig] = TrainConfig,
    only: tuple[str, ...] = ("",),
    rows: Mapping[str, tuple[str, ...]] = _NO_ROWS,
) -> Callable[..., Any]:
    """Give a command that takes `**settings` one option per setting.

    Args:
        command: Its other parameters keep their place; `**settings` is replaced.
        kind: All settings there are.
        only: Beginnings of the dotted keys that the command has options for.
        rows: The choices of settings that name a row of a table, by key.

    Returns:
        The same function, which Typer now sees with all options.
    """
    signature = inspect.signature(command)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    added = [
        inspect.Parameter(
            _parameter_name(key),
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else None,
            annotation=_annotate(key, field, rows=rows.get(key, ())),
        )
        for key, field in list_fields(kind).items()
        if key.startswith(only)
    ]
    parameters = [*own, *added]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@contextmanager
def blaming_options(origins: Mapping[str, str]) -> Iterator[None]:
    """Report a setting that does not fit the data or the network as wrong usage.

    Settings are checked one by one while they are loaded. Whether they fit the images, the backbone
    or each other shows only later, where nothing knows who gave them.

    Args:
        origins: Where each setting came from, as `load_config` returns it. With any from a file,
            the file may be at fault, and the error stays what it is.

    Raises:
        UsageError: Instead of a `ConfigError`, if all settings were typed.
    """
    try:
        yield
    except ConfigError as error:
        if any(origin.startswith("file ") for origin in origins.values()):
            raise
        typed = [key for key, origin in origins.items() if origin == "option"]
        message, hint = (_name_options(text, typed) for text in (error.message, error.hint))
        raise UsageError(message, hint) from None


def _name_options(text: str, keys: Sequence[str]) -> str:
    """Name settings by the options that were typed: `training.minutes = 1` is `--minutes 1`."""
    if not keys:
        return text
    names = "|".join(map(re.escape, sorted(keys, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.-])({names})(?!\w|\.\w)(?: = )?", _write_option, text)


def _write_option(match: re.Match[str]) -> str:
    return option_name(match[1]) + (" " if match[0].endswith(" ") else "")


def given_settings(
    settings: Mapping[str, object], *, kind: type[CommandConfig] = TrainConfig
) -> dict[str, object]:
    """Return the typed options among a command's `**settings`, by dotted key."""
    keys = {_parameter_name(key): key for key in list_fields(kind)}
    return {keys[name]: value for name, value in settings.items() if value is not None}


def read_settings(kind: type[_Config], settings: Mapping[str, object]) -> _Config:
    """Check the `**settings` of a command that takes no file of settings.

    Raises:
        UsageError: Some are wrong; all of them in one message.
    """
    return load_config(options=given_settings(settings, kind=kind), kind=kind)[0]


def _parameter_name(key: str) -> str:
    return SETTING_PREFIX + key.replace(".", "__")


def _annotate(key: str, field: FieldInfo, *, rows: tuple[str, ...]) -> Any:
    name = option_name(key)
    is_flag = field.annotation in (bool, bool | None)
    choices = rows or words_of(field)
    one_of = "|".join(rows)
    listed = f" One of {', '.join(rows)}." if len(one_of) > _MAX_METAVAR else ""
    default = "" if field.is_required() else f" [{describe_default(key, field)}]"
    option = typer.Option(
        f"{name}/--no-{name[2:]}" if is_flag else name,
        metavar=None if is_flag else (not listed and one_of) or describe_type(field),
        callback=_row_check(name, rows) if rows else None,
        autocompletion=(lambda: list(choices)) if choices else _COMPLETIONS.get(key),
        help=f"{field.description}{listed}{default}",
        rich_help_panel=_PANELS.get(key.partition(".")[0]),
        show_default=False,
    )
    value = bool if is_flag else str
    return Annotated[value if field.is_required() else value | None, option]


# Of settings whose values are names, but too many for a list in the help page, or also paths.
_COMPLETIONS = {"backbone.name": complete_backbone, "backbone.weights": complete_weights}


def _row_check(
    option: str, rows: tuple[str, ...]
) -> Callable[[typer.Context, str | None], str | None]:
    """Refuse what is no row of a table while options are parsed, before anything is loaded."""

    def check(context: typer.Context, value: str | None) -> str | None:
        if value is None or value in rows:
            return value
        near = suggest_row(value, rows)
        suggestion = f"; did you mean {near}?" if near else ""
        raise UsageError(
            f"{option} {value}: expected one of {', '.join(rows)}{suggestion}",
            f"{context.command_path} --help lists every setting",
        )

    return check
