"""Writes the settings of a run as a TOML file with comments, which `--config` reads again.

Only what was given is in force in the file. The other lines are comments with the value that the
run used: a plan depends on what was given (a preset gives way to an option, "auto" to the images),
so the file gives the same plan for the same dataset, and a good one for another.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping

from pydantic.fields import FieldInfo

from cnnclf.config.describing import describe_values, format_setting, list_fields, option_name
from cnnclf.config.sections import CommandConfig

_WIDTH = 100


def given_settings_toml(
    asked: CommandConfig,
    resolved: CommandConfig,
    *,
    given: Mapping[str, str],
    reasons: Mapping[str, str],
) -> str:
    """Write every setting of a command, with its description, as TOML.

    Args:
        asked: Settings as the user gave them.
        resolved: Settings of the plan.
        given: Where each given setting came from, by dotted key.
        reasons: Why the plan chose the values that were open, by dotted key.
    """
    lines = [
        f"# Settings of a run of cnnclf {asked.command}. To start another with them:",
        f"#     cnnclf {asked.command} DATASET --config RUN",
        "# Settings that were given stand without #. The others show the value that this run used.",
    ]
    section = ""
    for key, field in list_fields(type(asked)).items():
        name = key.rpartition(".")[0]
        if name != section:
            section = name
            summary = (type(getattr(asked, section)).__doc__ or "").partition("\n")[0]
            lines += ["", "", f"[{section}]  # {summary}"]
        origin = given.get(key, "")
        is_given = bool(origin) and not origin.startswith("preset ")
        value = _value(asked if is_given else resolved, key)
        text = _toml(key, value)
        source = "" if is_given or value != _value(asked, key) else origin
        lines += ["", *_comments(field, source, reasons.get(key, ""))]
        if not _is_text(text):
            # An empty value is refused, so that the option cannot be forgotten.
            text = '""'
            lines.append(f"# It is not UTF-8, as TOML must be: give it with {option_name(key)}.")
        setting = f"{key.rpartition('.')[2]} = {text}"
        lines.append(setting if is_given and value is not None else f"# {setting}")
    return "\n".join(lines) + "\n"


def _comments(field: FieldInfo, source: str, reason: str) -> Iterator[str]:
    words = f"{field.description} Values: {describe_values(field)}."
    if source:
        words += f" Set by the {source}."
    if reason:
        words += f" Chosen: {reason}."
    yield from textwrap.wrap(words, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _value(config: CommandConfig, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _is_text(value: str) -> bool:
    """Return whether a text can be written as UTF-8; a path may hold other bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _toml(key: str, value: object) -> str:
    """Write a value as TOML; nothing for what has none, such as an operation of a preset."""
    if value is None:
        return ""
    if isinstance(value, tuple):  # a size or a range
        value = format_setting(key, value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
