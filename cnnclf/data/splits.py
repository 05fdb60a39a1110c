"""Splitting images into train, val and test: stratified, with duplicates and groups kept together.

All functions work on columns and treat a unit (exact duplicates, or images of one group) as one.
The result depends only on the contents of the images and the random seed, not on names, order or
platform. When images are added, nearly all others stay in their split, but of units of several
images, whose places depend on those of all larger units, about half may move.
"""

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.data.manifest_rows import SPLITS
from cnnclf.errors import UsageError

Fractions = tuple[float, float, float]
Keys = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int64]

# A class with fewer units than splits gets its splits in this order.
_PRIORITY: Final = (SPLITS.index("train"), SPLITS.index("test"), SPLITS.index("val"))


def check_fractions(fractions: Fractions) -> None:
    """Check fractions of train, val and test.

    Raises:
        UsageError: They are not three numbers of 0..1 with sum 1, or train is 0.
    """
    valid = len(fractions) == len(SPLITS) and all(0 <= each <= 1 for each in fractions)
    if not valid or abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        received = ",".join(f"{each:g}" for each in fractions)
        raise UsageError(
            "expected fractions of train, val and test between 0 and 1 that add up to 1, "
            f"with more than 0 for train, received {received}",
            "for example: --split 0.7,0.15,0.15",
        )


def join_units(*keys: Keys) -> Ids:
    """Join the images that have a key in common, directly or through others.

    Args:
        keys: uint64 [N, 2] each, such as halves of a hash; 0, 0 means no key.

    Returns:
        int64 [N], the same number for all images of one unit: that of its first row.
    """
    starts, ends = [], []
    for key in keys:
        order = np.lexsort((key[:, 1], key[:, 0]))
        ordered = key[order]
        same = (ordered[1:] == ordered[:-1]).all(axis=1) & ordered[1:].any(axis=1)
        starts.append(order[:-1][same])
        ends.append(order[1:][same])
    return find_components(
        len(keys[0]), np.stack([np.concatenate(starts), np.concatenate(ends)], 1)
    )


def find_components(count: int, edges: Ids) -> Ids:
    """Label the nodes of a graph by the smallest node they are connected with.

    Args:
        count: Number of nodes.
        edges: int64 [m, 2], the two nodes of each.

    Returns:
        int64 [count].
    """
    starts, ends = edges.T
    roots = np.arange(count)
    while True:
        first, second = roots[starts], roots[ends]
        if np.array_equal(first, second):
            return roots
        np.minimum.at(roots, np.maximum(first, second), np.minimum(first, second))
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]


def assign_splits(
    class_indices: npt.NDArray[np.int32],
    units: Ids,
    *,
    digests: Keys,
    classes: int,
    fractions: Fractions,
    seed: int,
    known: npt.NDArray[np.int8] | None = None,
) -> npt.NDArray[np.int8]:
    """Assign images to splits, stratified by class, with no unit in two splits.

    Units of several images come first, the largest first: each goes to the split where the
    chi-square distance between the actual and the desired counts, over all its classes, grows
    least. For units of one class this is the divisor method of Sainte-Lague (1910), which favors
    neither large nor small splits. Single images then fill each class up to its quota, in the order
    of a seeded hash of their contents. Finally, if a class has enough units for every split but is
    missing in one, a unit is moved there.

    Args:
        class_indices: int32 [N].
        units: int64 [N] from `join_units`.
        digests: uint64 [N, 2], halves of a hash of each image's contents.
        classes: Number of classes.
        fractions: Fractions of train, val and test; sum 1.
        seed: Random seed, 0 or more.
        known: int8 [N], index into `SPLITS` of the images that stay where they are, which count for
            the fractions, or -1; all images of a unit or none are known. None: none is.

    Returns:
        int8 [N], index into `SPLITS`. A class with fewer units than splits is in train first, then
        in test.
    """
    check_fractions(fractions)
    if not len(units):
        return np.empty(0, np.int8)
    division = _Division(
        class_indices,
        units,
        _rank_units(units, digests, seed),
        _find_quotas(class_indices, units, classes=classes, fractions=fractions),
        np.full(len(units), -1, np.int8) if known is None else known,
    )
    division.place_large_units()
    division.place_single_images()
    division.fill_missing()
    return division.splits


