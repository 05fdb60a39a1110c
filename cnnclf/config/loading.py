"""Joins the layers of settings, checks them all at once and names what is wrong as it was written.

From weakest to strongest: the defaults, the model preset, the file, `--set`, the options.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cnnclf.bounded import MAX_SETTINGS_BYTES, parse_toml, read_bytes
from cnnclf.config.describing import describe_values, list_fields, typed_option, words_of
from cnnclf.config.sections import CommandConfig, Section
from cnnclf.errors import CnnclfError, ConfigError, UsageError
from cnnclf.names import suggest

_Config = TypeVar("_Config", bound=CommandConfig)


def load_config(
    file: Path | None = None,
    *,
    kind: type[_Config],
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    arguments: Mapping[str, object] | None = None,
    command: str = "",
    option: str = "--set",
) -> tuple[_Config, dict[str, str]]:
    """Join the layers of settings and check them all at once.

    Args:
        file: A TOML file with the sections of `kind`, or None.
        kind: All settings of a command, such as `TrainConfig`.
        assignments: `section.key=value` strings, as given with `option`.
        options: Values given as command-line options, by dotted key.
        arguments: Values given in Python, by dotted key or by section.
        command: The command that takes them, for hints; by default that of `kind`.
        option: What assignments are given with, for messages.

    Returns:
        The settings, and for each dotted key that was given where it came from
        ("file PATH", "--set", "option", "argument", "preset NAME").

    Raises:
        UsageError: What is unknown, of the wrong type or out of range was given as an option or
            assignment; all of it in one message.
        ConfigError: The same, in a file or in Python.
    """
    given: dict[str, _Given] = _read_toml(file)
    for assignment in assignments:
        key, value = _parse_assignment(assignment, option)
        given[key] = _Given(value, "--set", f"{option} {assignment}")
    for key, value in (options or {}).items():
        given[key] = _Given(value, "option", typed_option(key, value))
    given |= _take_arguments(arguments or {}, kind)
    preset = str(given["model.preset"].value) if "model.preset" in given else ""
    for key, value in _list_preset(kind, preset).items():
        given.setdefault(key, _Given(value, f"preset {preset}", ""))
    checked = _check(kind, given, command=command or kind.command)
    return checked, {key: each.origin for key, each in given.items()}


def change_config(config: _Config, changes: Mapping[str, object]) -> _Config:
    """Return the settings with some of them changed; also written `config | changes`.

    Args:
        config: The settings; not changed.
        changes: New values by dotted key, such as {"training.epochs": 3}, or by section.

    Raises:
        ConfigError: Anything unknown, of the wrong type or out of range; all of it in one message.
    """
    kind = type(config)
    given = _take_arguments(explicit_settings(config), kind) | _take_arguments(changes, kind)
    return _check(kind, given, command=config.command)


def apply_preset(
    config: _Config, preset: str, *, given: Mapping[str, str]
) -> tuple[_Config, dict[str, str]]:
    """Return the settings with those of a preset, as if it had been given.

    Args:
        config: The settings; not changed.
        preset: Its name.
        given: Where each setting that was given came from; these stay.
    """
    values = _list_preset(type(config), preset)
    changes = {key: value for key, value in values.items() if key not in given}
    changed = change_config(config, {"model.preset": preset, **changes})
    return changed, {**given, **dict.fromkeys(changes, f"preset {preset}")}


def _list_preset(kind: type[CommandConfig], preset: str) -> dict[str, object]:
    sections = kind.presets.get(preset, {}).items()
    return {f"{section}.{key}": value for section, part in sections for key, value in part.items()}


def explicit_settings(config: CommandConfig) -> dict[str, object]:
    """Return the settings that were given, by dotted key, and not those left at their default."""
    found: dict[str, object] = {}
    for name in config.model_fields_set:
        value = getattr(config, name)
        if isinstance(value, Section):
            found |= {f"{name}.{key}": getattr(value, key) for key in value.model_fields_set}
        else:
            found[name] = value
    return found


def refuse_values(
    error: ValidationError, values: Mapping[str, object], *, kind: type[CommandConfig]
) -> CnnclfError:
    """Return the error for settings that were given to their class in Python."""
    return _refusal(error, _take_arguments(values, kind), kind, command=kind.command)


def _take_arguments(values: Mapping[str, object], kind: type[CommandConfig]) -> "dict[str, _Given]":
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name in kind.model_fields:
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[str(name)] = value
    return {key: _Given(value, "argument", _spell(key, value)) for key, value in flat.items()}


def _check(kind: type[_Config], given: "Mapping[str, _Given]", *, command: str) -> _Config:
    try:
        return kind.model_validate(_nest(given))
    except ValidationError as error:
        raise _refusal(error, given, kind, command=command) from None


@dataclass(frozen=True)
class _Given:
    """A value that was given.

    Args:
        value: As parsed.
        origin: file PATH, --set, option, argument or preset NAME.
        spelled: As the user wrote it, and where if in a file.
    """

    value: object
    origin: str
    spelled: str


def _nest(given: Mapping[str, _Given]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, each in given.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = each.value
    return nested


def _read_toml(file: Path | None) -> dict[str, _Given]:
    if file is None:
        return {}
    try:
        data = read_bytes(file, max_bytes=MAX_SETTINGS_BYTES)
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
        content = parse_toml(text)
    except FileNotFoundError as error:
        raise ConfigError(f"settings file {file} does not exist") from error
    except OSError as error:
        raise ConfigError(f"settings file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"settings file {file} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"settings file {file} is not valid TOML: {error}") from error
    flat: dict[str, object] = {}
    for section, settings in content.items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{key}": value for key, value in settings.items()})
        else:
            flat[section] = settings
    lines = _find_lines(text)
    return {
        key: _Given(
            value, f"file {file}", f"{file}, line {_line_of(key, lines)}: {_spell(key, value)}"
        )
        for key, value in flat.items()
    }


def _find_lines(text: str) -> dict[str, int]:
    """Find the line of each table and key of a TOML file, by its dotted name."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _plain_key(header[1]) + "."
            lines.setdefault(table.removesuffix("."), number)
        elif pair := re.match(r"\s*([\w\s.\"'-]+?)\s*=", line):
            lines.setdefault(table + _plain_key(pair[1]), number)
    return lines


