"""What the cells of a table say: labels, splits and 0 or 1, in any of the usual notations."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cnnclf.importers.layouts.split_words import read_split_name, settle_eval
from cnnclf.names import count_of, name_some

_WHOLE: Final = re.compile(r"([+-]?\d+)\.0+")
_TRUE: Final = frozenset({"1", "1.0", "t", "true", "y", "yes"})
_FALSE: Final = frozenset({"0", "0.0", "f", "false", "n", "no"})
_SEPARATORS: Final = ("|", ";", ",", " ")
_PLURAL: Final = re.compile(r"(finding_)?labels|tags|classes|categories|attribute_?ids|findings")
_FLAGS: Final = {
    "is valid": ("val", "train"),
    "is val": ("val", "train"),
    "is validation": ("val", "train"),
    "is test": ("test", "train"),
    "is train": ("train", "test"),
}
_KAGGLE: Final = {"training": "train", "publictest": "val", "privatetest": "test"}


class CellError(Exception):
    """One cell cannot be used; the rows around it can."""


def as_text(meaning: str, value: object) -> str:
    """Return a cell as text, with bytes that are not UTF-8 kept as surrogates.

    Raises:
        CellError: It is neither text nor a whole number.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise CellError(f"the {meaning} is {str(value)[:40]!r}, not text or an integer")


def readable(text: str) -> str:
    """Return text whose bytes are not UTF-8 as the code page 1252 of Windows has them.

    Raises:
        CellError: They mean nothing there either.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("cp1252")
        except UnicodeError as error:
            raise CellError("its text is not UTF-8; save the table as UTF-8") from error
    return text


def as_label(text: str) -> str:
    """Return a label; 3.0, as tables write the whole numbers of a column with gaps, is 3."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def as_flag(text: str) -> bool | None:
    """Return whether a cell says yes or no, or None if it says neither."""
    folded = text.strip().casefold()
    return True if folded in _TRUE else False if folded in _FALSE else None


class UnnamedSplitError(CellError):
    """A split that the user did not name among those to use."""

    def __init__(self, split: str) -> None:
        super().__init__(f"the split {split!r} is not in --splits")
        self.split = split


@dataclass(frozen=True)
class SplitRule:
    """What the cells of a split column mean.

    Args:
        known: From each value, in lower case, to its split.
        is_given: Whether the user named the values to use, so that others are skipped.
    """

    known: Mapping[str, str]
    is_given: bool = False

    def read(self, text: str) -> str:
        """Return the split of a cell; "" for none.

        Raises:
            UnnamedSplitError: The user named other splits.
            CellError: It names no split.
        """
        if not text:
            return ""
        split = self.known.get(as_label(text).casefold())
        if not split and self.is_given:
            raise UnnamedSplitError(text)
        split = split or _read_plainly(text, self.known)
        if not split:
            raise CellError(f"the split {text!r} is not train, val or test")
        return split


def find_split_rule(
    column: str, values: Iterable[str], *, given: tuple[tuple[str, str], ...] | None
) -> SplitRule | None:
    """Find out what the values of a column mean as splits.

    Args:
        column: Its name.
        values: Of the first rows.
        given: Pairs of a split and a value, if the user said so.

    Returns:
        None if none of them names a split.
    """
    seen = {as_label(value).casefold() for value in values if value}
    if given:
        known = {as_label(name).casefold(): split for split, name in given}
        return SplitRule(known, is_given=True)
    flags = _FLAGS.get(" ".join(column.casefold().replace("_", " ").split()))
    if flags and all(as_flag(value) is not None for value in seen):
        return SplitRule({**dict.fromkeys(_TRUE, flags[0]), **dict.fromkeys(_FALSE, flags[1])})
    if "publictest" in seen and "privatetest" in seen:
        return SplitRule(_KAGGLE)
    read = {value: read_split_name(value).split for value in seen}
    known = {value: settle_eval(split, read.values()) for value, split in read.items() if split}
    return SplitRule(known) if known else None


def report_given_splits(
    rule: SplitRule | None, *, named: Collection[str], unnamed: Counter[str]
) -> list[str]:
    """Report what --splits and the rows of a table do not have in common.

    Args:
        rule: What the cells mean; None without a split column.
        named: The values of all rows, in lower case.
        unnamed: The rows of other splits by value, which were skipped.
    """
    warnings = []
    if unnamed:
        warnings.append(
            f"{count_of(unnamed.total(), 'row')} of splits that --splits does not name skipped: "
            f"{name_some(list(unnamed))}"
        )
    if rule and rule.is_given and (missing := rule.known.keys() - set(named)):
        warnings.append(f"--splits: no row has the split {name_some(sorted(missing))}")
    return warnings


def find_separator(column: str, labels: Iterable[str]) -> str | None:
    """Find what separates several labels in a cell.

    A separator counts if its parts are also labels of other cells, or if the column is named in
    the plural; a single "red | blue" may be the name of a class.
    """
    counts = Counter(label for label in labels if label)
    plural = _PLURAL.fullmatch(column.casefold().replace(" ", "_")) is not None
    for separator in _SEPARATORS:
        packed = [label for label in counts if separator in label]
        parts = Counter(part.strip() for label in packed for part in label.split(separator))
        alone = sum(part in counts for part in parts)
        shared = sum(count > 1 for count in parts.values())
        if not packed or "" in parts:
            continue
        if separator == " ":
            # Names of classes have spaces, too.
            repeated = (alone or shared) and 2 * len(parts) <= parts.total()
            if plural and (repeated or alone == len(parts)):
                return separator
        elif plural or alone or shared > 1:
            return separator
    return None


def text_values(rows: Iterable[Mapping[str, Any]], column: str) -> list[str]:
    """Return the cells of a column that are text or whole numbers."""
    values = []
    for row in rows:
        try:
            values.append(readable(as_text(column, row.get(column))))
        except CellError:
            values.append("")
    return values


def _read_plainly(text: str, known: Mapping[str, str]) -> str:
    """Read a value that is not among the first rows, such as those of a table sorted by split."""
    if not _KAGGLE.keys() & (known.keys() - {"training"}) and text.casefold() in _KAGGLE:
        return _KAGGLE[text.casefold()]
    return settle_eval(read_split_name(text).split, ())
