"""What an importer is: it recognizes a source and lists its images; all else is the pipeline's.

To add an importer: write `recognize` and `read` in a file of their own and add a row to `IMPORTERS`
in `importers/__init__.py`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.progress import Progress

__all__ = [
    "ImportOptions",
    "Importer",
    "Listing",
    "Record",
    "read_classes_file",
]

ImportOptions = ImportConfig


@dataclass(frozen=True)
class Record:
    """One image of a source, not opened yet.

    Args:
        path: Relative to the listing's root, with "/" between folders; a name that is no UTF-8
            holds surrogates, as `os.fsdecode` makes them.
        label: What the image shows.
        split: `train`, `val`, `test`, or "" when the source does not say.
        group: Images of one group (a patient, a film) must stay in one split; "" if none.
    """

    path: str
    label: str
    split: str = ""
    group: str = ""


@dataclass
class Listing:
    """The images of a source, found one by one while `records` is consumed.

    Args:
        root: The folder that the paths of the records are relative to.
        records: Lazy, so that a source of any size needs the same memory.
        labels: The order of the classes when the source fixes it; None means natural order of the
            labels seen.
        skipped: (path, reason) of each file passed over; filled while `records` is consumed, and
            emptied now and then by who consumes it.
        remarks: What the user should know (hidden folders ignored, empty class folders); filled
            while `records` is consumed.
        unpacked: Whether `root` lies in the dataset, because the source had to be unpacked.
        total: How many records there will be (skipped ones may count), for the progress bar; None
            if it is not known.
    """

    root: Path
    records: Iterator[Record]
    labels: tuple[str, ...] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    unpacked: bool = False
    total: int | None = None


class Importer(NamedTuple):
    """A row of the table of importers.

    Args:
        name: The word for `--format`.
        summary: One line for the help text.
        recognize: Takes the source, looks at its content only as far as needed, and returns the
            reason why this importer fits ("it holds ...", to follow "because"), or None.
        read: Takes the source, a folder (not yet made) to unpack into if the source has to be
            unpacked, the options and the progress. Bad content as a whole raises `DataError`; one
            bad file becomes a row of `Listing.skipped`.
    """

    name: str
    summary: str
    recognize: Callable[[Path], str | None]
    read: Callable[[Path, Path, ImportOptions, Progress], Listing]


def read_classes_file(path: Path) -> tuple[str, ...]:
    """Read the labels of a text file, one a line; blank lines at the end are ignored.

    Raises:
        DataError: The file cannot be read as UTF-8 text, or a label is empty or occurs twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"expected a text file with one label a line, but {path} cannot be read: {error}",
            "give a UTF-8 text file to --classes-file",
        ) from error
    labels = tuple(line.strip() for line in lines)
    seen: set[str] = set()
    for number, label in enumerate(labels, start=1):
        if not label or label in seen:
            fault = f"the label {label!r} for the second time" if label else "an empty line"
            raise DataError(
                f"expected one label a line, each once, but line {number} of {path} is {fault}",
                "mend the file given to --classes-file",
            )
        seen.add(label)
    if not labels:
        raise DataError(
            f"expected one label a line, but {path} is empty",
            "mend the file given to --classes-file",
        )
    return labels
