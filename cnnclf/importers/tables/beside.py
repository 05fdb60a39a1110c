"""Tables that lie beside the images they label, in a folder that the user gave."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cnnclf.config import ImportConfig
from cnnclf.importers.formats.tables import sample_rows
from cnnclf.importers.importer import Record
from cnnclf.importers.source import Source
from cnnclf.importers.tables.text_table import TABLE_SUFFIXES
from cnnclf.importers.walk import list_visible

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
    files = [path for path in list_visible(folder) if path.suffix.lower() in TABLE_SUFFIXES]
    sampled = [
        TableBeside(path, sample_rows(Source(os.fspath(path), path), options))
        for path in files[:_MAX_TABLES]
    ]
    return [table for table in sampled if table.records]
