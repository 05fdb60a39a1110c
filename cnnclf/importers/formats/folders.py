"""Folders of images: one folder per class, or such folders below train, val and test."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record, path_importer
from cnnclf.importers.layouts.class_choice import ClassFolder
from cnnclf.importers.layouts.folder_layout import (
    CLASS_FOLDERS,
    SPLIT_FOLDERS,
    FolderLayout,
    find_layout,
)
from cnnclf.importers.layouts.folder_view import find_in_path, name_of, parent_of
from cnnclf.importers.layouts.label_lists import LabelList, read_label_list
from cnnclf.importers.layouts.split_words import describe_unread, read_split_name
from cnnclf.importers.tables.repeated_rows import COPY, RepeatedRows
from cnnclf.importers.walk import Walk, list_visible
from cnnclf.names import count_of, name_some

_DEFAULTS: Final = ImportConfig()
_NO_CLASS: Final = "not in a class folder"
_NO_LABEL: Final = "an image without a label"


def choose_folder_importer(source: Path, options: ImportConfig) -> tuple[Importer, str]:
    """Choose between the formats of folders.

    Returns:
        The importer, and the reason for it (to follow "because").

    Raises:
        DataError: It has neither class folders nor split folders, or the user has to decide.
    """
    layout = find_layout(source, options)
    if layout.problem:
        raise layout.problem
    [importer] = [each for each in FOLDER_IMPORTERS if each.name == layout.format]
    return importer, _explain_choice(source, layout)


def _recognize(name: str) -> Callable[[Path], str | None]:
    def recognize(source: Path) -> str | None:
        if not source.is_dir():
            return None
        layout = find_layout(source, _DEFAULTS)
        fits = layout.format == name and not layout.problem
        return _explain_choice(source, layout) if fits else None

    return recognize


def _explain_choice(source: Path, layout: FolderLayout) -> str:
    place = f"{source / layout.base}" if layout.base else "it"
    names = name_some(layout.names)
    if not layout.names:
        return f"{place} holds images"
    if layout.splits:
        return f"{place} holds {names} with folders in them"
    if layout.format == SPLIT_FOLDERS:
        return f"{place} holds classes with split folders in them: {names}"
    return f"{place} holds folders of files: {names}"


def _reader(name: str) -> Callable[[Path, ImportJob], Listing]:
    def read(source: Path, job: ImportJob) -> Listing:
        options = job.options
        layout = find_layout(source, options)
        if layout.problem or layout.format != name:
            layout = find_layout(source, options, format=name)
        if layout.problem:
            raise layout.problem
        walk = Walk(source, ignored=frozenset({job.unpack_dir.parent.name}))
        listing = Listing(
            root=source,
            labels=job.read_classes(),
            skipped=walk.skipped,
            unneeded=walk.unneeded,
            remarks=[*layout.remarks, *_name_other_splits(source, layout)],
            total=walk.count_files(layout.base),
        )
        listing.records = _FolderReader(layout, walk, listing, options.label_from).records()
        return listing

    return read


def _name_other_splits(source: Path, layout: FolderLayout) -> list[str]:
    """Say which folders beside one of a split hold the other splits."""
    own = read_split_name(source.name)
    if layout.splits or not own.split:
        return []
    found = [
        folder.name
        for folder in list_visible(source.parent)
        if (read := read_split_name(folder.name)).split not in {"", own.split}
        and read.rest == own.rest
        and folder.is_dir()
        and (other := find_layout(folder, _DEFAULTS)).format == CLASS_FOLDERS
        and not other.problem
    ]
    return [describe_unread(found, source.parent)] if found else []


FOLDER_IMPORTERS: Final = (
    path_importer(
        SPLIT_FOLDERS,
        "class folders below train, val and test folders, by any common name for them",
        recognize=_recognize(SPLIT_FOLDERS),
        read=_reader(SPLIT_FOLDERS),
    ),
    path_importer(
        CLASS_FOLDERS,
        "one folder of images per class",
        recognize=_recognize(CLASS_FOLDERS),
        read=_reader(CLASS_FOLDERS),
    ),
)


@dataclass(eq=False)
class _FolderReader:
    """Lists the images of a layout, and reports what it skips."""

    layout: FolderLayout
    walk: Walk
    listing: Listing
    label_from: str | None
    _entered: set[str] = field(default_factory=set, init=False)
    _looked: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict, init=False)

    def records(self) -> Iterator[Record]:
        """Yield the images, class by class."""
        layout, choice = self.layout, self.layout.choice
        self._skip_loose()
        for folder in choice.classes:
            yield from self._read_class(folder)
        for found in layout.lists:
            yield from self._read_list(found)
        self._skip_folders()
        if choice.joined:
            self.listing.remarks.append(
                f"sub-folders joined into their class: {name_some(choice.joined)}"
            )
        self._report_empty()
        self.listing.remarks.extend(self.walk.remarks())

    def _read_class(self, folder: ClassFolder) -> Iterator[Record]:
        rule = self.label_from if not folder.label else None
        self._entered.add(folder.path)
        for file in self.walk.all_files(folder.path):
            if rule is None:
                yield Record(file, folder.label, folder.split)
            elif label := _label_of(file[len(self.layout.base) :].lstrip("/"), rule):
                yield Record(file, label, folder.split)
            else:
                self.walk.skipped.append((file, f"--label-from {rule} finds no label"))

    def _read_list(self, found: LabelList) -> Iterator[Record]:
        listed, known = set(), RepeatedRows()
        for record in read_label_list(self.listing.root, found):
            listed.add(record.path)
            fault = known.add(record)
            if not fault:
                yield record
            elif fault != COPY:
                self.listing.lose(record.path, f"{found.table}: {fault}", label=record.label)
        if copies := known.describe_copies():
            self.listing.remarks.append(f"{found.table}: {copies}")
        _, files = self._look(found.folder)
        rest = [file for file in files if file not in listed and file != found.table]
        self.walk.unneeded.extend((file, f"not listed in {found.table}") for file in rest)
        if rest:
            self.listing.warnings.append(
                f"{count_of(len(rest), 'file')} in {found.folder} skipped: not listed in "
                f"{found.table}"
            )

    def _skip_loose(self) -> None:
        layout, choice = self.layout, self.layout.choice
        by_rule = {folder.path for folder in choice.classes if not folder.label}
        for place in dict.fromkeys([*layout.wrappers, *choice.places]):
            if place in by_rule:
                continue
            loose = self._look(place)[1]
            self.walk.unneeded.extend((file, _NO_CLASS) for file in loose)
            if loose and self._split_of(place):
                self.listing.warnings.append(
                    f"{count_of(len(loose), 'file')} directly in {place} skipped: {_NO_CLASS}"
                )
        beside = [file for path in choice.beside for file in self._look(path)[1]]
        self.walk.unneeded.extend((file, "beside the images of a class") for file in beside)
        if beside:
            self.listing.remarks.append(
                f"{count_of(len(beside), 'file')} beside the images of a class skipped, such as "
                f"{beside[0]}"
            )

    def _skip_folders(self) -> None:
        """Skip the files of unlabeled and other folders, each of which is named."""
        for path in self.layout.unlabeled:
            files = list(self.walk.all_files(path))
            self.walk.unneeded.extend((file, _NO_LABEL) for file in files)
            self.listing.warnings.append(
                f"{path} holds {count_of(len(files), 'file')} without a label, not used: they can "
                "be predicted later"
            )
        reasons = Counter(self.layout.choice.skipped.values())
        for reason in reasons:
            paths = [p for p, why in self.layout.choice.skipped.items() if why == reason]
            files = [file for path in paths for file in self.walk.all_files(path)]
            self.walk.unneeded.extend((file, reason) for file in files)
            self.listing.warnings.append(
                f"{count_of(len(files), 'file')} in {name_some(paths)} skipped: {reason}"
            )

    def _report_empty(self) -> None:
        empty = []
        for place in dict.fromkeys([*self.layout.wrappers, *self.layout.choice.places]):
            for path in self._look(place)[0]:
                before = len(self.walk.skipped), len(self.walk.unneeded)
                if path not in self._entered and next(self.walk.all_files(path), None) is None:
                    is_named = before != (len(self.walk.skipped), len(self.walk.unneeded))
                    empty += [] if is_named else [path]
        if empty:
            self.listing.remarks.append(f"empty folders skipped: {name_some(empty)}")

    def _look(self, path: str) -> tuple[list[str], list[str]]:
        """Look at a folder once, because each look reports what is hidden in it."""
        if path not in self._looked:
            self._looked[path] = self.walk.look(path)
        return self._looked[path]

    def _split_of(self, place: str) -> str:
        return next(
            (
                split
                for path, split in self.layout.splits.items()
                if place == path or place.startswith(f"{path}/")
            ),
            "",
        )


def _label_of(file: str, rule: str) -> str:
    """Return the label of a file by --label-from, or "" if it has none.

    Args:
        file: Path below the folder of the splits or classes.
        rule: `parent`, `grandparent` or a regular expression, for the name or else the path.
    """
    if rule in ("parent", "grandparent"):
        above = parent_of(file)
        if rule == "grandparent":
            above = parent_of(above)
        return name_of(above)
    return find_in_path(rule, file)
