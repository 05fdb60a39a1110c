"""A help page laid out in the columns of the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnclf.cli.output import out
from cnnclf.cli.table_layout import wrap_line, wrap_to_copy

if TYPE_CHECKING:
    from rich.text import Text

HelpRow = tuple[str, str, str]  # name; description; what follows it, dim
HelpBlock = str | tuple[str, list[HelpRow]]  # a paragraph, or a title and its rows

# A left column wider than this fraction of the page puts the description on a line of its own.
_LEFT_FRACTION = 0.4


def lay_out_help(blocks: Sequence[HelpBlock]) -> str:
    """Lay out a help page.

    Returns:
        The page, with colors if stdout is a terminal.
    """
    from rich.text import Text

    console = out.console("stdout")
    width = min(console.width, 100)
    names = [row[0] for block in blocks if not isinstance(block, str) for row in block[1]]
    fitting = [len(name) for name in names if len(name) + 4 <= width * _LEFT_FRACTION]
    left = max(fitting, default=0) + 4
    lines: list[Text] = []
    for block in blocks:
        if isinstance(block, str):
            for part in block.split("\n"):
                if part.startswith(" "):  # a command, to be copied
                    lines.append(Text(wrap_to_copy(part, out.width("stdout"))))
                else:
                    lines += _parse(part).wrap(console, width)
        else:
            title, rows = block
            lines.append(Text(title, style="bold"))
            for row in rows:
                lines += _lay_out_row(row, left=left, width=width)
        lines.append(Text())
    with console.capture() as capture:
        for line in lines[:-1]:
            line.rstrip()
            console.print(line, soft_wrap=True)
    return capture.get()


def _lay_out_row(row: HelpRow, *, left: int, width: int) -> list["Text"]:
    """Set a name beside its description, or above it if it is too long."""
    from rich.text import Text

    name, words, extra = row
    lines = []
    head = Text(f"  {name}".ljust(left), style="cyan")
    if len(name) + 4 > left:  # too long a list of choices is broken between them
        choices = f"  {name.replace('|', '| ')}" if len(name) + 2 > width else head.plain
        parts = wrap_line(choices, width)
        lines += [Text(part.replace("| ", "|"), style="cyan") for part in parts]
        head = Text(" " * left)
    text = _parse(words).append(f" {extra}" if words else extra, style="dim")
    text.rstrip()
    first, *rest = text.wrap(out.console("stdout"), width - left) or [Text()]
    return [*lines, head + first, *(Text(" " * left) + line for line in rest)]


def _parse(words: str) -> "Text":
    """Parse markup; its parser is loaded only if there is some."""
    from rich.text import Text

    return Text.from_markup(words) if "[/" in words else Text(words)
