"""Sets of labels that hold the true one at a promised rate: split conformal prediction."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError

METHODS = ("lac", "aps", "raps")
_MIN_PER_CLASS = 100  # images of each class, from which each class gets a limit of its own
_PENALTY, _FREE_RANKS = 0.1, 2  # of raps: for each label after the second

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelSets:
    """Which labels belong into the set of an image.

    Args:
        method: See `score_labels`.
        level: The promised rate, (0, 1).
        limits: The largest score of a label in a set, float32 [K].
        is_per_class: Whether the rate is promised for each class, or for all images together.
    """

    method: str
    level: float
    limits: npt.NDArray[np.float32]
    is_per_class: bool

    def find(self, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
        """Return the labels in each set, bool [n, K]; the best label always is."""
        found = score_labels(probabilities, self.method) <= self.limits
        found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
        return np.asarray(found)


def score_labels(probabilities: Probabilities, method: str) -> npt.NDArray[np.float32]:
    """Score how little each label fits.

    Args:
        probabilities: float64 [n, K].
        method: `lac`: 1 minus its probability, which gives the smallest sets on average (Sadinle
            et al., 2019). `aps`: the sum of all probabilities down to its own, which adapts to
            hard images (Romano et al., 2020). `raps`: with a penalty on low ranks, which avoids
            very large sets (Angelopoulos et al., 2021).

    Returns:
        float32 [n, K]; stored and compared in this precision.
    """
    if method == "lac":
        return np.asarray(1 - probabilities, np.float32)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    if method == "raps":
        ranks = np.arange(1, probabilities.shape[1] + 1)
        sums = sums + _PENALTY * np.maximum(0, ranks - _FREE_RANKS)
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return np.asarray(scores, np.float32)


def score_truth(
    probabilities: Probabilities, truth: npt.NDArray[Any]
) -> dict[str, npt.NDArray[np.float32]]:
    """Score the true labels of images with every method, float32 [n] each."""
    rows = np.arange(len(truth))
    return {method: score_labels(probabilities, method)[rows, truth] for method in METHODS}


def count_needed(level: float) -> int:
    """Return how many images sets of a level need: 19 for 0.95."""
    return math.ceil(level / (1 - level) - 1e-9)


def fit_sets(
    scores: npt.NDArray[np.float32],
    truth: npt.NDArray[Any],
    *,
    method: str,
    level: float,
    classes: int,
) -> LabelSets:
    """Find the limits at which sets hold the true label at a rate.

    Args:
        scores: Of the true labels of images that the model was not trained on, float32 [n].
        truth: Their classes, int [n].
        method: Of the scores.
        level: The rate, (0, 1).
        classes: K.

    Returns:
        Limits for each class if all classes have enough images, else one for all of them.

    Raises:
        DataError: There are too few images.
    """
    if len(scores) < count_needed(level):
        raise DataError(
            f"{len(scores):,} images are too few for sets of {level:g}: {count_needed(level):,} "
            "are needed",
            "calibrate on more labeled images (cnnclf calibrate RUN DATASET), or use a lower level",
        )
    counts = np.bincount(truth, minlength=classes)
    is_per_class = bool((counts >= max(_MIN_PER_CLASS, count_needed(level))).all())
    if is_per_class:
        limits = [_find_quantile(scores[truth == index], level) for index in range(classes)]
    else:
        limits = [_find_quantile(scores, level)] * classes
    return LabelSets(method, level, np.array(limits, np.float32), is_per_class)


def _find_quantile(scores: npt.NDArray[np.float32], level: float) -> float:
    """Return the score of rank ceil((n + 1) level): a new image is at most as high at this rate."""
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[rank - 1])
