"""Checks of files: gone, damaged, changed, misnamed, turned by EXIF."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

import numpy as np

from cnnclf.data.manifest import SKIPPED_NAME
from cnnclf.images.formats import SUFFIXES
from cnnclf.images.modes import is_gray_mode
from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case

# Reasons of the import, by their first words, after the lines of a table.
_LINE: Final = re.compile(r"lines? \d+(?: and \d+)?: ")
_UNNEEDED: Final = re.compile(
    r"not in |(?:an image|images) without a label|not listed in |beside |masks or |"
    r"not a folder of a split|the link leads back|the split .* is not in --splits|"
    r".* holds the folders of .* again|no images$"
)
_FILE: Final = re.compile(r"the folder cannot be read|damaged after|.* samples before it were read")
_MISSING: Final = re.compile(r"no such file|the link leads nowhere")
_ROW: Final = re.compile(
    r"has |its text |the (?:label|split|group|path) |label |no (?:label|image)|give the file |"
    r"is not (?:a )?JSON|fits more than one file|the sample |--label-from "
)


def find_missing(evidence: Evidence) -> Iterator[Case]:
    """Find files that are gone since the import, and those that a source names but lacks."""
    for row in evidence.facts.missing:
        yield Case("no longer exists", row)
    yield from _find_skipped(evidence, "missing")


def find_unreadable(evidence: Evidence) -> Iterator[Case]:
    """Find files that cannot be decoded now, and those that the import could not use."""
    for row, reason in sorted(evidence.facts.damaged.items()):
        yield Case(reason, row)
    yield from _find_skipped(evidence, "file")


def find_unusable_rows(evidence: Evidence) -> Iterator[Case]:
    """Find rows, and names without a label, that the import could not use, whatever is in them."""
    yield from _find_skipped(evidence, "row")


def _find_skipped(evidence: Evidence, kind: str) -> Iterator[Case]:
    """Find what the import skipped for one kind of reason: missing, row, or file."""
    if not evidence.dataset.source.get("unread"):
        return  # all skipped files were skipped without a loss
    path = evidence.dataset.directory / SKIPPED_NAME
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for row in csv.DictReader(file):
                name, reason = row.get("path") or "", row.get("reason") or ""
                if _sort_reason(name, reason) == kind:
                    yield Case(f"{reason} (skipped by the import)", path=name)
    except (OSError, csv.Error):
        return  # the list is a convenience; the dataset itself is whole


def _sort_reason(name: str, reason: str) -> str:
    plain = _LINE.sub("", reason)
    if _UNNEEDED.match(plain):
        return ""
    if _MISSING.match(plain):
        return "missing"
    if _ROW.match(plain):
        return "row"
    is_file = PurePosixPath(name).suffix.lower() in SUFFIXES or _FILE.match(plain)
    return "file" if is_file else ""


def find_skipped_folders(evidence: Evidence) -> Iterator[Case]:
    """Find hidden and empty folders of the source, of which the import took nothing."""
    for remark in evidence.dataset.source.get("remarks") or ():
        if str(remark).startswith(("hidden folders", "empty folders")):
            yield Case(str(remark))


def find_changed_files(evidence: Evidence) -> Iterator[Case]:
    """Find files with other content than at the import."""
    for row in np.flatnonzero(evidence.facts.numbers["is_changed"]).tolist():
        yield Case("its content has changed since the import", row)


def find_mismatches(evidence: Evidence) -> Iterator[Case]:
    """Find files whose name belongs to another format than their content."""
    for row, words in enumerate(evidence.facts.mismatches):
        if words:
            yield Case(words, row)


def find_turned(evidence: Evidence) -> Iterator[Case]:
    """Find images that EXIF turns."""
    for row, words in enumerate(evidence.facts.turns):
        if words:
            yield Case(words, row)


def find_mixed_modes(evidence: Evidence) -> Iterator[Case]:
    """Find the images of the rarer kind, where gray and color images are mixed."""
    modes = evidence.facts.modes
    kinds = Counter(_kind(mode) for mode in modes if mode)
    if len(kinds) < 2:
        return
    usual = kinds.most_common(1)[0][0]
    for row, mode in enumerate(modes):
        if mode and _kind(mode) != usual:
            yield Case(f"{_kind(mode)} (mode {mode}), most images are {usual}", row)


def find_transparent(evidence: Evidence) -> Iterator[Case]:
    """Find images with pixels that are not opaque."""
    for row in np.flatnonzero(evidence.facts.numbers["is_transparent"]).tolist():
        yield Case("has transparent pixels, which become white", row)


def _kind(mode: str) -> str:
    if is_gray_mode(mode):
        return "gray"
    return "CMYK" if mode == "CMYK" else "color"
