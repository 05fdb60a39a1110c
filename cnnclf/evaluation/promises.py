"""Chooses thresholds with a bound that holds on new images, not only on those they are chosen on.

A threshold whose precision on val is 0.95 has less than that on new images in half of all cases.
Here a threshold is chosen only if the exact binomial test (Clopper and Pearson, 1934) shows that it
keeps the promise on new images of the same kind, in a given fraction of all draws of val. Several
thresholds are tested in a fixed sequence from a few starts, which share the permitted error
("Learn then test", Angelopoulos et al., 2021).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnnclf.errors import DataError
from cnnclf.evaluation.metrics import wilson_interval
from cnnclf.inference.promise import Promise

_STARTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # coverages from which thresholds are lowered step by step

Scores = npt.NDArray[np.float64]
Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """What is to be promised.

    Args:
        kind: `precision`, `coverage` or `error_rate`; see `Promise`.
        value: The smallest precision or coverage, or the largest error rate, (0, 1).
        confidence: How often the promise must hold over draws of the images, (0, 1).
    """

    kind: str
    value: float
    confidence: float = 0.95

    @property
    def needed(self) -> int:
        """The smallest number of images that can support it, if all of them are correct."""
        kept = 1 - self.value if self.kind == "error_rate" else self.value
        return _count_needed(kept, 1 - self.confidence)


def find_threshold(scores: Scores, is_correct: Correct, *, target: Target) -> float:
    """Find the lowest threshold that keeps a promise; for a coverage the highest.

    Args:
        scores: Confidence of each image in its best label, float64 [n], 0..1.
        is_correct: Whether that label is right, bool [n].
        target: The promise.

    Returns:
        The threshold, 0..1: images with a lower score are not answered.

    Raises:
        DataError: No threshold keeps it on so many images; with the number needed.
    """
    count = len(scores)
    if count < target.needed:
        raise DataError(
            f"{count:,} images are too few to promise the {target.kind.replace('_', ' ')} "
            f"{target.value:g} at {100 * target.confidence:.0f} % confidence: {target.needed:,} "
            "are needed",
            "calibrate on more labeled images (cnnclf calibrate RUN DATASET), or promise less",
        )
    if target.kind == "coverage":
        return _find_for_coverage(scores, target)
    if target.kind == "error_rate":
        return _find_for_error_rate(scores, is_correct, target)
    return _find_for_precision(scores, is_correct, target)


def _find_for_precision(scores: Scores, is_correct: Correct, target: Target) -> float:
    """Test thresholds in a fixed sequence from each start.

    Given the (m+1)-th highest score, the m images above it are independent draws of the images
    above it, so their errors have a binomial distribution (Geifman and El-Yaniv, 2017).
    """
    from scipy.special import bdtr

    ordered = -np.sort(-scores)
    errors = np.cumsum(~is_correct[np.argsort(-scores, kind="stable")], dtype=np.int64)
    count = len(scores)
    below = np.append(ordered[1:], -1.0)  # the score that each cut excludes
    cuts = np.flatnonzero((ordered > below) & (below < 1)) + 1  # ties stay together
    starts = _choose_starts(count, target)
    delta = (1 - target.confidence) / len(starts)
    passes = bdtr(errors[cuts - 1], cuts, 1 - target.value) <= delta
    best = 0
    for start in starts:
        first = int(np.searchsorted(cuts, math.ceil(start * count)))
        if first == len(cuts) or not passes[first]:
            continue
        failing = np.flatnonzero(~passes[first:])
        last = first + int(failing[0]) - 1 if len(failing) else len(cuts) - 1
        best = max(best, int(cuts[last]))
    if best == 0:
        raise _refuse_precision(errors, cuts, target=target)
    return 0.0 if best == count else float(np.nextafter(below[best - 1], 2.0))


def _choose_starts(count: int, target: Target) -> tuple[float, ...]:
    """Return as many starts as the images can support; the last resort is to answer all."""
    for number in range(len(_STARTS), 1, -1):
        starts = _STARTS[-number:]
        needed = _count_needed(target.value, (1 - target.confidence) / number)
        if starts[0] * count >= needed:
            return starts
    return (1.0,)


def _refuse_precision(
    errors: npt.NDArray[np.int64], cuts: npt.NDArray[np.intp], *, target: Target
) -> DataError:
    problem = (
        f"no threshold keeps a precision of {target.value:g} at {100 * target.confidence:.0f} % "
        f"confidence on {len(errors):,} images"
    )
    delta = 1 - target.confidence
    bounds = []
    for start in (*_STARTS, 1.0):
        first = int(np.searchsorted(cuts, math.ceil(start * len(errors))))
        if first == len(cuts):
            continue
        cut = int(cuts[first])
        # All starts together are the worst case: a lower precision may be tested from more.
        number = 1 if start == 1 else len(_STARTS)
        bound = lowest_precision(cut - int(errors[cut - 1]), cut, delta=delta / number)
        possible = Target(target.kind, bound, target.confidence)
        if start < 1 or (0 < bound < 1 and _choose_starts(len(errors), possible) == (1.0,)):
            bounds.append((bound, cut / len(errors)))
    if not bounds:
        return DataError(f"{problem}: they all have the same confidence", "train again")
    bound, coverage = max(bounds)
    return DataError(
        f"{problem}: the best that can be promised is {_floor(bound)}, with answers to "
        f"{100 * coverage:.0f} % of them",
        f"--precision {_floor(bound)}, or calibrate on more labeled images",
    )


def _find_for_coverage(scores: Scores, target: Target) -> float:
    """Take an order statistic: the mass above the m-th highest score has a beta distribution."""
    from scipy.special import betainc

    count = len(scores)
    kept = np.arange(1, count + 1)
    enough = betainc(kept, count + 1 - kept, target.value) <= 1 - target.confidence
    enough[-1] = True  # there are as many as are needed, but for rounding
    return float(-np.sort(-scores)[int(np.argmax(enough))])


def _find_for_error_rate(scores: Scores, is_correct: Correct, target: Target) -> float:
    """Take an order statistic of the scores of wrong images; right ones count as below all."""
    from scipy.special import betainc

    count = len(scores)
    wrong = -np.sort(-scores[~is_correct])
    allowed = np.arange(len(wrong) + 1)
    keeps = betainc(allowed + 1, count - allowed, target.value) >= target.confidence
    best = int(allowed[keeps][-1])
    if best == len(wrong):
        return 0.0
    threshold = float(np.nextafter(wrong[best], 2.0))
    if threshold > 1:
        raise DataError(
            f"no threshold keeps an error rate of {target.value:g} on {count:,} images: "
            f"{int((wrong >= 1).sum()):,} wrong ones have the highest confidence there is",
            "--score logit has fewer ties",
        )
    return threshold


@dataclass(frozen=True)
class KeptPromise:
    """What became of a promise on the images of an evaluation.

    Args:
        promise: The promise of the bundle.
        images: Number of images.
        answered: How many of them reach its threshold.
        correct: How many of these are correct.
        value: The precision, coverage or error rate that it is about; None without answers.
        low: Lower end of the Wilson 95 % interval of the value.
        high: Upper end.
    """

    promise: Promise
    images: int
    answered: int
    correct: int
    value: float | None
    low: float
    high: float


def check_promise(promise: Promise, scores: Scores, *, is_correct: Correct) -> KeptPromise:
    """Measure on labeled images what a promise is about.

    Args:
        promise: Of the bundle.
        scores: Confidence, as the promise scores it, float [n], n >= 1.
        is_correct: bool [n].
    """
    is_answered = scores >= promise.threshold
    answered, correct = int(is_answered.sum()), int((is_answered & is_correct).sum())
    hits, trials = {
        "precision": (correct, answered),
        "coverage": (answered, len(scores)),
        "error_rate": (answered - correct, len(scores)),
    }[promise.kind]
    low, high = wilson_interval(hits, trials) if trials else (0.0, 1.0)
    value = hits / trials if trials else None
    return KeptPromise(promise, len(scores), answered, correct, value, low, high)


def lowest_precision(correct: int, answered: int, *, delta: float) -> float:
    """Return the one-sided lower bound of a proportion (Clopper and Pearson, 1934).

    Args:
        correct: Successes, 0..answered.
        answered: Trials, at least 1.
        delta: How often the bound may be wrong, (0, 1).
    """
    from scipy.special import betaincinv

    return float(betaincinv(correct, answered - correct + 1, delta)) if correct else 0.0


def _count_needed(kept: float, delta: float) -> int:
    """Return how many images without a mistake show that a fraction is kept."""
    return max(1, math.ceil(math.log(delta) / math.log(kept) - 1e-9))


def _floor(bound: float) -> str:
    """Round down to three digits: what is promised must be below the bound."""
    return f"{math.floor(bound * 1000) / 1000:g}"
