"""Checks of single images: size, aspect, exposure, blur."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case

MIN_SIDE: Final = 20
"""A shorter side below this has less detail than any common dataset (MNIST: 28)."""

ODD_FACTOR: Final = 4.0
"""A side that is this many times longer or shorter than usual is odd, or more if sizes vary."""

ODD_ASPECT: Final = 3.0
"""Sides of 3 to 1: cropping loses two thirds, squashing distorts threefold."""

MIN_CONTRAST: Final = 4.0
"""Standard deviation of 0..255; one stroke on 0.5 % of a blank page has 18, JPEG noise below 2."""

DARK: Final = 50
"""If even the brightest 1 % are below this, the image is under-exposed."""

BRIGHT: Final = 205
"""If even the darkest 1 % are above this, the image is over-exposed; a page with writing is not."""

BLURRED: Final = 0.66
"""See `measure_blur`; 300 sharp photos of 100 and 128 pixels stay below 0.6."""

_SPREADS: Final = 6.0  # robust standard deviations


def find_odd_sizes(evidence: Evidence) -> Iterator[Case]:
    """Find images much larger or smaller than the others."""
    numbers = evidence.facts.numbers
    usable = evidence.facts.usable
    sides = np.sqrt(numbers["width"][usable].astype(np.float64) * numbers["height"][usable])
    for place in _find_outliers(sides, ODD_FACTOR).tolist():
        row = int(usable[place])
        yield Case(
            f"{_size(evidence, row)} pixels, usual are about {np.median(sides):.0f} x "
            f"{np.median(sides):.0f}",
            row,
            value=float(sides[place]),
        )


def find_odd_aspects(evidence: Evidence) -> Iterator[Case]:
    """Find images much longer or narrower than the others."""
    numbers = evidence.facts.numbers
    usable = evidence.facts.usable
    aspects = numbers["width"][usable] / np.maximum(numbers["height"][usable], 1)
    for place in _find_outliers(aspects, ODD_ASPECT / 1.5).tolist():
        aspect = float(aspects[place])
        if max(aspect, 1 / aspect) >= ODD_ASPECT:
            row = int(usable[place])
            yield Case(f"{_size(evidence, row)} pixels", row, value=aspect)


def find_tiny(evidence: Evidence) -> Iterator[Case]:
    """Find images of very few pixels."""
    numbers = evidence.facts.numbers
    shorter = np.minimum(numbers["width"], numbers["height"])
    for row in np.flatnonzero(numbers["is_usable"] & (shorter < MIN_SIDE)).tolist():
        yield Case(f"{_size(evidence, row)} pixels", row, value=float(shorter[row]))


def find_uniform(evidence: Evidence) -> Iterator[Case]:
    """Find images of almost one color."""
    numbers = evidence.facts.numbers
    for row in np.flatnonzero(_is_uniform(numbers)).tolist():
        mean = [float(numbers[color][row]) for color in ("red", "green", "blue")]
        name = "black" if max(mean) < 8 else "white" if min(mean) > 247 else "one color"
        yield Case(f"almost {name}", row, value=float(numbers["contrast"][row]))


def find_dark(evidence: Evidence) -> Iterator[Case]:
    """Find images without bright pixels."""
    yield from _find(
        evidence,
        lambda numbers: numbers["bright_end"] < DARK,
        key="bright_end",
        words="99 % of its pixels are at most {:.0f} of 255",
    )


def find_bright(evidence: Evidence) -> Iterator[Case]:
    """Find images without dark pixels."""
    yield from _find(
        evidence,
        lambda numbers: numbers["dark_end"] > BRIGHT,
        key="dark_end",
        words="99 % of its pixels are at least {:.0f} of 255",
    )


def find_blurred(evidence: Evidence) -> Iterator[Case]:
    """Find images that are sharp nowhere."""
    with np.errstate(invalid="ignore"):  # NaN: not judged
        yield from _find(
            evidence,
            lambda numbers: numbers["blur"] > BLURRED,
            key="blur",
            words="blur {:.2f} of 1 in its sharpest part",
        )


def _find(
    evidence: Evidence,
    test: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]],
    *,
    key: str,
    words: str,
) -> Iterator[Case]:
    """Find usable images that pass a test; uniform ones have a check of their own."""
    numbers = evidence.facts.numbers
    found = numbers["is_usable"] & ~_is_uniform(numbers) & test(numbers)
    for row in np.flatnonzero(found).tolist():
        value = float(numbers[key][row])
        yield Case(words.format(value), row, value=value)


def _is_uniform(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = numbers["is_usable"] & (numbers["contrast"] < MIN_CONTRAST)
    return found


def _find_outliers(values: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.intp]:
    """Find values that differ from the median by a factor, and by more than values usually vary."""
    if not len(values):
        return np.empty(0, np.intp)
    steps = np.log(values)
    distances = np.abs(steps - np.median(steps))
    spread = 1.4826 * float(np.median(distances))  # that of normally distributed values
    return np.flatnonzero(distances >= max(np.log(factor), _SPREADS * spread))


def _size(evidence: Evidence, row: int) -> str:
    numbers = evidence.facts.numbers[row]
    return f"{numbers['width']} x {numbers['height']}"
