"""Tables that lie beside the images they label, in a folder that the user gave."""

import os
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.errors import DataError
from cnnclf.importers.formats.tables import read_table
from cnnclf.importers.importer import ImportJob, Record
from cnnclf.importers.source import Source
from cnnclf.importers.tables.text_table import TABLE_SUFFIXES
from cnnclf.importers.walk import list_visible
from cnnclf.progress import Silent

_ROWS: Final = 50
_MAX_TABLES: Final = 20


@dataclass(frozen=True)
class TableBeside:
    """A table in a folder that labels files of this folder."""

    path: Path
    records: list[Record]

    def spoken(self) -> str:
        """Return what it is and how to import it."""
        folders = {record.path.rpartition("/")[0] for record in self.records}
        shared = os.path.commonpath(folders) if "" not in folders else ""
        what = f"the files in {shared}/" if shared else "the files beside it"
        return (
            f"{self.path.name} looks like the labels of {what}: "
            f"cnnclf import {shlex.quote(str(self.path))}"
        )


def find_tables(folder: Path, options: ImportConfig) -> list[TableBeside]:
    """Find the tables directly in a folder that label at least half of what their rows name."""
    found, job = [], ImportJob(folder, options, Silent())
    files = [path for path in list_visible(folder) if path.suffix.lower() in TABLE_SUFFIXES]
    for path in files[:_MAX_TABLES]:
        try:
            listing = read_table(Source(os.fspath(path), path), job)
            records = list(islice(listing.records, _ROWS))
        except DataError:
            continue
        if records and len(records) >= len(listing.skipped):
            found.append(TableBeside(path, records))
    return found
