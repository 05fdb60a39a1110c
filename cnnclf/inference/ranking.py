"""From logits to named classes: the most probable labels, and `unknown` below a threshold.

Rows of `predict`, Python users, servers and reports name classes through this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.inference.probabilities import find_top_classes
from cnnclf.inference.promise import score_confidence

UNKNOWN = "unknown"

Ranking = tuple[tuple[str, float], ...]
"""(label, probability 0..1) of the most probable classes, best first."""


@dataclass(frozen=True, slots=True)
class RankedLabels:
    """The answer for one image.

    Args:
        ranking: The most probable labels; empty if the logits are not finite.
        is_unknown: The confidence is below the threshold.
    """

    ranking: Ranking = ()
    is_unknown: bool = False

    @property
    def label(self) -> str:
        """The best label, or `unknown` below the threshold; empty without a ranking."""
        if not self.ranking:
            return ""
        return UNKNOWN if self.is_unknown else self.ranking[0][0]


class LabeledModel(Protocol):
    """The part of a `Classifier` that ranking needs."""

    @property
    def labels(self) -> tuple[str, ...]:
        """K labels in the order of the logits."""

    def probabilities(self, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn finite logits into probabilities, float64 [n, K]."""


def low_probability(classes: int) -> float:
    """Return the best probability below which an image resembles none of the classes much.

    A quarter of the way from guessing to certainty: 0.625 for 2 classes, 0.325 for 10.

    Args:
        classes: Their number, at least 2.
    """
    return (1 / classes) * 0.75 + 0.25


def rank_labels(
    model: LabeledModel,
    logits: npt.NDArray[Any],
    *,
    top_k: int = 3,
    threshold: float | None = None,
    norm: int | None = None,
) -> Iterator[RankedLabels]:
    """Name the most probable classes of each image.

    Args:
        model: Names the classes and turns logits into probabilities.
        logits: float [n, K].
        top_k: How many classes to name, at least 1; more than K means all.
        threshold: Confidence below which the answer is `unknown`, 0..1; None for never.
        norm: How confidence is scored, as in `score_confidence`; None: the best probability.

    Yields:
        One answer for each image, in order.
    """
    if not len(logits):
        return
    is_finite = np.isfinite(logits).all(axis=1)
    usable = np.where(is_finite[:, None], logits, 0.0)
    probabilities = model.probabilities(usable)
    scores = score_confidence(usable, probabilities, norm=norm)
    is_unknown = scores < (0.0 if threshold is None else threshold)
    classes = find_top_classes(probabilities, top_k)
    values = np.take_along_axis(probabilities, classes, axis=1)
    for indices, row, is_usable, is_below in zip(
        classes.tolist(), values.tolist(), is_finite.tolist(), is_unknown.tolist(), strict=True
    ):
        if not is_usable:
            yield RankedLabels()
            continue
        ranking = tuple((model.labels[i], value) for i, value in zip(indices, row, strict=True))
        yield RankedLabels(ranking, is_below)
