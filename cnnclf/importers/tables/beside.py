"""Tables that lie beside the images they label, in a folder that the user gave."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.json_labels import JSON_LABELS, read_json
from cnnclf.importers.formats.tables import SAMPLED, TABLE, keep_known, sample_rows
from cnnclf.importers.importer import Importer, ImportJob, Listing, Record
from cnnclf.importers.layouts.folder_view import FolderView, is_image_name
from cnnclf.importers.source import Source
from cnnclf.importers.tables.text_table import TABLE_SUFFIXES
from cnnclf.importers.walk import Walk, list_visible
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
    """

    path: Path
    folder: Path
    records: list[Record]

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
        table = Source(os.fspath(self.path), self.path)

        def read(_: Source, job: ImportJob) -> Listing:
            listing = importer.read(table, _below(self.folder, self.path, job))
            listing.records = self._count_others(listing, listing.records)
            return listing

        return importer._replace(read=read)

    def _count_others(self, listing: Listing, records: Iterator[Record]) -> Iterator[Record]:
        known = set()
        for record in records:
            known.add(hash(os.path.normpath(record.path)))
            yield record
        files = filter(is_image_name, Walk(self.folder).all_files())
        others = [file for file in files if hash(file) not in known]
        listing.unneeded.extend((file, f"not in {self.path.name}") for file in others)
        if others:
            listing.remarks.append(
                f"{count_of(len(others), 'image')} that {self.path.name} does not list not used, "
                f"such as {others[0]}"
            )


def find_tables(
    folder: Path, options: ImportConfig, *, in_folders: bool = False
) -> list[TableBeside]:
    """Find the tables and JSON documents in a folder that label half of what they name, or more.

    Args:
        folder: Of the images.
        options: Of the import.
        in_folders: If there are none, look into folders that hold nothing else: `annotations/`.
    """
    found = _find_in(folder, folder, options)
    if not found and in_folders and options.root is None:
        view = FolderView(folder)
        notes = [folder / name for name in view.filled("") if view.holds_notes(name)]
        found = [table for place in notes for table in _find_in(place, folder, options)]
    return found


def _find_in(place: Path, folder: Path, options: ImportConfig) -> list[TableBeside]:
    files = [
        path
        for path in list_visible(place)
        if path.suffix.lower() in _SUFFIXES and _SUBMISSION not in path.name.casefold()
    ]
    sampled = [
        TableBeside(path, folder, _sample(path, ImportJob(place, options, Silent()), folder))
        for path in files[:_MAX_TABLES]
    ]
    return [table for table in sampled if table.records]


def _sample(path: Path, job: ImportJob, folder: Path) -> list[Record]:
    job = _below(folder, path, job)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return sample_rows(Source(os.fspath(path), path), job.options)
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
