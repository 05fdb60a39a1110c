"""Checks of classes: their sizes and names."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from cnnclf.data import checks
from cnnclf.data.checks import FEW_IMAGES, LARGE_RATIO
from cnnclf.data.manifest import SPLITS
from cnnclf.names import count_of
from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case
from cnnclf.quality.suspects import find_suspects

_MIN_JUDGED: Final = 20
_SPREADS: Final = 4.0  # robust standard deviations


def find_imbalance(evidence: Evidence) -> Iterator[Case]:
    """Find out whether classes are of very different size."""
    filled = {label: count for label, count in _count(evidence).items() if count}
    if len(filled) < 2:
        return
    small, large = min(filled, key=filled.__getitem__), max(filled, key=filled.__getitem__)
    ratio = filled[large] / filled[small]
    if ratio >= LARGE_RATIO:
        yield Case(
            f"{filled[large]:,} images of {large!r}, {filled[small]:,} of {small!r}: "
            f"{ratio:.0f} times as many",
            value=ratio,
        )


def find_small_classes(evidence: Evidence) -> Iterator[Case]:
    """Find classes that have too few images, or none in a split that others have."""
    counts = evidence.dataset.counts()
    used = [split for split in SPLITS if any(counts[split].values())]
    for label, total in _count(evidence).items():
        absent = [split for split in used if not counts[split][label]]
        if not total:
            yield Case(f"{label!r} has no images", value=0.0)
        elif absent:
            yield Case(
                f"{label!r} has {count_of(total, 'image')}, none in {' and '.join(absent)}",
                value=float(total),
            )
        elif total < FEW_IMAGES:
            yield Case(f"{label!r} has only {count_of(total, 'image')}", value=float(total))


def find_similar_labels(evidence: Evidence) -> Iterator[Case]:
    """Find labels that differ only by case, spaces or Unicode form."""
    for words in checks.find_similar_labels(evidence.dataset.labels):
        yield Case(words)


def find_label_suspects(evidence: Evidence) -> Iterator[Case]:
    """Find images that look like those of another class, the most suspicious first."""
    judgement = evidence.judgement
    labels, witness = evidence.dataset.labels, evidence.run_judgement
    for row, better, margin in find_suspects(judgement, evidence.classes):
        given = evidence.label_of(row)
        found = judgement.probabilities[row]
        words = (
            f"images like it are {labels[better]!r} ({100 * found[better]:.0f} %), not {given!r} "
            f"({100 * found[evidence.classes[row]]:.0f} %)"
        )
        if witness is not None and witness is not judgement:
            agrees = int(witness.probabilities[row].argmax()) == better
            words += f"; the run {'agrees' if agrees else 'does not agree'}"
        is_slow = evidence.is_slow_to_learn.get(row)
        if is_slow is not None:
            words += f"; its margin in training {'agrees' if is_slow else 'does not agree'}"
        is_rare = int(evidence.classes[row]) in judgement.unjudged
        words += f"; {given!r} has too few images to judge" if is_rare else ""
        yield Case(words, row, value=margin, suggested="" if is_rare else labels[better])


def find_outliers(evidence: Evidence) -> Iterator[Case]:
    """Find images that are far from all others in the features of a pretrained network."""
    distances = evidence.neighbors.distances
    known = np.flatnonzero(np.isfinite(distances))
    if len(known) < _MIN_JUDGED:
        return
    steps = np.log(np.maximum(distances[known], 1e-6))
    middle = np.median(steps)
    spread = 1.4826 * np.median(np.abs(steps - middle))  # that of normally distributed values
    rows = known[steps > middle + _SPREADS * spread]
    for row in rows[np.argsort(-distances[rows], kind="stable")].tolist():
        yield Case(
            f"{distances[row] / np.exp(middle):.1f} times as far from its nearest images as usual",
            row,
            value=float(distances[row]),
        )


def _count(evidence: Evidence) -> dict[str, int]:
    counts = [0] * len(evidence.dataset.labels)
    for index in evidence.classes.tolist():
        counts[index] += 1
    return dict(zip(evidence.dataset.labels, counts, strict=True))