def _plain_key(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))


def _line_of(key: str, lines: Mapping[str, int]) -> int:
    """Return the line of a key, or of what holds it: an inline table, or a table."""
    while key not in lines and "." in key:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)


def _spell(key: str, value: object) -> str:
    return f"{key} = {json.dumps(value, ensure_ascii=False, default=str)}"


def _parse_assignment(assignment: str, option: str) -> tuple[str, object]:
    key, separator, text = assignment.partition("=")
    if not separator or "." not in key:
        raise UsageError(
            f"{option} {assignment or repr(assignment)}: expected section.key=value",
            f"for example {option} model.dropout=0.3",
        )
    try:
        return key.strip(), parse_toml(f"value = {text}")["value"]
    except ValueError:
        return key.strip(), text  # a bare word such as adamw, or 32,64


def _refusal(
    error: ValidationError, given: Mapping[str, _Given], kind: type[CommandConfig], *, command: str
) -> CnnclfError:
    """Name every setting that is wrong as it was written, and say what it takes."""
    fields = list_fields(kind)
    wrong = {_find_key(item["loc"], fields) for item in error.errors()}
    problems = {
        key: f"{each.spelled}: {_describe_problem(key, each.value, fields, kind)}"
        for key, each in given.items()
        if key in wrong or key.partition(".")[0] in wrong
    }
    for item in error.errors():
        key = _find_key(item["loc"], fields)
        if item["type"] == "missing" and key not in problems:  # and no part of a value is
            problems[key] = f"{key} is missing: expected {describe_values(fields[key])}"
    is_typed = problems.keys() <= given.keys() and all(
        given[key].origin in {"--set", "option"} for key in problems
    )
    return (UsageError if is_typed else ConfigError)(
        "; ".join(problems.values()), f"cnnclf {command} --help lists every setting"
    )


def _find_key(location: tuple[int | str, ...], fields: Mapping[str, FieldInfo]) -> str:
    """Return the dotted key of an error, which may lie in a part of its value."""
    whole = str(location[0])
    return whole if whole in fields else ".".join(map(str, location[:2]))


def _describe_problem(
    key: str, value: object, fields: Mapping[str, FieldInfo], kind: type[CommandConfig]
) -> str:
    if key in fields:
        near = _suggest(value, words_of(fields[key])) if isinstance(value, str) else ""
        if key == "model.preset" and not near:
            near = "; pretrained networks are backbones of cnnclf finetune"
        if key == "tail.epochs" and str(value) == "0":
            near = "; --unfreeze none trains the head alone"
        return f"expected {describe_values(fields[key])}{near}"
    if key in kind.model_fields:
        return "expected a section with settings"
    if inner := [field for field in fields if field.endswith(f".{key}")]:
        return f"unknown setting; did you mean {inner[0]}?"
    return f"unknown setting{_suggest(key, list(fields if '.' in key else kind.model_fields))}"


def _suggest(text: str, known: Sequence[str]) -> str:
    suggestion = suggest(text.casefold(), known)
    return suggestion and f"; {suggestion}"