def count_units(class_indices: npt.NDArray[np.int32], units: Ids, *, classes: int) -> Ids:
    """Count the units in which each class occurs.

    Returns:
        int64 [classes].
    """
    pairs = np.unique(units * classes + class_indices)
    return np.bincount(pairs % classes, minlength=classes)


def _rank_units(units: Ids, digests: Keys, seed: int) -> Ids:
    """Rank the rows by a seeded hash of contents; the rows of one unit have the same rank."""
    with np.errstate(over="ignore"):
        salt = _scramble(np.array([seed % 2**64], np.uint64))
        hashes = _scramble(digests[:, 0] ^ salt)
    smallest = np.full(len(units), np.iinfo(np.uint64).max)
    np.minimum.at(smallest, units, hashes)
    _, ranks = np.unique(smallest[units], return_inverse=True)
    return ranks


def _scramble(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the bits of 64-bit numbers: the finalizer of SplitMix64 (Steele, Lea, Flood, 2014)."""
    values = (values + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _find_quotas(
    class_indices: npt.NDArray[np.int32], units: Ids, *, classes: int, fractions: Fractions
) -> Ids:
    """Find how many images of each class each split should get; int64 [3, classes].

    Each quota is the exact number rounded up or down, such that the rounding errors of one class
    are compensated by the next ones (error diffusion).
    """
    totals = np.bincount(class_indices, minlength=classes)
    available = count_units(class_indices, units, classes=classes)
    quotas = np.zeros((len(SPLITS), classes), np.int64)
    owed = np.zeros(len(SPLITS))
    wanted = [split for split in _PRIORITY if fractions[split] > 0]
    for index in range(classes):
        served = wanted[: max(int(available[index]), 1)]
        parts = np.array([fractions[i] if i in served else 0.0 for i in range(len(SPLITS))])
        if not totals[index]:
            continue
        exact = totals[index] * parts / parts.sum()
        quota = np.floor(exact + 1e-9).astype(np.int64)
        left = int(totals[index] - quota.sum())
        rests = np.round(exact - quota, 9)
        order = np.lexsort((-np.round(rests + owed, 9), rests <= 0))
        quota[order[:left]] += 1
        for split in served:
            if quota[split] == 0:
                quota[int(quota.argmax())] -= 1
                quota[split] = 1
        owed += totals[index] * np.array(fractions) - quota
        quotas[:, index] = quota
    return quotas


class _Division:
    """The assignment of images to splits, step by step.

    Args:
        class_indices: int32 [N].
        units: int64 [N].
        ranks: int64 [N], the order in which units are placed.
        quotas: int64 [3, classes], the images of each class that each split should get.
        known: int8 [N], the split of images that stay in it, or -1.
    """

    def __init__(
        self,
        class_indices: npt.NDArray[np.int32],
        units: Ids,
        ranks: Ids,
        quotas: Ids,
        known: npt.NDArray[np.int8],
    ) -> None:
        self.splits = known.copy()
        self._is_new = known < 0
        self._classes = class_indices
        self._units = units
        self._ranks = ranks
        self._quotas = quotas
        self._reached = np.zeros_like(quotas)
        kept = np.flatnonzero(~self._is_new)
        np.add.at(self._reached, (known[kept], class_indices[kept]), 1)
        self._sizes = np.bincount(units, minlength=len(units))[units]
        self._by_unit = np.argsort(units, kind="stable")
        self._ordered = units[self._by_unit]

    def place_large_units(self) -> None:
        """Place the units of several images, the largest first."""
        rows = np.flatnonzero((self._sizes > 1) & self._is_new)
        rows = rows[np.lexsort((self._units[rows], self._ranks[rows], -self._sizes[rows]))]
        borders = np.flatnonzero(np.diff(self._units[rows], prepend=-1)).tolist()
        closed = ~self._quotas.any(axis=1)
        # A split without a quota for a class is so costly that only other classes lead there.
        limits = np.maximum(self._quotas, 1e-6)
        for start, end in pairwise([*borders, len(rows)]):
            members = rows[start:end]
            found, amounts = np.unique(self._classes[members], return_counts=True)
            # Half the growth of the sum of reached^2 / quota.
            reached = self._reached[:, found] + amounts / 2
            cost = (amounts * reached / limits[:, found]).sum(axis=1)
            cost[closed] = np.inf
            # Rounded, so that platforms that differ in the last bit break ties in the same way.
            best = _PRIORITY[int(np.round(cost[list(_PRIORITY)], 9).argmin())]
            self.splits[members] = best
            self._reached[best, found] += amounts

    def place_single_images(self) -> None:
        """Fill each class up to its quota."""
        rows = np.flatnonzero((self._sizes == 1) & self._is_new)
        rows = rows[np.lexsort((self._ranks[rows], self._classes[rows]))]
        counts = np.bincount(self._classes[rows], minlength=self._quotas.shape[1])
        start = 0
        for index, count in enumerate(counts.tolist()):
            needs = np.maximum(self._quotas[:, index] - self._reached[:, index], 0)
            amounts = _apportion(count, needs)
            # Train last: then one more or one less image moves only a few others to another split.
            for split in reversed(_PRIORITY):
                self.splits[rows[start : start + amounts[split]]] = split
                start += amounts[split]
            self._reached[:, index] += amounts

    def fill_missing(self) -> None:
        """Move a unit into each split that has a quota for a class but no image of it."""
        classes = self._quotas.shape[1]
        pairs, first = np.unique(self._units * classes + self._classes, return_index=True)
        cover = np.zeros(self._quotas.shape, np.int64)
        np.add.at(cover, (self.splits[first], pairs % classes), 1)
        required = self._quotas > 0
        for index in np.flatnonzero((required & (cover == 0)).any(axis=0)).tolist():
            for split in _PRIORITY:
                if required[split, index] and not cover[split, index]:
                    self._move_smallest(index, split, cover, required)

    def _move_smallest(
        self, index: int, target: int, cover: Ids, required: npt.NDArray[np.bool_]
    ) -> None:
        """Move the smallest unit of a class that its split can spare to `target`."""
        best: tuple[tuple[int, int], Ids, npt.NDArray[np.int32], int] | None = None
        for unit in np.unique(self._units[(self._classes == index) & self._is_new]).tolist():
            members = self._members(unit)
            found = np.unique(self._classes[members])
            origin = int(self.splits[members[0]])
            rank = (len(members), int(self._ranks[members[0]]))
            spare = (cover[origin, found] > required[origin, found]).all()
            if spare and (best is None or rank < best[0]):
                best = (rank, members, found, origin)
        if best is not None:
            _, chosen, shown, left = best
            self.splits[chosen] = target
            cover[left, shown] -= 1
            cover[target, shown] += 1

    def _members(self, unit: int) -> Ids:
        start, end = np.searchsorted(self._ordered, [unit, unit + 1])
        return self._by_unit[start:end]


def _apportion(count: int, needs: Ids) -> Ids:
    """Apportion `count` to needs that add up to it or more, by largest remainders."""
    total = int(needs.sum())
    if total == count:
        return needs
    shares, rests = np.divmod(needs * count, total)
    left = count - int(shares.sum())
    order = sorted(
        _PRIORITY, key=lambda split: (rests[split] == 0, shares[split] > 0, -rests[split])
    )
    shares[order[:left]] += 1
    return shares
