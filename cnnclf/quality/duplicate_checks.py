"""Checks of pairs of images: equal or almost equal, inside a class, across classes and splits."""

from collections.abc import Callable, Iterator

import numpy as np

from cnnclf.quality.check_evidence import Evidence
from cnnclf.quality.finding import Case
from cnnclf.quality.twins import BY_FEATURES

_SAME = "the same image"


def find_duplicates_inside(evidence: Evidence) -> Iterator[Case]:
    """Find images that repeat an earlier one of their class and split."""
    keys = np.stack([evidence.contents, evidence.classes, evidence.splits], axis=1)
    _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    earlier = first[inverse.ravel()]
    for row in np.flatnonzero(earlier != np.arange(len(earlier))).tolist():
        yield Case(_SAME, row, int(earlier[row]), value=1.0)


def find_duplicates_across_classes(evidence: Evidence) -> Iterator[Case]:
    """Find images that have another label than the first of their copies, in the earliest split."""
    contents, classes = evidence.contents, evidence.classes
    is_found = np.isin(contents, contents[evidence.duplicates.conflicts[:, 0]])
    rows = np.flatnonzero(is_found)
    firsts: dict[int, int] = {}
    found = set()
    for row in rows[np.argsort(evidence.splits[rows], kind="stable")].tolist():
        first = firsts.setdefault(int(contents[row]), row)
        if classes[row] != classes[first] and first not in found:
            found.add(first)  # once, however many labels it has
            yield Case(_SAME, row, first, value=1.0)


def find_duplicates_across_splits(evidence: Evidence) -> Iterator[Case]:
    """Find images that occur in two splits."""
    seen: set[int] = set()
    for rows, twins in evidence.duplicates.shared.values():
        for row, twin in zip(rows.tolist(), twins.tolist(), strict=True):
            if row not in seen:  # once, although it may be in both other splits
                seen.add(row)
                yield Case(_SAME, row, twin, value=1.0)


def find_near_duplicates(evidence: Evidence) -> Iterator[Case]:
    """Find images that are almost the same as another one of their class and split."""
    classes, splits = evidence.classes, evidence.splits
    yield from _find_pairs(
        evidence, lambda one, two: classes[one] == classes[two] and splits[one] == splits[two]
    )


def find_near_duplicates_across_classes(evidence: Evidence) -> Iterator[Case]:
    """Find images that are almost the same as one with another label."""
    classes = evidence.classes
    yield from _find_pairs(evidence, lambda one, two: classes[one] != classes[two])


def find_near_duplicates_across_splits(evidence: Evidence) -> Iterator[Case]:
    """Find images that are almost the same as one in another split."""
    splits = evidence.splits
    yield from _find_pairs(
        evidence,
        lambda one, two: splits[one] != splits[two] and min(splits[one], splits[two]) >= 0,
    )


def find_torn_groups(evidence: Evidence) -> Iterator[Case]:
    """Find groups with images in more than one split."""
    members: dict[str, dict[int, int]] = {}
    for row, group in enumerate(evidence.dataset.manifest.groups):
        if group and evidence.splits[row] >= 0:
            members.setdefault(group, {}).setdefault(int(evidence.splits[row]), row)
    for group, rows in members.items():
        if len(rows) > 1:
            earliest, *others = (rows[split] for split in sorted(rows))
            yield Case(f"both of group {group!r}", others[-1], earliest)


def _find_pairs(evidence: Evidence, test: Callable[[int, int], bool]) -> Iterator[Case]:
    """Find pairs that pass a test; each image once, with the one that is most like it."""
    pairs = evidence.near_pairs
    seen: set[int] = set()
    triples = zip(pairs.rows.tolist(), pairs.edges.tolist(), pairs.forms, strict=True)
    for (one, two), edges, form in triples:
        if not test(one, two):
            continue
        # The image of the later split is the one that leaked.
        later, earlier = (one, two) if evidence.splits[one] > evidence.splits[two] else (two, one)
        if later not in seen:
            seen.add(later)
            words = f"{form}, edges correlate by" if form else "edges correlate by"
            words = "features of a network agree by" if form == BY_FEATURES else words
            yield Case(f"{words} {edges:.3f} of 1", later, earlier, value=edges)
