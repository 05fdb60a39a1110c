"""Files that are something else than a source of images: named as what they are."""

import zipfile
from pathlib import Path
from typing import Final

from cnnclf.errors import DataError
from cnnclf.images.formats import VIDEOS
from cnnclf.importers.archives.packed import read_start

_SHEET: Final = "save it as CSV in the spreadsheet program, and import that"
_UNPACK: Final = "unpack it and import the folder"
_HEAD_BYTES: Final = 16

# How they begin, at which byte, what they are and what to do.
_KINDS: Final[tuple[tuple[bytes, int, str, str], ...]] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, "an Excel workbook (.xls)", _SHEET),
    (b"ARROW1", 0, "an Arrow file", "write its table as CSV"),
    (b"SQLite format 3", 0, "an SQLite database", "export its table as CSV"),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file", "save its arrays as .npz with x and y"),
    (b"MATLAB 5.0", 0, "a MATLAB file", "save its arrays as .npz: scipy.io.loadmat(...)"),
    (b"Rar!\x1a\x07", 0, "a RAR archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive", _UNPACK),
    *VIDEOS,
)
_SHEETS: Final = {
    "xl/workbook.xml": "an Excel workbook (.xlsx)",
    "xl/workbook.bin": "an Excel workbook (.xlsb)",
    "content.xml": "an OpenDocument file",
}


def refuse_foreign(path: Path) -> None:
    """Refuse a file of a kind that people give, but that holds no images that can be imported.

    Raises:
        DataError: It is one; the hint says what to do.
    """
    head = read_start(path, _HEAD_BYTES)
    if head[:2] == b"PK":
        kind, hint = _name_sheet(path), _SHEET
    else:
        found = [row for row in _KINDS if head[row[1] :].startswith(row[0])]
        kind, hint = (found[0][2], found[0][3]) if found else ("", "")
    if kind:
        raise DataError(f"{path} is {kind}, not a source of images", hint)


def _name_sheet(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""  # reported when it is read as an archive
    if "content.xml" in names and "mimetype" not in names:
        return ""
    return next((kind for name, kind in _SHEETS.items() if name in names), "")
