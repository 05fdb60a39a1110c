"""Text in figures: fonts, characters that no font has, and names that are too long.

Labels and paths come from the user, in any script and of any length. matplotlib warns about
characters that its fonts lack and reads `$` as math; text from this module causes neither.
"""

import logging
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

# Without a writable home, it warns about its temporary font cache, which needs no action.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

MISSING = "\N{WHITE SQUARE}"  # replaces a character that no installed font has

# DejaVu Sans is part of matplotlib; the others add scripts that it lacks, if installed.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "IPAexGothic",
    "NanumGothic",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Noto Sans Bengali",
    "Noto Sans Tamil",
    "Noto Sans Thai",
    "Nirmala UI",
    "Arial Unicode MS",
    "FreeSans",
)


def font(size: float, *, bold: bool = False) -> Any:
    """Return the font of all figures.

    Args:
        size: Font size in points.
        bold: Use the bold weight.

    Returns:
        A matplotlib FontProperties with the families that are installed.
    """
    from matplotlib.font_manager import FontProperties

    families = list(_font_files())
    return FontProperties(family=families, size=size, weight="bold" if bold else "normal")


@cache
def find_font_file(text: str, *, bold: bool = False) -> str:
    """Find the font file that draws a text, for libraries that take only one.

    Returns:
        Path of the first installed family that has most of the characters.
    """
    wanted, known = {ord(char) for char in text}, _characters()
    return _find_file(max(known, key=lambda name: len(wanted & known[name])), bold)


def drawable(text: str) -> str:
    """Replace characters that no installed font has.

    Args:
        text: Any string, also with control characters and undecodable bytes.

    Returns:
        One line in which every character has a glyph.
    """
    known = _known_characters()
    text = unicodedata.normalize("NFC", text)
    return "".join(
        " " if unicodedata.category(char) in {"Cc", "Zl", "Zp"} else _glyph(char, known)
        for char in text
    )


def elide(text: str, inches: float, *, size: float) -> str:
    """Shorten a text that is too wide in the middle.

    Args:
        text: Any string; made drawable first.
        inches: The available width.
        size: Font size in points.

    Returns:
        The text, or its beginning and end around an ellipsis.
    """
    text = drawable(text)
    if _width_inches(text, size) <= inches:
        return text
    keep, too_many = 0, len(text)
    while too_many - keep > 1:
        middle = (keep + too_many) // 2
        if _width_inches(_without_middle(text, middle), size) <= inches:
            keep = middle
        else:
            too_many = middle
    return _without_middle(text, keep)


def distinct_names(labels: Sequence[str], inches: float, *, size: float) -> list[str]:
    """Return names of the classes that fit and are distinct.

    Args:
        labels: Names of the classes in order.
        inches: The available width of each.
        size: Font size in points.

    Returns:
        One name per label. If characters cannot be drawn, or two labels look the same when
        shortened, the class index is added in front.
    """
    names = [elide(label, inches, size=size) for label in labels]
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return [
        f"{i}: {name}" if seen[name] > 1 or (MISSING in name and MISSING not in label) else name
        for i, (name, label) in enumerate(zip(names, labels, strict=True))
    ]


@cache
def _font_files() -> dict[str, str]:
    from matplotlib.font_manager import fontManager

    installed: dict[str, str] = {}
    for entry in fontManager.ttflist:
        if entry.style == "normal":
            installed.setdefault(entry.name, entry.fname)
    return {family: installed[family] for family in _FAMILIES if family in installed}


@cache
def _find_file(family: str, bold: bool) -> str:
    from matplotlib.font_manager import findfont

    properties = font(10, bold=bold)
    properties.set_family([family])
    return str(findfont(properties))


@cache
def _characters() -> dict[str, frozenset[int]]:
    """Return the characters of each installed family; reading them takes long."""
    from matplotlib.font_manager import get_font

    return {name: frozenset(get_font(file).get_charmap()) for name, file in _font_files().items()}


@cache
def _known_characters() -> frozenset[int]:
    return frozenset().union(*_characters().values())


def _glyph(char: str, known: frozenset[int]) -> str:
    if ord(char) in known:
        return char
    # Joiners and variation selectors only shape their neighbors.
    return "" if unicodedata.category(char) in {"Cf", "Mn", "Me"} else MISSING


@cache
def _measuring_font(size: float) -> Any:
    return font(size)


def _width_inches(text: str, size: float) -> float:
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(
        text, _measuring_font(size), ismath=False
    )
    return float(width) / 72


def _without_middle(text: str, keep: int) -> str:
    tail = (keep + 1) // 2
    return f"{text[: keep - tail]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - tail :]}"
