"""Checks of a dataset: duplicates, small classes."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest import SPLITS, Dataset
from cnnclf.data.splits import Ids
from cnnclf.errors import DataError
from cnnclf.names import name_some

# A class with fewer training images is hardly learned; with a larger ratio between classes, the
# small ones are hardly predicted.
FEW_IMAGES: Final = 10
LARGE_RATIO: Final = 10.0
_EXAMPLES: Final = 3  # of each kind

_FILLING: Final = re.compile(r"[\s_-]+")


@dataclass(frozen=True)
class Duplicates:
    """Images that occur more than once (same bytes or same pixels).

    Args:
        repeats: Number of images that repeat an earlier one in any split.
        inside: The same within each split.
        shared: For two splits (a, b): the rows of a that are also in b, and one row of b for each.
        conflicts: Two rows for each image that occurs with more than one label, int64 [n, 2].
    """

    repeats: int
    inside: dict[str, int]
    shared: dict[tuple[str, str], tuple[Ids, Ids]] = field(repr=False)
    conflicts: Ids = field(repr=False)

    def example_rows(self) -> set[int]:
        """Return the rows of the first few shared images and conflicts of each kind."""
        found = [rows[:_EXAMPLES] for pair in self.shared.values() for rows in pair]
        return set(np.concatenate([*found, self.conflicts[:_EXAMPLES].ravel()]).tolist())


def find_duplicates(
    contents: Ids, class_indices: npt.NDArray[np.int32], *, splits: npt.NDArray[np.int8]
) -> Duplicates:
    """Find the images that occur more than once.

    Args:
        contents: int64 [N], equal for images with the same content.
        class_indices: int32 [N].
        splits: int8 [N], index into `SPLITS` or -1.
    """
    members = {split: np.flatnonzero(splits == index) for index, split in enumerate(SPLITS)}
    inside = {split: len(rows) - len(np.unique(contents[rows])) for split, rows in members.items()}
    # An image of the later split is the one that leaked.
    pairs = [("val", "train"), ("test", "train"), ("test", "val")]
    found = {
        (later, earlier): _find_shared(contents, members[later], members[earlier])
        for later, earlier in pairs
    }
    return Duplicates(
        repeats=len(contents) - len(np.unique(contents)),
        inside=inside,
        shared={pair: rows for pair, rows in found.items() if len(rows[0])},
        conflicts=_find_conflicts(contents, class_indices),
    )


def find_similar_labels(labels: Iterable[str]) -> list[str]:
    """Find labels that look alike, and say in words what they differ in."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        plain = _FILLING.sub("", _to_small(label))
        alike.setdefault(plain if any(map(str.isalpha, plain)) else label, []).append(label)
    return [_describe_similar(same) for same in alike.values() if len(same) > 1]


def _describe_similar(labels: list[str]) -> str:
    composed = [unicodedata.normalize("NFC", label) for label in labels]
    plain = [unicodedata.normalize("NFKC", label) for label in labels]
    are_decomposed = [label != other for label, other in zip(labels, composed, strict=True)]
    differences: dict[str, Iterable[object]] = {
        "the form of accents (composed or decomposed)": are_decomposed,
        "the form of letters (such as full-width)": map(str.__eq__, composed, plain),
        "capital letters": [_FILLING.sub("", label) for label in plain],
        "spaces, hyphens or underscores": map(_to_small, labels),
    }
    words = [name for name, forms in differences.items() if len(set(forms)) > 1]
    shown = [
        f"{label!r}" + " (decomposed)" * is_decomposed
        for label, is_decomposed in zip(labels, are_decomposed, strict=True)
    ]
    return f"{' and '.join(shown)} differ only in {' and '.join(words)}"


def _to_small(label: str) -> str:
    plain = unicodedata.normalize("NFKC", label).casefold()
    return unicodedata.normalize("NFKC", plain)


def check_trainable(dataset: Dataset, *, uneven: str = "") -> list[str]:
    """Check that a CNN can be trained on a dataset.

    Args:
        dataset: The dataset.
        uneven: Advice for classes of very different size, added to that warning.

    Returns:
        Warnings: classes with few or no training images, classes of very different size.

    Raises:
        DataError: Fewer than two labels have training images, or val or test have a label that
            train has not.
    """
    by_split = dataset.counts()
    counts = by_split["train"]
    filled = {label: count for label, count in counts.items() if count}
    if len(filled) < 2:
        got = f"{next(iter(filled))!r} only" if filled else "none"
        raise DataError(
            f"expected training images of at least 2 labels in {dataset.place}, received {got}",
            "import images of more classes, or with another split: "
            "cnnclf import SOURCE --out DATASET --split 0.7,0.15,0.15",
        )
    judged = [
        f"{label} ({number:,})"
        for label in counts
        if label not in filled and (number := by_split["val"][label] + by_split["test"][label])
    ]
    if judged:
        raise DataError(
            f"no training images of labels that val or test have, in {dataset.place}: "
            f"{name_some(judged)}",
            "no model can learn them: remove their images or give some to train, or split all "
            "images again: cnnclf import SOURCE --out DATASET --split 0.7,0.15,0.15",
        )
    warnings = []
    absent = [label for label in counts if label not in filled]
    if absent:
        warnings.append(f"labels without training images are never predicted: {name_some(absent)}")
    few = [f"{label} ({count})" for label, count in filled.items() if count < FEW_IMAGES]
    if few:
        warnings.append(f"labels with fewer than {FEW_IMAGES} training images: {name_some(few)}")
    smallest = min(filled, key=lambda label: filled[label])
    largest = max(filled, key=lambda label: filled[label])
    ratio = filled[largest] / filled[smallest]
    if ratio >= LARGE_RATIO:
        warnings.append(
            f"classes of very different size: {filled[largest]} training images of {largest} "
            f"and {filled[smallest]} of {smallest}" + (f"; {uneven}" if uneven else "")
        )
    return warnings


def _find_shared(contents: Ids, later: Ids, earlier: Ids) -> tuple[Ids, Ids]:
    """Return the rows of `later` whose content is in `earlier`, and a row of `earlier` for each."""
    rows = later[np.isin(contents[later], contents[earlier])]
    values, first = np.unique(contents[earlier], return_index=True)
    return rows, earlier[first[np.searchsorted(values, contents[rows])]]


def _find_conflicts(contents: Ids, class_indices: npt.NDArray[np.int32]) -> Ids:
    order = np.lexsort((class_indices, contents))
    same = contents[order[1:]] == contents[order[:-1]]
    other = class_indices[order[1:]] != class_indices[order[:-1]]
    places = np.flatnonzero(same & other)
    # One pair for each content, however many labels it has.
    _, first = np.unique(contents[order[places]], return_index=True)
    places = places[first]
    return np.stack([order[places], order[places + 1]], axis=1)
