"""Names and counts as people want them: sorted by their numbers, few of many in a message."""

import re
from collections.abc import Sequence


def natural_key(text: str) -> str:
    """Return a key that sorts "2" before "10" and "b" between "A" and "C".

    Each run of digits becomes the count of its digits (9 or more: a 9 for each full nine before the
    rest) followed by the digits, so that plain comparison of text compares the numbers. Texts that
    differ only in case or leading zeros are told apart by the text itself.
    """
    return f"{_DIGITS.sub(_sortable_number, text.casefold())}\0{text}"


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Join names for a message: the first few, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def count_of(count: int, noun: str) -> str:
    """Put a count before a noun that takes an s: "1 picture", "1,200 pictures"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_DIGITS = re.compile(r"[0-9]+")


def _sortable_number(match: re.Match[str]) -> str:
    digits = match.group().lstrip("0") or "0"
    nines, rest = divmod(len(digits), 9)
    return f"{'9' * nines}{rest}{digits}"
