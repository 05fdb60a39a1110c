"""Is one classifier better than another on the same images?

Only the images that exactly one of the two has right say which is better. Of `total` images,
`gained` are those that only the second has right, `lost` those that only the first has right.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnclf.evaluation.confusions import ClassIndices, count_classes

SMALL = 0.01  # a difference of accuracy: one that is larger is named, even if it may be chance
_RESAMPLES = 2000

Interval = tuple[float, float]


def mcnemar_mid_p(gained: int, lost: int) -> float:
    """Return the mid-p value of the exact McNemar test (Fagerland et al. 2013).

    The exact test without the mid-p correction is conservative: it finds too little.

    Args:
        gained: Images that only the second has right, at least 0.
        lost: Images that only the first has right, at least 0.

    Returns:
        Two-sided, 0..1; 1 if no image changed sides.
    """
    from scipy.special import bdtr

    changed, fewer = gained + lost, min(gained, lost)
    still_fewer = bdtr(fewer - 1, changed, 0.5) if fewer else 0.0
    return float(min(1.0, bdtr(fewer, changed, 0.5) + still_fewer))


def adjust_for_several(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests so that all of them hold together (Holm 1979)."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted


def difference_interval(
    gained: int, lost: int, *, total: int, confidence: float = 0.95
) -> Interval:
    """Return the interval of the difference of two paired accuracies (Agresti and Min 2005).

    Args:
        gained: Images that only the second has right.
        lost: Images that only the first has right.
        total: All images, at least 1.
        confidence: Nominal coverage, (0, 1).

    Returns:
        Lower and upper end of second minus first, within -1..1.
    """
    # half an image more in each of the four cells
    count, difference = total + 2, (gained - lost) / (total + 2)
    variance = ((gained + lost + 1) / count - difference**2) / count
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance)
    return max(-1.0, difference - half), min(1.0, difference + half)


def smallest_difference(total: int, changed: int) -> float:
    """Return the smallest difference of accuracy that so many images would show (Connor 1987).

    A difference of this size is found in 80 % of tests at the 5 % level.

    Args:
        total: Images, at least 1.
        changed: How many of them exactly one of the two has right.

    Returns:
        0..1; 1 if the images are too few for any difference.
    """
    test, find = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        difference = (low + high) / 2
        # a difference needs at least as many images that change sides
        rate = max(difference, changed / total)
        needed = test * math.sqrt(rate) + find * math.sqrt(rate - difference**2)
        low, high = (
            (low, difference) if difference * math.sqrt(total) > needed else (difference, high)
        )
    return high


def bootstrap_macro_f1(
    truth: ClassIndices,
    first: ClassIndices,
    *,
    second: ClassIndices,
    classes: int,
) -> tuple[float, Interval]:
    """Return the difference of the macro F1 of two predictions, and its 95 % interval (bootstrap).

    Images are drawn with replacement, both predictions with them (Efron 1979, percentiles).

    Args:
        truth: True classes, int [n], 0..classes-1, n at least 1.
        first: Classes predicted by the first, int [n].
        second: Classes predicted by the second, int [n].
        classes: Number of classes.

    Returns:
        Second minus first, and the lower and upper end.
    """
    # Equal triples are drawn together: few numbers, however many images.
    triples, counts = np.unique(np.stack([truth, first, second]), axis=1, return_counts=True)

    def difference(weights: NDArray[Any]) -> float:
        one, other = (
            count_classes(triples[0], predicted, classes=classes, weights=weights).macro_f1
            for predicted in triples[1:]
        )
        return other - one

    random = np.random.default_rng(0)
    drawn = [
        difference(random.multinomial(len(truth), counts / len(truth))) for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return difference(counts), (float(low), float(high))
