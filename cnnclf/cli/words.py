"""Values as text for people: numbers, durations, rates, and text that is safe to show."""

import json
import unicodedata
from enum import Enum


def format_value(value: object) -> str:
    """Return a value as text for people.

    Args:
        value: Anything; None becomes a dash, floats get four decimals or three significant digits.

    Returns:
        One line; control characters are escaped.
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e3:
            return f"{value:.4f}"
        return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(each) for each in value)
    return safe_text(str(value.value if isinstance(value, Enum) else value))


def format_seconds(seconds: float) -> str:
    """Return a duration such as 3.2 s, 4 min 05 s or 2 h 13 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_rate(rate: float) -> str:
    """Return a rate with about three digits."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def format_ms(milliseconds: float) -> str:
    """Return milliseconds with three digits, and never as a power of ten."""
    return f"{milliseconds:.3g}" if milliseconds < 999.5 else f"{milliseconds:,.0f}"


def safe_text(text: str) -> str:
    """Escape what a terminal would obey: control and line break characters, bidi overrides.

    File names, labels and messages of other libraries may contain them. Everything for people
    passes through here; one line stays one line.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def safe_json(text: str) -> str:
    """Escape in a JSON document what a terminal would obey; the content stays the same."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text
    )


def encodable(text: str, encoding: str | None) -> str:
    """Escape what an encoding cannot represent."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def count_cells(text: str) -> int:
    """Count the columns a text takes on a terminal: wide characters take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def pad_cells(text: str, width: int, *, right: bool = False) -> str:
    """Fill a text with spaces up to a number of columns, at its right end or (right) its left."""
    spaces = " " * (width - count_cells(text))
    return spaces + text if right else text + spaces
