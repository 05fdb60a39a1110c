"""What a check is and what it finds: the words that the table, the checks and the report share."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cnnclf.data.manifest import Dataset
    from cnnclf.quality.check_evidence import Evidence


_MOST: Final = 0.5  # of all images


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Case(NamedTuple):
    """What a check has found, before it is put into words of the table.

    Args:
        words: What is special about it, in words that follow its path.
        row: The image, a row of the manifest; None if it is no image of the manifest.
        other: A second image that belongs to the finding.
        path: The file, if there is no row; "" for a finding about the dataset.
        value: The number that the finding rests on.
        suggested: The label that would fit better, or "".
    """

    words: str
    row: int | None = None
    other: int | None = None
    path: str = ""
    value: float | None = None
    suggested: str = ""


@dataclass(frozen=True)
class Finding:
    """One line of findings.csv; the names of the fields are its header.

    Args:
        severity: How bad it is.
        check: Name of the check.
        message: What was found.
        path: The file; "" for a finding about the dataset.
        label: The class of the image, or "".
        split: The split of the image, or "".
        other_path: A second file that belongs to the finding, or "".
        other_label: Its class, or "".
        other_split: Its split, or "".
        value: The number that the finding rests on, or None.
        suggested: The label that would fit better, or "".
        sha256: The first 16 digits of the checksum of the file at its import, or "".
    """

    severity: Severity
    check: str
    message: str
    path: str = ""
    label: str = ""
    split: str = ""
    other_path: str = ""
    other_label: str = ""
    other_split: str = ""
    value: float | None = None
    suggested: str = ""
    sha256: str = ""


class Check(NamedTuple):
    """A row of the table of checks.

    Args:
        name: As in findings.csv.
        severity: Of its findings.
        title: What is found, in the plural.
        effect: What it does to a model.
        action: What to do about it.
        find: Finds the cases.
        needs: What a dataset must have for this check: `splits`, `classes` (two or more), `groups`,
            `features`, `features or a run`, or "" for nothing.
        is_property: Whether it becomes one note about the whole dataset if more than a tenth of all
            images have it.
    """

    name: str
    severity: Severity
    title: str
    effect: str
    action: str
    find: "Callable[[Evidence], Iterable[Case]]"
    needs: str = ""
    is_property: bool = True


def advise(check: Check, findings: Sequence[Finding], *, dataset: "Dataset") -> str:
    """Return what to do about the findings of a check; never to remove most of a dataset."""
    first = findings[0]
    is_property = check.is_property and not first.path
    share = first.value or 0.0 if is_property else len(findings) / len(dataset)
    if share > _MOST and "remove" in check.action:
        return "remove none, as they are most images: look at how they were made and exported"
    if dataset.place != str(dataset.directory):  # in the cache, where no command changes it
        return check.action
    return check.action.replace("DATASET", shlex.quote(dataset.place))
