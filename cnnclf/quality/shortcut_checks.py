"""Signals that give the label away without the image: file size, camera, mean color, name.

A network may learn them instead of the object; then scores are high, until it meets images of
another origin (Geirhos et al., 2020: "Shortcut learning in deep neural networks").
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case

_MIN_IMAGES: Final = 50
_FOLDS: Final = 5
_MAX_BINS: Final = 64
_IMAGES_PER_BIN: Final = 10
_ERRORS: Final = 4.0  # standard errors above chance
_DAY_S: Final = 86_400
_MOST: Final = 0.5  # of the images must have a time
_DIGITS: Final = re.compile(r"\d+")

Codes = npt.NDArray[np.intp]


class Signal(NamedTuple):
    """A property of an image that says nothing of its content, or little.

    Args:
        name: In words.
        codes: int [n], the value of each image, numbered.
        min_gap: Fraction of the gap between chance and certainty from which on it is reported.
    """

    name: str
    codes: Codes
    min_gap: float


def find_shortcuts(evidence: Evidence) -> Iterator[Case]:
    """Find signals that predict the label much better than always naming the largest class."""
    rows = evidence.facts.usable
    _, classes = np.unique(evidence.classes[rows], return_inverse=True)
    if len(rows) < _MIN_IMAGES or classes.max(initial=0) < 1:
        return
    chance = float(np.bincount(classes).max()) / len(rows)
    _, units = np.unique(evidence.units[rows], return_inverse=True)
    # The images of a unit, such as the frames of a film, are no independent witnesses.
    error = np.sqrt(chance * (1 - chance) / (int(units.max()) + 1))
    found = []
    for signal in _read_signals(evidence, rows):
        accuracy = cross_validate(signal.codes, classes, units=units)
        gap = (accuracy - chance) / (1 - chance)
        if gap >= signal.min_gap and accuracy - chance > _ERRORS * error:
            found.append((gap, accuracy, signal.name))
    for gap, accuracy, name in sorted(found, reverse=True):
        yield Case(
            f"{name} alone gives the label of {100 * accuracy:.0f} % of the images; always "
            f"naming the largest class is right for {100 * chance:.0f} %",
            value=gap,
        )


def cross_validate(codes: Codes, classes: Codes, *, units: Codes) -> float:
    """Return the accuracy of naming the most frequent class of each value, in 5 folds.

    Args:
        codes: int [n], a value of each image; 0 or more.
        classes: int [n], class indices; 0 or more.
        units: int [n], 0 or more, equal for images that must be in one fold: a copy has the label
            and the signals of its original, and shows nothing about other images.
    """
    count = int(classes.max()) + 1
    folds = np.random.default_rng(0).permutation(int(units.max()) + 1)[units] % _FOLDS
    hits = 0
    for fold in range(_FOLDS):
        inside, outside = folds != fold, folds == fold
        if not inside.any():
            continue  # a single unit
        pairs, votes = np.unique(codes[inside] * count + classes[inside], return_counts=True)
        best = np.full(int(codes.max()) + 1, int(np.bincount(classes[inside]).argmax()))
        order = np.argsort(votes, kind="stable")  # the most frequent class is written last
        best[pairs[order] // count] = pairs[order] % count
        hits += int((best[codes[outside]] == classes[outside]).sum())
    return hits / len(codes)


def _read_signals(evidence: Evidence, rows: npt.NDArray[np.intp]) -> Iterator[Signal]:
    numbers = evidence.facts.numbers[rows]
    aspect = np.round(numbers["width"] / np.maximum(numbers["height"], 1), 3)
    for name, values, min_gap in (
        ("the width", numbers["width"], 0.3),
        ("the height", numbers["height"], 0.3),
        ("the aspect ratio", aspect, 0.3),
        ("the JPEG quality", numbers["jpeg_quality"], 0.3),
        # What an image shows changes these, so that they may be honest signals.
        ("the file size", numbers["size_bytes"], 0.8),
        *((name, values, 0.8) for name, values in _read_colors(numbers)),
    ):
        yield Signal(name, _bin(values), min_gap)
    # Files copied or unpacked today have the times of that, in the order of their folders.
    days = numbers["changed_s"] // _DAY_S
    if np.ptp(days) > 1:
        yield Signal("the day the file was last changed", _bin(days), 0.3)
    taken = numbers["taken_s"]
    if np.isfinite(taken).mean() > _MOST:
        yield Signal("the time in EXIF", _bin(np.nan_to_num(taken, nan=-1.0)), 0.3)
    for name, words in (
        ("the color mode", evidence.facts.modes),
        ("the camera in EXIF", evidence.facts.cameras),
        ("the pattern of the file name", _read_patterns(evidence)),
    ):
        yield Signal(name, np.unique(np.array(words)[rows], return_inverse=True)[1], 0.3)


def _read_colors(
    numbers: npt.NDArray[np.void],
) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """Return the means of red, green and blue, or of gray if no image has colors."""
    red, green, blue = (numbers[name] for name in ("red", "green", "blue"))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return [("the mean brightness", red)]
    return [("the mean red", red), ("the mean green", green), ("the mean blue", blue)]


def _bin(values: npt.NDArray[np.generic]) -> Codes:
    """Number the values, or bins with equal numbers of images if there are many values."""
    inverse: Codes
    unique, inverse = np.unique(values, return_inverse=True)
    most = max(2, min(_MAX_BINS, len(values) // _IMAGES_PER_BIN))
    if len(unique) <= most:
        return inverse
    edges = np.unique(np.quantile(values.astype(np.float64), np.arange(1, most) / most))
    bins: Codes = np.searchsorted(edges, values.astype(np.float64), side="right")
    return bins


def _read_patterns(evidence: Evidence) -> list[str]:
    """Return the names of all files without numbers, and without their labels, which are honest."""
    patterns = []
    for row, path in enumerate(evidence.dataset.manifest.paths):
        name, label = path.rpartition("/")[2].casefold(), evidence.label_of(row).casefold()
        at, end = name.find(label), name.find(label) + len(label)
        if (
            at >= 0
            and not name[max(at - 1, 0) : at].isalpha()
            and not name[end : end + 1].isalpha()
        ):
            name = name[:at] + name[end:]
        patterns.append(_DIGITS.sub("#", name))
    return patterns
