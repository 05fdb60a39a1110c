"""The table of commands; a command is imported only when it is called.

`cnnclf --help` and shell completion of command names read the table alone. To add a command, write
`commands/<name>.py` with one annotated function and add a row here.
"""

from importlib import import_module
from typing import Annotated, Any, ClassVar

import typer
import typer.core
import typer.main

from cnnclf import __version__
from cnnclf.cli.help import HelpPage, render_help
from cnnclf.cli.option_hints import suggest_command
from cnnclf.cli.output import out
from cnnclf.errors import UsageError

# Name, module, attribute, summary. The attribute is a function whose annotations are the options
# and whose docstring is the help, or a tuple of rows like these: then it is a group of commands.
CommandRow = tuple[str, str, str, str]


def _row(name: str, summary: str, *, module: str = "", is_group: bool = False) -> CommandRow:
    """Describe a command whose module and function have its name, or a group of commands."""
    spelled = name.replace("-", "_")
    attribute = f"{spelled.upper()}_COMMANDS" if is_group else f"{spelled}_command"
    return name, f"cnnclf.cli.commands.{module or spelled}", attribute, summary


COMMANDS: tuple[CommandRow, ...] = (
    _row("import", "Import images into a dataset.", module="import_"),
    _row("check", "Find out what is wrong with the images of a dataset."),
    _row("train", "Train a CNN on a dataset."),
    _row("lr-find", "Find the learning rate that a network can take."),
    _row("check-order", "Measure what the order of pixels is worth."),
    _row("finetune", "Fine-tune a pretrained backbone on a dataset."),
    _row("tune", "Search for better settings within a time budget."),
    _row("backbones", "List the available backbones."),
    _row("weights", "List, download and import weights.", is_group=True),
    _row("evaluate", "Evaluate a trained model."),
    _row("calibrate", "Choose a threshold that keeps a promise on new images."),
    _row("predict", "Predict the labels of images."),
    _row("explain", "Explain what a trained network sees in images."),
    _row("export", "Export a trained model to another format."),
    _row("adopt", "Use a model of another program."),
    _row("describe", "Describe a network: layers, parameters, receptive fields."),
    _row("convolve", "Slide a filter over an image, as a layer does."),
    _row("report", "Write everything about a run on one page."),
    _row("runs", "List, show, compare, export and remove runs.", is_group=True),
    _row("augment-preview", "Draw augmented images."),
    _row("glossary", "Explain the words of the field."),
    _row("sample-data", "Write sample images."),
    _row("doctor", "Check this machine and suggest fixes."),
    _row("cache", "List and clear the cache.", is_group=True),
    _row("help", "Show the help of a command.", module="about"),
    _row("version", "Print the version.", module="about"),
)

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


class CommandGroup(typer.core.TyperGroup):
    """A group that lists its rows without importing them and imports the one that is called."""

    rows: ClassVar[tuple[CommandRow, ...]] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, _, _, summary in self.rows:
            self.commands[name] = typer.core.TyperCommand(name, callback=None, help=summary)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page into the formatter."""
        formatter.write(render_help(self, ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the command that `args` names, which completion of its options needs, too."""
        for row in self.rows:
            if row[0] == args[0]:
                return row[0], load_command(row), args[1:]
        if ctx.resilient_parsing or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        names = [row[0] for row in self.rows]
        near = suggest_command(args[0], names)
        path = ctx.command_path
        raise UsageError(
            f"{path}: unknown command {args[0]!r}; the commands are {', '.join(names)}",
            hint=f"did you mean '{path} {near}'?" if near else f"{path} --help describes them",
        )


def load_command(row: CommandRow) -> Any:
    """Import the module of a row and build its command or group of commands."""
    name, module, attribute, summary = row
    imported = import_module(module)
    target = getattr(imported, attribute)
    if isinstance(target, tuple):
        return _group_class(target)(
            name=name,
            help=summary,
            no_args_is_help=True,
            rich_markup_mode=None,
            context_settings=CONTEXT_SETTINGS,
        )
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings = CONTEXT_SETTINGS | getattr(imported, "CONTEXT_SETTINGS", {})
    app.command(name, cls=HelpPage, context_settings=settings)(target)
    command: Any = typer.main.get_command(app)
    if name != "help":
        _add_output_options(command)
    return command


def _add_output_options(command: Any) -> None:
    """Add --json and --quiet before --verbose and settings; no command receives their values."""
    from cnnclf.cli.options import set_output
    from cnnclf.cli.settings import SETTING_PREFIX

    app = typer.Typer(add_completion=False)
    app.command()(set_output)
    output: Any = typer.main.get_command(app)
    names, later = [each.name for each in output.params], ("verbose", SETTING_PREFIX)
    own = [each.name.startswith(later) for each in command.params]
    at = own.index(True) if True in own else len(own)
    command.params[at:at] = output.params
    run = command.callback
    command.callback = lambda **given: run(
        **{name: value for name, value in given.items() if name not in names}
    )


def build_root() -> Any:
    """Build the root command `cnnclf` with its global options."""
    app = typer.Typer(
        name="cnnclf",
        cls=_group_class(COMMANDS),
        callback=_root,
        help=_HELP,
        epilog="Every command has its own help, for example: cnnclf train --help",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )
    return typer.main.get_command(app)


_HELP = "Train, evaluate, explain and export image classifiers, starting from a folder of images."


def _group_class(rows: tuple[CommandRow, ...]) -> type[CommandGroup]:
    return type("CommandGroup", (CommandGroup,), {"rows": rows})


def _print_version(value: bool) -> None:
    if value:
        out.line(f"cnnclf {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            help="Show the Python traceback of an error; so does CNNCLF_TRACEBACK=1.",
        ),
    ] = False,
) -> None:
    """Take the global options; `main` reads --traceback from the arguments."""
