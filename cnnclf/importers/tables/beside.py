"""Tables that lie beside the images they label, in a folder that the user gave."""

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.json_labels import JSON_LABELS, read_json
from cnnclf.importers.formats.tables import SAMPLED, TABLE, keep_known, sample_rows
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.layouts.class_choice import ClassFolder
from cnnclf.importers.layouts.folder_layout import find_layout
from cnnclf.importers.layouts.folder_view import FolderView, is_image_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.text_table import TABLE_SUFFIXES
from cnnclf.importers.walk import Walk, join, list_visible
from cnnclf.names import count_of
from cnnclf.progress import Silent

_MAX_TABLES: Final = 20
_MAX_BYTES: Final = 64 << 20  # of a document, which is read whole
_SUBMISSION: Final = "submission"  # to a competition: no true labels
_SUFFIXES: Final = (*TABLE_SUFFIXES, ".json")


@dataclass(frozen=True)
class TableBeside:
    """A table in a folder, or in one beside its images, that labels files of this folder.

    Args:
        path: The table.
        folder: The folder of the images.
        records: Its first images.
        within: A folder that no name may lead out of; None for no limit.
    """

    path: Path
    folder: Path
    records: list[Record]
    within: Path | None = None

    @property
    def labeled(self) -> str:
        """Which files it labels, in words."""
        folders = {record.path.rpartition("/")[0] for record in self.records}
        shared = os.path.commonpath(folders) if "" not in folders else ""
        return f"the files in {shared}/" if shared else "the files beside it"

    def spoken(self) -> str:
        """Return what it is and how to import it."""
        command = f"cnnclf import {shlex.quote(str(self.path))}"
        if self.path.parent != self.folder:
            command += f" --root {shlex.quote(str(self.folder))}"
        return f"{self.path.name} looks like the labels of {self.labeled}: {command}"

    def as_importer(self) -> Importer:
        """Return an importer of the folder that reads this table, and counts what it lacks."""
        importer = TABLE if self.path.suffix.lower() in TABLE_SUFFIXES else JSON_LABELS
        table = Source(os.fspath(self.path), self.path, within=self.within)

        def read(_: Source, job: ImportJob) -> Listing:
            listing = importer.read(table, _below(self.folder, self.path, job))
            listing.records = self._count_others(listing, listing.records)
            return listing

        return importer._replace(read=read)

    def _count_others(self, listing: Listing, records: Iterator[Record]) -> Iterator[Record]:
        known = set()
        for record in records:
            path = os.path.normpath(record.path)
            if self.within is not None and path.startswith((os.pardir, os.sep)):
                listing.lose(record.path, "leads out of the archive", label=record.label)
                continue
            known.add(hash(path))
            yield record
        above = os.path.relpath(self.folder, listing.root)  # of what came out of an archive
        files = filter(is_image_name, Walk(self.folder).all_files())
        others = [file for file in files if hash(os.path.normpath(join(above, file))) not in known]
        listing.unneeded.extend((file, f"not in {self.path.name}") for file in others)
        if others:
            listing.remarks.append(
                f"{count_of(len(others), 'image')} that {self.path.name} does not list not used, "
                f"such as {others[0]}"
            )


def find_tables(source: Source, options: ImportConfig) -> tuple[list[TableBeside], bool]:
    """Find the tables and JSON documents in a folder that label half of what they name, or more.

    If there are none, and the folders do not say what the classes are, those in folders that hold
    nothing else are looked at: `annotations/`.

    Args:
        source: The folder of the images.
        options: Of the import.

    Returns:
        The tables, and whether the folders alone say what the classes are.
    """
    folder = source.require_path()
    view = FolderView(folder)
    try:
        has_classes = _has_classes(view, find_layout(folder, options).choice.classes)
    except DataError:  # a folder that --splits names is not there; it may be for a table
        has_classes = False
    found = _find_in(folder, source, options)
    if not found and not has_classes and options.root is None:
        notes = [folder / name for name in view.filled("") if view.holds_notes(name)]
        found = [table for place in notes for table in _find_in(place, source, options)]
    return found, has_classes


def _has_classes(view: FolderView, classes: Iterable[ClassFolder]) -> bool:
    """Return whether folders of two labels have images: a folder of label files is no class."""
    labels = set()
    for each in classes:
        if each.label not in labels and view.has_images_below(each.path):
            labels.add(each.label)
        if len(labels) > 1:
            return True
    return False


def _find_in(place: Path, source: Source, options: ImportConfig) -> list[TableBeside]:
    folder, within = source.require_path(), source.within
    files = [
        path
        for path in list_visible(place)
        if path.suffix.lower() in _SUFFIXES and _SUBMISSION not in path.name.casefold()
    ]
    sampled = [
        TableBeside(path, folder, _sample(path, folder, within, options), within)
        for path in files[:_MAX_TABLES]
    ]
    return [table for table in sampled if table.records]


def _sample(path: Path, folder: Path, within: Path | None, options: ImportConfig) -> list[Record]:
    job = _below(folder, path, ImportJob(folder, options, Silent()))
    if path.suffix.lower() in TABLE_SUFFIXES:
        return sample_rows(Source(os.fspath(path), path, within=within), job.options)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return []
        listing = read_json(path, job)
        return keep_known(listing, islice(listing.records, SAMPLED))
    except (OSError, DataError):
        return []


def _below(folder: Path, path: Path, job: ImportJob) -> ImportJob:
    """Return the job with names that start in a folder, if the table is not there itself."""
    return job if path.parent == folder else job.replace_options(root=folder)
