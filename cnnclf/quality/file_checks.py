"""Checks of files: gone, damaged, changed, misnamed, turned by EXIF."""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from cnnclf.data.manifest import SKIPPED_NAME
from cnnclf.images.formats import SUFFIXES
from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case

_GRAY_MODES = ("1", "L", "LA", "I", "F")


def find_missing(evidence: Evidence) -> Iterator[Case]:
    """Find files that are gone since the import."""
    for row in evidence.facts.missing:
        yield Case("no longer exists", row)


def find_unreadable(evidence: Evidence) -> Iterator[Case]:
    """Find files that cannot be decoded now, and those that the import could not use."""
    for row, reason in sorted(evidence.facts.damaged.items()):
        yield Case(reason, row)
    if not evidence.dataset.source.get("unread"):
        return  # all skipped files were skipped without a loss
    path = evidence.dataset.directory / SKIPPED_NAME
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for row_of_file in csv.DictReader(file):
                name, reason = row_of_file.get("path") or "", row_of_file.get("reason") or ""
                if PurePosixPath(name).suffix.lower() in SUFFIXES:
                    yield Case(f"{reason} (skipped by the import)", path=name)
    except (OSError, csv.Error):
        return  # the list is a convenience; the dataset itself is whole


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
    if mode.partition(";")[0] in _GRAY_MODES:
        return "gray"
    return "CMYK" if mode == "CMYK" else "color"
