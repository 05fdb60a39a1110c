"""Versions of a manifest: each change is a new file beside the old ones, and can be undone.

`manifest.csv` is what the import wrote; `manifest-2.csv` is the first change of it, and
`changes-2.csv` says what was changed in which row, and why. `dataset.json` names the version in use
and those before it. No file is overwritten or removed, images least of all.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from cnnclf.data.description import load_description, write_description
from cnnclf.data.manifest import save_dataset
from cnnclf.data.manifest_rows import SPLITS, Row, read_rows, write_rows
from cnnclf.errors import DataError
from cnnclf.names import name_some, suggest

Action = Literal["remove", "relabel", "move"]

OWN_FILES: Final = re.compile(r"(?:manifest|changes)-(\d{1,9})\.csv")
"""Names of the files of versions after the first one."""

_COLUMNS: Final = {"relabel": "label", "move": "split"}
_MAX_LISTED: Final = 20
_STATE: Final = ("version", "manifest", "fingerprint", "counts", "why")  # what versions differ in


class RowChange(NamedTuple):
    """What happens to one image; changes-N.csv has the fields but the row.

    Args:
        path: As in the manifest.
        action: What happens.
        value: The new label or split; "" for a removal.
        reason: Why, in words.
        row: Number of the row in the manifest in use, from 0; None means all rows of the path,
            which earlier versions imported more than once if a table named it more than once.
    """

    path: str
    action: Action
    value: str
    reason: str
    row: int | None = None


@dataclass(frozen=True)
class Version:
    """A version of a manifest that came into use.

    Args:
        manifest: Its file.
        kept: The one that was in use before, which stays.
        changes: The file that lists what was changed; None after an undo.
        counts: Number of images removed, relabeled and moved, by reason; empty after an undo.
        why: What asked for it.
    """

    manifest: Path
    kept: Path
    changes: Path | None
    counts: dict[Action, dict[str, int]]
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as types that JSON supports."""
        paths = (self.manifest, self.kept, self.changes)
        names = dict(zip(("manifest", "kept", "changes"), map(str, paths), strict=True))
        return asdict(self) | names | ({} if self.changes else {"changes": None})


def write_version(directory: Path, changes: Iterable[RowChange], *, why: str) -> Version | None:
    """Write a new version of a manifest, and use it.

    Args:
        directory: A dataset directory.
        changes: At most one for each row and action.
        why: What asked for them, such as the options of the command.

    Returns:
        The version; None if there was nothing to change.

    Raises:
        DataError: The directory is no dataset, a label does not exist, or no image would be left.
        DeviceError: The disk is full.
        RunError: A file cannot be written.
    """
    found = load_description(directory)
    by_path: dict[str, list[RowChange]] = {}
    for change in changes:
        known = {"relabel": found["labels"], "move": SPLITS}.get(change.action)
        if known is not None and change.value not in known:
            raise DataError(
                f"cannot {change.action} {change.path} to {change.value!r}: expected one of "
                f"{name_some(known, _MAX_LISTED)}",
                suggest(change.value, known)
                or "correct the file, or import the images with this class",
            )
        by_path.setdefault(change.path, []).append(change)
    old = directory / found["manifest"]
    if not any(_changes(row, number, by_path) for number, row in enumerate(read_rows(old))):
        return None
    numbers = [OWN_FILES.fullmatch(path.name) for path in directory.iterdir()]
    version_number = 1 + max([1, *(int(match[1]) for match in numbers if match)])
    listing = directory / f"changes-{version_number}.csv"
    new = directory / f"manifest-{version_number}.csv"
    done: list[RowChange] = []

    def changed() -> Iterator[Row]:
        is_empty = True
        for number, row in enumerate(read_rows(old)):
            mine = _changes(row, number, by_path)
            done.extend(mine)
            if not any(change.action == "remove" for change in mine):
                is_empty = False
                new_values: dict[str, Any] = {_COLUMNS[each.action]: each.value for each in mine}
                yield row._replace(**new_values)
        if is_empty:
            raise DataError(f"no image of {directory} would be left", "remove fewer images")
        # before dataset.json, so that none is without its reasons
        write_rows(listing, (each[:-1] for each in done), header=RowChange._fields[:-1])

    state = {name: found.get(name, "") for name in _STATE}
    save_dataset(
        directory,
        changed(),
        labels=tuple(found["labels"]),
        root=found["root"],
        source=found["source"],
        version={"manifest": new.name, "why": why, "versions": [*found["versions"], state]},
    )
    counts: dict[Action, dict[str, int]] = {}
    for change in done:
        of_action = counts.setdefault(change.action, {})
        of_action[change.reason] = of_action.get(change.reason, 0) + 1
    return Version(new, old, listing, counts, why)


def undo_version(directory: Path) -> Version:
    """Use the version before the one in use, whose files stay.

    Raises:
        DataError: The directory is no dataset, or its manifest is what the import wrote.
        RunError: The description cannot be written.
    """
    found = load_description(directory)
    if not found["versions"]:
        raise DataError(
            f"there is nothing to undo in {directory}: its manifest is what the import wrote",
            "cnnclf import DATASET --apply FILE makes a version that can be undone",
        )
    *earlier, last = found["versions"]
    if not (directory / last["manifest"]).is_file():
        raise DataError(
            f"cannot undo: {directory / last['manifest']} does not exist", "restore the file"
        )
    write_description(directory, found | last | {"versions": earlier})
    manifest, kept = directory / last["manifest"], directory / found["manifest"]
    return Version(manifest, kept, None, {}, f"undid: {found.get('why', '')}")


def read_known_files(directory: Path) -> dict[str, set[str]]:
    """Return the checksums that each path has in the manifest in use and those before it."""
    found = load_description(directory)
    known: dict[str, set[str]] = {}
    for name in {found["manifest"], *(each["manifest"] for each in found["versions"])}:
        for row in read_rows(directory / name):
            known.setdefault(row.path, set()).add(row.sha256)
    return known


def _changes(row: Row, number: int, by_path: dict[str, list[RowChange]]) -> list[RowChange]:
    """Return the changes that make a difference to a row of this number."""
    return [
        change
        for change in by_path.get(row.path, ())
        if change.row in (None, number)
        and (change.action == "remove" or getattr(row, _COLUMNS[change.action]) != change.value)
    ]
