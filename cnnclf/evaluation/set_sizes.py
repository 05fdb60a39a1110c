"""How large the sets of conformal prediction are, and how often they hold the true label."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError
from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.inference.calibration_data import CalibrationData
from cnnclf.inference.label_sets import METHODS

LEVEL = 0.95


@dataclass(frozen=True)
class MeasuredSets:
    """The sets of one method on labeled images.

    Args:
        method: lac, aps or raps.
        level: The promised rate.
        is_per_class: Whether it is promised for each class.
        images: Number of images.
        covered: In how many sets the true label is.
        low: Lower end of the Wilson 95 % interval of the rate.
        high: Upper end.
        size: Labels in a set, on average.
        size_low: Lower end of the 95 % interval of the average.
        size_high: Upper end.
        largest: Labels in the largest set.
    """

    method: str
    level: float
    is_per_class: bool
    images: int
    covered: int
    low: float
    high: float
    size: float
    size_low: float
    size_high: float
    largest: int


def measure_sets(
    data: CalibrationData,
    probabilities: npt.NDArray[np.float64],
    *,
    truth: npt.NDArray[Any],
) -> Iterator[MeasuredSets]:
    """Measure the sets of every method; yields none if there were too few images to calibrate.

    Args:
        data: Of the bundle.
        probabilities: float64 [n, K], n >= 1.
        truth: True classes, int [n].
    """
    count, classes = probabilities.shape
    for method in METHODS:
        try:
            sets = data.fit_sets(method=method, level=LEVEL, classes=classes)
        except DataError:
            return  # reported when sets are asked for
        found = sets.find(probabilities)
        covered = int(found[np.arange(count), truth].sum())
        low, high = wilson_interval(covered, count)
        sizes = found.sum(axis=1)
        half = 1.96 * float(sizes.std()) / count**0.5
        size = float(sizes.mean())
        yield MeasuredSets(
            method=method,
            level=LEVEL,
            is_per_class=sets.is_per_class,
            images=count,
            covered=covered,
            low=low,
            high=high,
            size=size,
            size_low=size - half,
            size_high=size + half,
            largest=int(sizes.max()),
        )
