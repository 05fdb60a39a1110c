"""Checks of classes: their sizes and names."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from cnnclf.data.checks import FEW_IMAGES, LARGE_RATIO
from cnnclf.data.manifest import SPLITS
from cnnclf.names import count_of, name_some
from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case

_FILLING: Final = re.compile(r"[\s_-]+")


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
    alike: dict[str, list[str]] = {}
    for label in evidence.dataset.labels:
        plain = _FILLING.sub("", unicodedata.normalize("NFKC", label).casefold())
        alike.setdefault(plain or label, []).append(label)
    for same in alike.values():
        if len(same) > 1:
            yield Case(f"{name_some([ascii(label) for label in same])} may be one class")


def _count(evidence: Evidence) -> dict[str, int]:
    counts = [0] * len(evidence.dataset.labels)
    for index in evidence.classes.tolist():
        counts[index] += 1
    return dict(zip(evidence.dataset.labels, counts, strict=True))
