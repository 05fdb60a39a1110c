"""Names and counts in messages and listings: natural order, a few of many, plurals."""

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def natural_key(text: str) -> str:
    """Return a key that sorts "2" before "10" and "b" between "A" and "C".

    Each run of digits becomes the number of its digits (above 8: a 9 for each full nine, then the
    rest) followed by the digits, so that comparing text compares the numbers. Texts that differ
    only in case or leading zeros are ordered by the text itself.
    """
    return f"{_DIGITS.sub(_sortable_number, text.casefold())}\0{text}"


def sort_in_chunks(names: Iterable[str], size: int) -> Iterator[str]:
    """Sort names naturally, at most `size` at a time.

    Up to `size` names come in natural order. More come chunk by chunk, each in natural order, so
    that the first of a million can be used while the others are still being listed.

    Args:
        names: Consumed only as far as needed.
        size: Maximum number of names in memory, at least 1.
    """
    rest = iter(names)
    while chunk := list(itertools.islice(rest, size)):
        if len(chunk) > 1:
            chunk.sort(key=natural_key)
        yield from chunk


def base_name(path: Path) -> str:
    """Return the name of a directory, also of `.` and `..`, which have none of their own."""
    return Path(os.path.abspath(path)).name  # noqa: PTH100 - takes ".." out


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of directories, or all of their paths where two have one name."""
    names = [base_name(path) for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def name_some(names: Sequence[str], limit: int = 5) -> str:
    """Join names for a message: the first few, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def count_of(count: int, noun: str) -> str:
    """Return a count with a noun: "1 image", "1,200 images", "2 entries", "3 classes"."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{count:,} {noun[:-1]}ies"
    is_hissing = noun.endswith(("s", "x", "ch", "sh")) and noun != "epoch"
    return f"{count:,} {noun}{'es' if is_hissing else 's'}"


def suggest(
    name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6, option: str = ""
) -> str:
    """Ask "did you mean X or Y?"; an empty text if nothing is similar.

    Args:
        name: What was given.
        known: The names that there are.
        count: How many are suggested at most.
        cutoff: Similarity from which names are suggested, 0..1.
        option: What is put before each.
    """
    from difflib import get_close_matches

    near = get_close_matches(name, [*known], n=count, cutoff=cutoff)
    return f"did you mean {' or '.join(option + each for each in near)}?" if near else ""


def join_sides(shape: Iterable[int]) -> str:
    """Write a shape as 32x32x3."""
    return "x".join(map(str, shape))


_DIGITS = re.compile(r"[0-9]+")


def _sortable_number(match: re.Match[str]) -> str:
    digits = match.group().lstrip("0") or "0"
    nines, rest = divmod(len(digits), 9)
    return f"{'9' * nines}{rest}{digits}"
