"""Writes docs/reference/*.md from the commands and settings themselves.

Run from the root of the project: python docs/make_reference.py [--check]
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.cli.examples import EXAMPLES
from cnnclf.cli.settings import SETTING_PREFIX
from cnnclf.config import (
    MODEL_PRESETS,
    CalibrateConfig,
    CheckConfig,
    CommandConfig,
    ConvolveConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FinetuneConfig,
    ImportConfig,
    PredictConfig,
    TrainConfig,
    TuneConfig,
    describe_default,
    describe_values,
    list_fields,
    option_name,
)
from cnnclf.glossary import TERMS

REFERENCE = Path(__file__).parent / "reference"
PAGES: dict[str, type[CommandConfig]] = {"train": TrainConfig, "finetune": FinetuneConfig}
KINDS: dict[str, type[CommandConfig]] = {
    **{
        kind.command: kind
        for kind in (
            ImportConfig,
            CheckConfig,
            CalibrateConfig,
            EvaluateConfig,
            PredictConfig,
            ExplainConfig,
            ExportConfig,
            ConvolveConfig,
            TuneConfig,
        )
    },
    "augment-preview": TrainConfig,
    "describe": TrainConfig,
    "lr-find": TrainConfig,
    "check-order": TrainConfig,
}


def main() -> int:
    """Write the pages, or with --check say which differ from what would be written."""
    pages = {
        "commands.md": render_commands(),
        "settings.md": render_settings(TrainConfig) + "\n".join(_render_presets()),
        "finetune-settings.md": render_settings(FinetuneConfig),
        "glossary.md": render_glossary(),
    }
    stale = [name for name, text in pages.items() if not _is_same(REFERENCE / name, text)]
    if "--check" in sys.argv[1:]:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is stale: run python docs/make_reference.py\n")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(pages[name], encoding="utf-8")
    return 0


def render_settings(kind: type[CommandConfig]) -> str:
    """Return the page of all settings of a command with sections."""
    lines = [
        f"# Settings of `cnnclf {kind.command}`",
        "",
        "Each setting is an option, a key of a TOML file (`--config FILE`) and a key of `--set`.",
        "From weakest to strongest: the default, the preset, the file, `--set`, the option. The",
        "plan of a run replaces each `auto` by a value; `--dry-run` and `plan.json` show the value",
        "and the reason.",
    ]
    fields = list_fields(kind)
    for section, field in kind.model_fields.items():
        model: Any = field.annotation
        lines += ["", f"## [{section}]", "", model.__doc__.strip(), ""]
        lines += ["| key | option | values | default | meaning |", "|---|---|---|---|---|"]
        for key, setting in fields.items():
            if key.startswith(f"{section}."):
                name = key.removeprefix(f"{section}.")
                cells = (f"`{name}`", f"`{option_name(key)}`", *_describe_setting(key, setting))
                lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _describe_setting(key: str, field: FieldInfo) -> tuple[str, str, str]:
    return describe_values(field), describe_default(key, field), field.description or ""


def _render_presets() -> Iterator[str]:
    yield from ("", "## Presets", "")
    for preset, sections in MODEL_PRESETS.items():
        changes = ", ".join(
            f"`{section}.{key}` = {_shown(value)}"
            for section, values in sections.items()
            for key, value in values.items()
        )
        yield f"- `{preset}`: {changes or 'the defaults above'}"
    yield ""


def render_glossary() -> str:
    """Return the page of all terms; `cnnclf glossary` shows the same."""
    lines = ["# Glossary", "", "`cnnclf glossary TERM` shows a term in the terminal.", ""]
    for term in TERMS:
        options = dict.fromkeys(f"`{option_name(key)}`" for key in term.settings)
        lines += [f"## {term.name}", "", *textwrap.wrap(term.text, 100), ""]
        lines += [f"Options: {', '.join(options)}.", ""] if options else []
    return "\n".join(lines)


def render_commands() -> str:
    """Return the page of all commands with their arguments and options."""
    lines = [
        "# Commands",
        "",
        "The settings of `train` have [a page of their own](settings.md), and so have those of",
        "[`finetune`](finetune-settings.md).",
    ]
    for row in COMMANDS:
        for path, command in _leaves(row[0], load_command(row)):
            lines += ["", f"## cnnclf {path}", "", *_text(command.help), ""]
            lines += ["```", *EXAMPLES[path], "```", ""]
            lines += ["| option | values | default | meaning |", "|---|---|---|---|"]
            lines += [
                _row((_names(parameter), *_describe(path, parameter)))
                for parameter in command.params
                if not (path in PAGES and parameter.name.startswith(SETTING_PREFIX))
            ]
    return "\n".join(lines) + "\n"


def _names(parameter: Any) -> str:
    options = [*parameter.opts, *parameter.secondary_opts]
    shown = [option for option in options if option.startswith("-")]
    return ", ".join(f"`{each}`" for each in shown or [parameter.metavar or parameter.name.upper()])


def _describe(path: str, parameter: Any) -> tuple[str, str, str]:
    """Return the values, the default and the meaning of an argument or option."""
    key = parameter.name.removeprefix(SETTING_PREFIX).replace("__", ".")
    is_choice = "|" in (parameter.metavar or "")
    choices = f"one of {', '.join((parameter.metavar or '').split('|'))}"
    if parameter.name.startswith(SETTING_PREFIX):
        values, default, meaning = _describe_setting(key, list_fields(KINDS[path])[key])
        return (choices if is_choice and values == "text" else values), default, meaning
    # Defaults that depend on other things are written in brackets after the meaning.
    meaning, _, default = (parameter.help or "").rstrip(".]").partition(" [")
    meaning = meaning if meaning.endswith(".") or not meaning else f"{meaning}."
    if parameter.required:
        default = "required"
    elif getattr(parameter, "is_flag", False):
        return "flag", "off", meaning
    elif parameter.default is not None:
        default = str(parameter.default)
    if is_choice:
        return choices, default, meaning
    if getattr(parameter, "min", None) is not None:
        return f"a whole number from {parameter.min} to {parameter.max}", default, meaning
    return parameter.metavar or "text", default, meaning


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    rows = getattr(command, "rows", None)
    if rows is None:
        yield path, command
        return
    for row in rows:
        yield from _leaves(f"{path} {row[0]}", load_command(row))


def _text(help_text: str | None) -> list[str]:
    return [line.strip() for line in (help_text or "").strip().splitlines()]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(str(item) for item in value) or "none"
    return str(value)


def _is_same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
