"""From logits to named classes: the most probable labels, and `unknown` below a threshold.

Rows of `predict`, Python users, servers and reports name classes through this module.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnnclf.inference.answer_rules import AnswerRules
from cnnclf.inference.promise import score_confidence
from cnnclf.probabilities import find_top_classes

UNKNOWN = "unknown"

NO_RULES = AnswerRules()

Ranking = tuple[tuple[str, float], ...]
"""(label, probability 0..1) of the most probable classes, best first."""


@dataclass(frozen=True, slots=True)
class RankedLabels:
    """The answer for one image.

    Args:
        ranking: The most probable labels; empty if the logits are not finite.
        is_unknown: The confidence is below the threshold, or the image is unfamiliar and that
            makes it unknown.
        label_set: The labels that hold the true one at a promised rate; () if not asked for.
        familiar: Fraction of images like those of val that are at least as far from the training
            images; None where they cannot be compared.
        is_unfamiliar: The image is unlike anything learned.
    """

    ranking: Ranking = ()
    is_unknown: bool = False
    label_set: tuple[str, ...] = ()
    familiar: float | None = None
    is_unfamiliar: bool = False

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
    rules: AnswerRules = NO_RULES,
) -> Iterator[RankedLabels]:
    """Name the most probable classes of each image.

    Args:
        model: Names the classes and turns logits into probabilities.
        logits: float [n, K], or [n, K + features] of a classifier with features.
        top_k: How many classes to name, at least 1; more than K means all.
        threshold: Confidence below which the answer is `unknown`, 0..1; None for never.
        norm: How confidence is scored, as in `score_confidence`; None: the best probability.
        rules: Sets and familiarity.

    Yields:
        One answer for each image, in order.
    """
    if not len(logits):
        return
    logits, features = np.split(logits, [len(model.labels)], axis=1)
    is_finite = np.isfinite(logits).all(axis=1)
    usable = np.where(is_finite[:, None], logits, 0.0)
    probabilities = model.probabilities(usable)
    scores = score_confidence(usable, probabilities, norm=norm)
    is_below = scores < (0.0 if threshold is None else threshold)
    familiar, is_unfamiliar = _compare(features, rules)
    if rules.unknown_by == "distance":
        is_below = is_unfamiliar
    elif rules.unknown_by == "both":
        is_below = is_below | is_unfamiliar
    in_set = rules.sets.find(probabilities) if rules.sets else np.zeros((len(logits), 0), np.bool_)
    classes = find_top_classes(probabilities, top_k)
    values = np.take_along_axis(probabilities, classes, axis=1)
    for at, (indices, row) in enumerate(zip(classes.tolist(), values.tolist(), strict=True)):
        if not is_finite[at]:
            yield RankedLabels()
            continue
        yield RankedLabels(
            tuple((model.labels[i], value) for i, value in zip(indices, row, strict=True)),
            is_unknown=bool(is_below[at]),
            label_set=tuple(model.labels[i] for i in np.flatnonzero(in_set[at])),
            familiar=float(familiar[at]) if familiar is not None else None,
            is_unfamiliar=bool(is_unfamiliar[at]),
        )


def _compare(
    features: npt.NDArray[Any], rules: AnswerRules
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.bool_]]:
    if rules.familiarity is None or not features.shape[1]:
        return None, np.zeros(len(features), np.bool_)
    familiar = rules.familiarity.measure(np.nan_to_num(features))
    return familiar, familiar <= rules.limit
