"""The help page of a command: what it says, in which order, in how many columns.

Typer's own page loads a Markdown renderer and a syntax highlighter to print a few lines and more
than doubles the start of `cnnclf --help` (benchmarks/b1_start.py); this one needs neither, and it
stays readable at 40 columns, where boxes do not.
"""

import inspect
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import typer.core

from cnnclf.cli.examples import EXAMPLES
from cnnclf.cli.help_layout import HelpBlock, HelpRow, lay_out_help
from cnnclf.cli.option_hints import missing_error, valueless_error
from cnnclf.cli.typer_errors import MissingParameter, UsageError

# What most commands share and few people look for.
_LAST_SECTIONS = ("Machine", "Output")

_WITH_HYPERPARAMETERS = ("train", "lr-find", "finetune", "describe")

# Typer's words for the type of a value.
_VALUE_WORDS = {
    "<int range>": "N",
    "<float range>": "NUMBER",
    "<int>": "N",
    "<path>": "",
    "<list[str]>": "",
    "<list[Path]>": "",
    "<str>": "TEXT",
}


class HelpPage(typer.core.TyperCommand):
    """A command with our help page."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and let every usage error know whose arguments they were."""
        given = _give_values(self.params, args)
        if pair := _find_valueless(self.params, given):
            raise valueless_error(ctx.command_path, pair[0], following=pair[1])
        try:
            return super().parse_args(ctx, list(given))
        except MissingParameter as error:
            found, _, _ = self.make_parser(ctx).parse_args(list(given))
            missing = [
                (each.metavar or "").rstrip(".")
                if each.param_type_name == "argument"
                else each.opts[0]
                for each in self.params
                if each.required and not isinstance(found.get(each.name), str | list | tuple)
            ]
            shown = [
                f"{each.opts[0]} {each.metavar}"
                for each in self.params
                if each.metavar and each.opts[0] in missing
            ]
            raise missing_error(ctx.command_path, *missing, options=shown) from error
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page into the formatter."""
        formatter.write(render_help(self, ctx))


def render_help(command: Any, context: Any) -> str:
    """Lay out the help page of a command or a group of commands.

    Returns:
        The page; with colors if stdout is a terminal.
    """
    blocks: list[HelpBlock] = [_usage(context), *_paragraphs(command.help)]
    blocks += _sections(command, context).items()
    blocks += _examples(context)
    if context.command_path.partition(" ")[2] in _WITH_HYPERPARAMETERS:
        blocks.append("'cnnclf glossary OPTION' explains an option: cnnclf glossary stride")
    return lay_out_help([*blocks, *_paragraphs(command.epilog)])


def _give_values(params: Sequence[Any], args: list[str]) -> list[str]:
    """Let an option whose metavar stands in brackets be given without a value; it is empty then.

    Typer knows only options that always take a value and those that never do.
    """
    names = {
        name for param in params if (param.metavar or "").startswith("[") for name in param.opts
    }
    end = args.index("--") if "--" in args else len(args)
    bare = {
        at
        for at, arg in enumerate(args[:end])
        if arg in names and (at + 1 == len(args) or args[at + 1].startswith("-"))
    }
    return [f"{arg}=" if at in bare else arg for at, arg in enumerate(args)]


def _find_valueless(params: Sequence[Any], args: list[str]) -> tuple[str, str] | None:
    """Return the first option that would take the next option as its value, and the next one.

    Typer would take it: `--out --json` would write into a folder of that name.
    """
    options = {name: param for param in params for name in (*param.opts, *param.secondary_opts)}
    end = args.index("--") if "--" in args else len(args)
    for one, two in pairwise(args[:end]):
        takes_value = one.startswith("-") and one in options and not options[one].is_flag
        if takes_value and two.startswith("-") and two.partition("=")[0] in options:
            return one, two
    return None


def _usage(context: Any) -> str:
    """Give the usage line; Typer puts required arguments into braces, which nobody types."""
    usage: str = context.get_usage()
    usage = re.sub(r"\{(.+?)\}", r"\1", usage)
    return re.sub(r"(\.\.\.)+", "...", usage)  # braces and metavar may both have brought them


def _name(record: str) -> str:
    """Give the name of an option or argument with words people know for what it takes."""
    for typers_word, word in _VALUE_WORDS.items():
        record = record.replace(typers_word, word)
    return re.sub(r"<([\w|]+)>", r"\1", record).rstrip()  # of a few values


def _sections(command: Any, context: Any) -> dict[str, list[HelpRow]]:
    """Collect the rows of each section: arguments, options, the panels they name, commands."""
    sections: dict[str, list[HelpRow]] = {"Arguments": [], "Options": []}
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None:
            continue
        is_argument = param.param_type_name == "argument"
        name = re.sub(r" <.*>$", "", record[0]) if is_argument else _name(record[0])
        text = re.sub(r"([\d.]+)<=x<=([\d.]+)", r"\1 to \2", record[1]).replace("[default: ", "[")
        text = re.sub(r"x>=([\d.]+)", r"\1 or more", text)
        title = getattr(param, "rich_help_panel", None) or (
            "Arguments" if is_argument else "Options"
        )
        words = getattr(param, "help", None) or ""
        # What Typer adds to the text (default, range, required) is shown as it is, not as markup.
        sections.setdefault(title, []).append((name, words, text.removeprefix(words).strip()))
    for title in _LAST_SECTIONS:
        sections[title] = sections.pop(title, [])
    if isinstance(command, typer.core.TyperGroup):
        children = [(name, command.get_command(context, name)) for name in command.commands]
        sections["Commands"] = [(name, child.help or "", "") for name, child in children if child]
    return {title: rows for title, rows in sections.items() if rows}


def _examples(context: Any) -> list[str]:
    """Give the examples of a command as one block of lines."""
    lines = EXAMPLES.get(context.command_path.partition(" ")[2], ())
    return ["\n".join(["Examples", *(f"  {line}" for line in lines)])] if lines else []


def _paragraphs(text: str | None) -> list[str]:
    """Join the lines of each paragraph; lines that are indented stay as they are."""
    blocks: list[str] = []
    for block in inspect.cleandoc(text or "").partition("\f")[0].split("\n\n"):
        lines = block.splitlines()
        if any(line.startswith(" ") for line in lines):
            blocks.append("\n".join(lines))
        elif lines:
            blocks.append(" ".join(line.strip() for line in lines))
    return blocks
