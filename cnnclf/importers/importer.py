"""What an importer is: it recognizes a source and lists its images; the pipeline does the rest.

To add an importer: write `recognize` and `read` in a file of their own and add a row to `IMPORTERS`
in `importers/__init__.py`.
"""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from cnnclf.bounded import read_bytes
from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.source import Source
from cnnclf.progress import Progress


@dataclass(frozen=True)
class Record:
    """One image of a source, not opened yet.

    Args:
        path: Relative to the root of the listing, with "/" between folders; a name that is not
            UTF-8 holds surrogates, as `os.fsdecode` makes them.
        label: The class of the image.
        split: `train`, `val`, `test`, or "" if the source does not say.
        group: Images of one group (a patient, a film) must stay in one split; "" for no group.
        line: Of the table that names it; 0 if none does.
    """

    path: str
    label: str
    split: str = ""
    group: str = ""
    line: int = field(default=0, compare=False)


_MAX_WAITING: Final = 10_000


@dataclass
class Listing:
    """The images of a source, found one by one while `records` is consumed.

    Args:
        root: The folder that the paths of the records are relative to.
        records: Lazy, so that a source of any size needs the same memory.
        labels: The order of the classes if the source fixes it; None means natural order of the
            labels found.
        skipped: (path, reason) of each file or row that is lost, because it cannot be read or used;
            filled while `records` is consumed, and emptied from time to time by the consumer.
        unneeded: Likewise, of files that are skipped without a loss, such as those outside of the
            class folders.
        lost_labels: The labels of those in `skipped` that have one; filled and emptied likewise.
        remarks: What the user should know (hidden folders ignored, empty class folders); filled
            while `records` is consumed.
        warnings: What the user may have to act on; filled while `records` is consumed.
        kind: What the files hold, as in `InputSpec`; those of another kind are lost.
        unpacked: Whether `root` is inside the dataset, because the source had to be unpacked.
        empty: Set by the consumer: writes `skipped` and `unneeded` down and empties them.
        total: Number of records (skipped ones may count), for the progress bar; None if unknown.
    """

    root: Path
    records: Iterator[Record] = field(default_factory=lambda: iter(()))
    labels: tuple[str, ...] | None = None
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unneeded: list[tuple[str, str]] = field(default_factory=list)
    lost_labels: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kind: str = "image"
    unpacked: bool = False
    total: int | None = None
    empty: Callable[[], None] | None = None

    def lose(self, path: str, reason: str, *, label: str = "") -> None:
        """Add a row to `skipped`, and empty it in time: a million may come without a record."""
        self.skipped.append((path, reason))
        if label:
            self.lost_labels.append(compose_label(label))
        if self.empty is not None and len(self.skipped) >= _MAX_WAITING:
            self.empty()


@dataclass(frozen=True)
class ImportJob:
    """How a source is read.

    Args:
        unpack_dir: A folder, not made yet, for images that have to be unpacked or fetched.
        options: Options of the import.
        progress: Receives the progress of unpacking.
    """

    unpack_dir: Path
    options: ImportConfig
    progress: Progress

    def replace_options(self, **options: object) -> "ImportJob":
        """Return the job with other options."""
        return replace(self, options=self.options.model_copy(update=options))

    def read_classes(self) -> tuple[str, ...] | None:
        """Return the labels in the file given to --classes-file; None without it.

        Raises:
            DataError: The file cannot be used.
        """
        path = self.options.classes_file
        return None if path is None else read_classes_file(path)


Reader = Callable[[Source, ImportJob], Listing]
"""Lists the images of a source.

Bad content as a whole raises `DataError`; one bad file becomes a row of `Listing.skipped`.
"""


class Importer(NamedTuple):
    """A row of the table of importers.

    Args:
        name: The value of `--format`.
        summary: One line for the help text.
        recognize: Takes the source, looks at its content only as far as needed, and returns the
            reason why this importer fits ("it holds ...", to follow "because"), or None.
        read: Lists the images.
        unpacks: Whether `read` writes the images into the folder it is given for that.
        find_inside: Takes a folder that came out of an archive and the options, and returns the
            source of this format in it, or None. None for formats that are not looked for there.
        describe_state: Yields texts that change when the content of the source does, so that a
            cached import can be used again; None means the sizes and times of the files of a path.
        names_files: Returns whether a source names images elsewhere, which may come later; None if
            none does.
    """

    name: str
    summary: str
    recognize: Callable[[Source], str | None]
    read: Reader
    unpacks: bool = False
    find_inside: Callable[[Source, ImportConfig], Source | None] | None = None
    describe_state: Callable[[Source], Iterator[str]] | None = None
    names_files: Callable[[Source, ImportConfig], bool] | None = None


def names_others(source: Source, options: ImportConfig) -> bool:
    """Return whether the images of a table or document are not in the source itself."""
    return options.root is not None or source.require_path().is_file()


def path_importer(
    name: str,
    summary: str,
    *,
    recognize: Callable[[Path], str | None],
    read: Callable[[Path, ImportJob], Listing],
    unpacks: bool = False,
    is_inside: bool = False,
    names_files: Callable[[Source, ImportConfig], bool] | None = None,
) -> Importer:
    """Make the row of an importer of files or folders, whose functions take paths.

    With `is_inside`, a folder that came out of an archive may be such a source.
    """

    def recognize_source(source: Source) -> str | None:
        return None if source.path is None else recognize(source.path)

    def read_source(source: Source, job: ImportJob) -> Listing:
        return read(source.require_path(), job)

    def find_inside(folder: Source, options: ImportConfig) -> Source | None:  # noqa: ARG001
        return folder if recognize_source(folder) else None

    return Importer(
        name,
        summary,
        recognize_source,
        read_source,
        unpacks=unpacks,
        find_inside=find_inside if is_inside else None,
        names_files=names_files,
    )


def compose_label(label: str) -> str:
    """Return a label in the composed Unicode form (NFC), in which equal names are equal.

    macOS writes names decomposed, with an accent as a character of its own.
    """
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def read_classes_file(path: Path) -> tuple[str, ...]:
    """Read the labels of a text file, one per line; blank lines at the end are ignored.

    Raises:
        DataError: The file cannot be read as UTF-8 text, or a label is empty or occurs twice.
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the labels of {path}: {getattr(error, 'strerror', None) or error}",
            "give --classes-file a UTF-8 text file with one label per line",
        ) from error
    labels = tuple(compose_label(line.strip()) for line in lines)
    seen: set[str] = set()
    for number, label in enumerate(labels, start=1):
        if not label or label in seen:
            fault = f"repeats the label {label!r}" if label else "is empty"
            raise DataError(
                f"line {number} of {path} {fault}",
                "fix the file given to --classes-file: one label per line, each of them once",
            )
        seen.add(label)
    if not labels:
        raise DataError(
            f"{path} is empty", "give --classes-file a text file with one label per line"
        )
    return labels
