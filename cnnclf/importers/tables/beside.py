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
from cnnclf.importers.layouts.folder_view import is_image_name
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
    """A table in a folder that labels files of this folder."""

    path: Path
    records: list[Record]

    @property
    def labeled(self) -> str:
        """Which files it labels, in words."""
        folders = {record.path.rpartition("/")[0] for record in self.records}
        shared = os.path.commonpath(folders) if "" not in folders else ""
        return f"the files in {shared}/" if shared else "the files beside it"

    def spoken(self) -> str:
        """Return what it is and how to import it."""
        return (
            f"{self.path.name} looks like the labels of {self.labeled}: "
            f"cnnclf import {shlex.quote(str(self.path))}"
        )

    def as_importer(self) -> Importer:
        """Return an importer of the folder that reads this table, and counts what it lacks."""
        importer = TABLE if self.path.suffix.lower() in TABLE_SUFFIXES else JSON_LABELS
        table = Source(os.fspath(self.path), self.path)

        def read(_: Source, job: ImportJob) -> Listing:
            listing = importer.read(table, job)
            listing.records = self._count_others(listing, listing.records)
            return listing

        return importer._replace(read=read)

    def _count_others(self, listing: Listing, records: Iterator[Record]) -> Iterator[Record]:
        known = set()
        for record in records:
            known.add(hash(os.path.normpath(record.path)))
            yield record
        files = filter(is_image_name, Walk(self.path.parent).all_files())
        others = [file for file in files if hash(file) not in known]
        listing.unneeded.extend((file, f"not in {self.path.name}") for file in others)
        if others:
            listing.remarks.append(
                f"{count_of(len(others), 'image')} that {self.path.name} does not list not used, "
                f"such as {others[0]}"
            )


def find_tables(folder: Path, options: ImportConfig) -> list[TableBeside]:
    """Find the tables and JSON documents in a folder that label half of what they name, or more."""
    files = [
        path
        for path in list_visible(folder)
        if path.suffix.lower() in _SUFFIXES and _SUBMISSION not in path.name.casefold()
    ]
    sampled = [TableBeside(path, _sample(path, options)) for path in files[:_MAX_TABLES]]
    return [table for table in sampled if table.records]


def _sample(path: Path, options: ImportConfig) -> list[Record]:
    if path.suffix.lower() in TABLE_SUFFIXES:
        return sample_rows(Source(os.fspath(path), path), options)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return []
        listing = read_json(path, ImportJob(path.parent, options, Silent()))
        return keep_known(listing, islice(listing.records, SAMPLED))
    except (OSError, DataError):
        return []
