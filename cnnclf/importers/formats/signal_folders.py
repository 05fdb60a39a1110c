"""Class folders of two-dimensional signals: NumPy arrays, and sounds as their spectrograms.

The files stay where and what they are. What turns one into pixels is the input spec of the model,
so that a file is predicted exactly as it was trained on.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from cnnclf.images.kinds import kind_of
from cnnclf.importers.archives.packed import read_start
from cnnclf.importers.formats.folders import choose_folder_importer
from cnnclf.importers.importer import Importer, ImportJob, Listing, path_importer
from cnnclf.importers.source import Source

_HEAD_BYTES: Final = 16
_LOOKED_AT: Final = 16
_DEPTH: Final = 4
_WORDS: Final = {"array": "NumPy arrays", "sound": "sounds"}
_REMARKS: Final = {
    "array": "arrays of other numbers than uint8 are scaled when they are decoded: the lowest "
    "number of each becomes 0 and its highest 255, or those of the setting data.range",
    "sound": "sounds are seen as mel spectrograms; training chooses how many seconds",
}


def _recognizer(kind: str) -> Callable[[Path], str | None]:
    def recognize(source: Path) -> str | None:
        """Recognize folders whose first files are mostly of the kind."""
        if not source.is_dir():
            return None
        files = list(islice(_some_files(source, depth=_DEPTH), _LOOKED_AT))
        found = [path for path in files if kind_of(read_start(path, _HEAD_BYTES)) == kind]
        if 2 * len(found) <= len(files) or not files:
            return None
        return f"its folders hold {_WORDS[kind]} ({found[0].name})"

    return recognize


def _reader(kind: str) -> Callable[[Path, ImportJob], Listing]:
    def read(source: Path, job: ImportJob) -> Listing:
        """List the class folders or split folders.

        Raises:
            DataError: The folders are not class folders.
        """
        importer, _ = choose_folder_importer(source, job.options)
        listing = importer.read(Source.of(source), job)
        listing.kind = kind
        listing.remarks.append(_REMARKS[kind])
        return listing

    return read


def _row(name: str, kind: str, summary: str) -> Importer:
    return path_importer(
        name,
        summary,
        recognize=_recognizer(kind),
        read=_reader(kind),
        is_inside=True,
    )


def _some_files(folder: Path, *, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_file():
                    yield Path(entry.path)
                elif depth and entry.is_dir():
                    yield from islice(_some_files(Path(entry.path), depth=depth - 1), 4)
    except OSError:
        return  # reported when the folder is read


SIGNAL_IMPORTERS: Final = (
    _row("npy-folders", "array", "NumPy arrays (.npy), one sample each, in class folders"),
    _row("sound-folders", "sound", "sounds (.wav, .flac, .ogg, .mp3) in class folders"),
)
