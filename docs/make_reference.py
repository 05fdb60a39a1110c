"""Writes docs/reference/*.md from the commands and settings themselves.

Run from the root of the project: python docs/make_reference.py [--check]
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnclf.cli.app import COMMANDS, load_command
from cnnclf.config import (
    MODEL_PRESETS,
    CommandConfig,
    FinetuneConfig,
    TrainConfig,
    choices_of,
    option_name,
)

REFERENCE = Path(__file__).parent / "reference"


def main() -> int:
    """Write the pages, or with --check say which differ from what would be written."""
    pages = {
        "commands.md": render_commands(),
        "settings.md": render_settings("train", TrainConfig) + "\n".join(_render_presets()),
        "finetune-settings.md": render_settings("finetune", FinetuneConfig),
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


def render_settings(command: str, kind: type[CommandConfig]) -> str:
    """Return the page of all settings of a command."""
    lines = [
        f"# Settings of `cnnclf {command}`",
        "",
        "Each is an option, a key of a TOML file (`--config FILE`) and a key of `--set`. Weakest",
        "to strongest: the default, the preset, the file, `--set`, the option. What is `auto` is",
        "resolved for the dataset; `--dry-run` and `plan.json` say to what, and why.",
    ]
    for section, field in kind.model_fields.items():
        model: Any = field.annotation
        lines += ["", f"## [{section}]", "", model.__doc__.strip(), ""]
        lines += ["| key | option | default | meaning |", "|---|---|---|---|"]
        for name, setting in model.model_fields.items():
            choices = ", ".join(choices_of(setting))
            meaning = setting.description + (f" One of {choices}." if choices else "")
            default = "" if setting.default is None else _shown(setting.default)
            lines.append(
                f"| `{name}` | `{option_name(f'{section}.{name}')}` | {default} | {meaning} |"
            )
    return "\n".join(lines) + "\n"


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


def render_commands() -> str:
    """Return the page of all commands with their arguments and options."""
    lines = [
        "# Commands",
        "",
        "The settings of `train` have [a page of their own](settings.md), those of `finetune`",
        "[another](finetune-settings.md).",
    ]
    for row in COMMANDS:
        for path, command in _leaves(row[0], load_command(row)):
            lines += ["", f"## cnnclf {path}", "", *_text(command.help), "", "| | |", "|---|---|"]
            for parameter in command.params:
                if "__" in (parameter.name or "") or getattr(parameter, "hidden", False):
                    continue  # a setting
                name = ", ".join(f"`{text}`" for text in parameter.opts if text.startswith("-"))
                name = name or f"`{parameter.metavar or str(parameter.name).upper()}`"
                lines.append(f"| {name} | {parameter.help or ''} |")
    return "\n".join(lines) + "\n"


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
