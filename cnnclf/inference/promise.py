"""What a threshold promises: stored in a bundle by `cnnclf calibrate`, kept by all that answers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnnclf.runs.run_directory import is_number

KINDS = ("precision", "coverage", "error_rate")
MAX_NORM = 64


class Cutoff(NamedTuple):
    """Below what an answer is `unknown`.

    Args:
        threshold: Smallest confidence, 0..1; None for none.
        norm: How confidence is scored; see `score_confidence`.
    """

    threshold: float | None = None
    norm: int | None = None


@dataclass(frozen=True)
class Promise:
    """A threshold with a bound that holds for new images like those it was chosen on.

    Args:
        kind: `precision` (of the answers), `coverage` (fraction that is answered) or `error_rate`
            (wrong answers as a fraction of all images, answered or not).
        target: The smallest precision or coverage, or the largest error rate, (0, 1).
        confidence: How often, over draws of the images, the promise holds at least.
        threshold: Images with a lower score are not answered, 0..1.
        norm: The p of `score_confidence`; None for the probability of the best label.
        images: Number of images it was chosen on.
        answered: How many of them reach the threshold.
        correct: How many of these are correct.
        split: The split they are from.
    """

    kind: str
    target: float
    confidence: float
    threshold: float
    norm: int | None
    images: int
    answered: int
    correct: int
    split: str

    def __str__(self) -> str:
        """Return it in words: precision of at least 0.95."""
        side = "at most" if self.kind == "error_rate" else "at least"
        return f"{self.kind.replace('_', ' ')} of {side} {self.target:g}"

    @classmethod
    def from_dict(cls, content: Any) -> "Promise":
        """Read it from classifier.json.

        Raises:
            ValueError: A field is missing or wrong.
        """
        try:
            found = cls(**content)
        except TypeError as error:
            raise ValueError(f"expected the fields of a promise, received {content!r}") from error
        fractions = (found.target, found.confidence, found.threshold)
        counts = (found.correct, found.answered, found.images)
        if (
            found.kind not in KINDS
            or not all(is_number(each) and 0 <= each <= 1 for each in fractions)
            or not all(type(each) is int and each >= 0 for each in counts)
            or sorted(counts) != list(counts)
            or not (found.norm is None or (type(found.norm) is int and 0 < found.norm <= MAX_NORM))
        ):
            raise ValueError(f"expected the fields of a promise, received {content!r}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what classifier.json stores."""
        return asdict(self)


def read_promise(content: Mapping[str, Any]) -> Promise | None:
    """Return the promise of a classifier.json; None if it was not calibrated.

    Raises:
        ValueError: A field is missing or wrong.
    """
    found = content.get("promise")
    return None if found is None else Promise.from_dict(found)


def read_cutoff(content: Mapping[str, Any], given: float | None = None) -> Cutoff:
    """Return below what answers are `unknown`.

    Args:
        content: Of a checked classifier.json.
        given: A probability that replaces the threshold of the bundle; None for that.
    """
    promise = read_promise(content)
    if given is None and promise is not None:
        return Cutoff(promise.threshold, promise.norm)
    return Cutoff(content.get("threshold") if given is None else given)


def score_confidence(
    logits: npt.NDArray[Any], probabilities: npt.NDArray[np.float64], *, norm: int | None
) -> npt.NDArray[np.float64]:
    """Compute the confidence in the best label of each image.

    Args:
        logits: float [n, K], finite.
        probabilities: float64 [n, K].
        norm: None for the probability of the best label; p for the largest logit over the p-norm
            of all logits, both after their mean is subtracted (Cattelan and Silva, "How to fix a
            broken confidence estimator", 2023), which ranks images better for some networks.

    Returns:
        float64 [n], 0..1.
    """
    if norm is None:
        return np.asarray(probabilities.max(axis=1))
    centered = np.asarray(logits, np.float64)
    centered = centered - centered.mean(axis=1, keepdims=True)
    largest = np.abs(centered).max(axis=1, keepdims=True)
    scaled = centered / np.where(largest > 0, largest, 1.0)  # powers of it cannot overflow
    length = (np.abs(scaled) ** norm).sum(axis=1) ** (1 / norm)
    largest_over_norm = scaled.max(axis=1) / np.where(length > 0, length, 1.0)
    return np.asarray(np.clip(largest_over_norm, 0.0, 1.0))
