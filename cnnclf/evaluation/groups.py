"""Figures per group of images, by any column of the manifest: such as camera, site or date."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnnclf.bounded import check_regular, describe_fault
from cnnclf.data.description import load_description
from cnnclf.data.manifest import Dataset
from cnnclf.errors import DataError, UsageError
from cnnclf.evaluation.metrics import wilson_interval

MIN_IMAGES = 30  # of a group: with fewer, its interval is wider than a third
_MAX_VALUES, _RANGES = 20, 5  # more numbers than this are joined to ranges
_MAX_OTHERS = 5  # different cells of a column of numbers that are none, such as nan


@dataclass(frozen=True)
class GroupScores:
    """The accuracy of one group.

    Args:
        value: Of the column; empty for images without one.
        images: Number of images.
        correct: How many are classified correctly.
        low: Lower end of the Wilson 95 % interval of the accuracy.
        high: Upper end.
        is_small: The group is too small to say much.
        is_below: The accuracy is below that on all images, at 95 % confidence for all groups
            together (Bonferroni): of 20 equal groups, some would seem so in half of all cases.
    """

    value: str
    images: int
    correct: int
    low: float
    high: float
    is_small: bool
    is_below: bool

    @property
    def accuracy(self) -> float:
        """Fraction of the images that is classified correctly."""
        return self.correct / self.images


def read_column(dataset: Dataset, name: str) -> list[str]:
    """Read a column of the manifest, also one that was added by hand.

    A version that `cnnclf import --apply` wrote has only the columns of cnnclf; what was added to
    an earlier one is found there, by the path of the image.

    Raises:
        UsageError: There is no such column; with those there are.
        DataError: The file has other rows than the dataset, or an earlier one cannot be read.
    """
    found = load_description(dataset.directory)
    earlier = [each["manifest"] for each in found["versions"]]
    path = dataset.directory / found["manifest"]
    known: dict[str, None] = {}
    for manifest in [path, *(dataset.directory / each for each in reversed(earlier))]:
        names, values = _read_values(manifest, name)
        if name in names:
            if manifest == path and len(values) != len(dataset):
                raise DataError(f"{path} changed: {len(values):,} rows, expected {len(dataset):,}")
            return [values.get(each, "") for each in dataset.manifest.paths]
        known |= dict.fromkeys(names)
    raise UsageError(
        f"--by {name}: {path} has no such column",
        f"its columns are {', '.join(known)}; others can be added to it",
    )


def _read_values(manifest: Path, name: str) -> tuple[Sequence[str], dict[str, str]]:
    """Return the columns of a manifest, and by path the values of one, if it has it."""
    hint = f"restore the file, or add the column {name} to the newest manifest"
    try:
        check_regular(manifest)
        with manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            if name in names and "path" not in names:
                raise DataError(f"columns are missing in {manifest}: path", hint)
            return names, {row["path"]: row[name] or "" for row in reader} if name in names else {}
    except (OSError, csv.Error) as error:
        raise DataError(f"cannot read {manifest}: {describe_fault(error)}", hint) from error


def score_groups(
    values: Sequence[str], is_correct: npt.NDArray[np.bool_]
) -> tuple[GroupScores, ...]:
    """Measure the accuracy of each group.

    Args:
        values: Of the column, one for each image; many different numbers are joined to ranges.
        is_correct: bool [n], n >= 1.

    Returns:
        The worst group first.
    """
    names = np.array(_join_numbers(values), dtype=object)
    overall = float(is_correct.mean())
    groups = []
    different = sorted(set(names))
    together = 1 - 0.05 / len(different)
    for value in different:
        chosen = is_correct[names == value]
        images, correct = len(chosen), int(chosen.sum())
        low, high = wilson_interval(correct, images)
        is_below = wilson_interval(correct, images, confidence=together)[1] < overall
        is_small = images < MIN_IMAGES
        groups.append(GroupScores(value, images, correct, low, high, is_small, is_below))
    return tuple(sorted(groups, key=lambda group: (group.accuracy, -group.images, group.value)))


def _join_numbers(values: Sequence[str]) -> list[str]:
    """Replace many different numbers by ranges of about as many images each; other cells stay.

    A number that as many images have as a range would is a group of its own. Cells such as `nan`,
    `unknown` and empty ones are groups, too; a column with many of them is not of numbers.
    """
    cells = set(values)
    if len(cells) <= _MAX_VALUES:
        return list(values)
    known = {cell: number for cell in cells if math.isfinite(number := _read_number(cell))}
    if len(cells) - len(known) > _MAX_OTHERS:
        return list(values)
    numbers = np.array([known[value] for value in values if value in known])
    different, counts = np.unique(numbers, return_counts=True)
    if len(different) <= _MAX_VALUES:
        return [f"{known[value]:.12g}" if value in known else value for value in values]
    is_alone = np.isin(numbers, different[counts * _RANGES >= len(numbers)])
    ranges = max(1, round(_RANGES * float(1 - is_alone.mean())))
    edges = np.unique(np.quantile(numbers[~is_alone], np.linspace(0, 1, ranges + 1)))
    places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    names = (
        f"{number:.12g}" if alone else f"{edges[at]:.12g} to {edges[at + 1]:.12g}"
        for number, alone, at in zip(numbers, is_alone, places, strict=True)
    )
    return [next(names) if value in known else value for value in values]


def _read_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
