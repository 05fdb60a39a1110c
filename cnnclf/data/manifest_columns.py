"""The manifest in memory: columns, so that a million images fit, and a hash over its rows."""

import hashlib
import json
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.data.description import DATASET_NAME
from cnnclf.data.manifest_rows import SPLITS, read_rows
from cnnclf.errors import DataError, UsageError


@dataclass(frozen=True, eq=False)
class Manifest:
    """The rows of `manifest.csv` as columns, in the order of the file.

    Args:
        paths: Relative to the root of the dataset.
        class_indices: int32 [N], index into the labels of the dataset.
        splits: int8 [N], index into `SPLITS`; -1 for none.
        widths: int32 [N], pixels.
        heights: int32 [N], pixels.
        modes: Pillow's mode.
        sha256: 64 hexadecimal digits each.
        groups: "" for none.
        notes: "" for none.
    """

    paths: list[str]
    class_indices: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int8]
    widths: npt.NDArray[np.int32]
    heights: npt.NDArray[np.int32]
    modes: list[str]
    sha256: list[str]
    groups: list[str]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, split: str) -> npt.NDArray[np.intp]:
        """Return the rows of a split, in the order of the file; `all` means every row.

        Raises:
            UsageError: There is no split of this name.
        """
        if split == "all":
            return np.arange(len(self))
        if split not in SPLITS:
            raise UsageError(
                f"expected one of {', '.join(SPLITS)} or all as split, received {split!r}"
            )
        return np.flatnonzero(self.splits == SPLITS.index(split))

    def training_rows(self) -> npt.NDArray[np.intp]:
        """Return the rows of train, or all of them if it is empty."""
        rows = self.select("train")
        return rows if len(rows) else self.select("all")


class Fingerprint:
    """A hash over everything in a dataset that matters for training and evaluation."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._hash = hashlib.sha256(json.dumps(labels).encode())

    def add(self, path: str, label: str, *, split: str, sha256: str) -> None:
        """Add one row, in the order of the manifest."""
        line = f"\n{path}\0{label}\0{split}\0{sha256}"
        self._hash.update(line.encode("utf-8", "surrogateescape"))

    def hexdigest(self) -> str:
        """Return the hash of all rows added, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def read_manifest(path: Path, labels: tuple[str, ...], *, fingerprint: Fingerprint) -> Manifest:
    """Read a manifest into columns.

    Args:
        path: A `manifest.csv`.
        labels: In the order of the class indices.
        fingerprint: Each row is added to it.

    Raises:
        DataError: The file is not a manifest, or has an unknown label or split.
    """
    class_index = {label: index for index, label in enumerate(labels)}
    split_index = {"": -1} | {split: index for index, split in enumerate(SPLITS)}
    same: dict[str, str] = {}
    paths, modes, digests, groups, notes = ([] for _ in range(5))
    classes, widths, heights = (array("i") for _ in range(3))
    splits = array("b")
    for row in read_rows(path):
        try:
            classes.append(class_index[row.label])
            splits.append(split_index[row.split])
        except KeyError as error:
            raise DataError(
                f"expected a label of {DATASET_NAME} and one of {', '.join(SPLITS)} or nothing as "
                f"split for {row.path!r} in {path}, received {error}",
                "fix the line or import the source again",
            ) from error
        fingerprint.add(row.path, row.label, split=row.split, sha256=row.sha256)
        paths.append(row.path)
        widths.append(row.width)
        heights.append(row.height)
        digests.append(row.sha256)
        # Few different values: keep one object for each.
        modes.append(same.setdefault(row.mode, row.mode))
        groups.append(same.setdefault(row.group, row.group))
        notes.append(same.setdefault(row.note, row.note))
    return Manifest(
        paths=paths,
        class_indices=np.array(classes, np.int32),
        splits=np.array(splits, np.int8),
        widths=np.array(widths, np.int32),
        heights=np.array(heights, np.int32),
        modes=modes,
        sha256=digests,
        groups=groups,
        notes=notes,
    )
