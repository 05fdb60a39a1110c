"""All pairs of hashes that differ in a few bits, without comparing all with all.

Two hashes of 64 bits that differ in at most 7 agree, in one of four blocks of 16 bits, in all but
one bit: with eight bits two in each block would be needed. So the hashes are sorted by each block,
and only those whose blocks are equal or one bit apart are compared (multi-index hashing: Norouzi,
Punjani and Fleet, 2012).
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.quality.perceptual_hash import Hashes

Pairs = npt.NDArray[np.int64]

MAX_BITS: Final = 7
_BLOCK_BITS: Final = 16
_BLOCKS: Final = 4
_PAIRS_AT_A_TIME: Final = 1 << 20  # 50 MB of temporary arrays


def find_close_hashes(hashes: Hashes, *, max_bits: int = MAX_BITS) -> Pairs:
    """Find all pairs of hashes that differ in at most `max_bits` bits.

    Args:
        hashes: uint64 [n], all different: equal ones would make the number of pairs explode.
        max_bits: 0 to 7.

    Returns:
        int64 [m, 2], indices of the hashes, the smaller first; sorted.
    """
    if max_bits > MAX_BITS:
        raise ValueError(f"expected at most {MAX_BITS} bits, received {max_bits}")
    found = [np.empty((0, 2), np.int64)]
    for block in range(_BLOCKS):
        values = (hashes >> np.uint64(block * _BLOCK_BITS)).astype(np.uint16)
        order = np.argsort(values, kind="stable")
        sorted_hashes, sorted_values = hashes[order], values[order].astype(np.int64)
        starts = np.searchsorted(sorted_values, np.arange((1 << _BLOCK_BITS) + 1))
        for left, right in _candidates(sorted_values, starts):
            close = count_bits(sorted_hashes[left] ^ sorted_hashes[right]) <= max_bits
            found.append(np.stack([order[left[close]], order[right[close]]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def count_bits(values: Hashes) -> npt.NDArray[np.uint8]:
    """Count the bits that are set."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        counts: npt.NDArray[np.uint8] = np.bitwise_count(values)
        return counts
    table = np.array([number.bit_count() for number in range(256)], np.uint8)
    sums: npt.NDArray[np.uint8] = table[values.view(np.uint8)].reshape(-1, 8).sum(1, np.uint8)
    return sums


def _candidates(values: Pairs, starts: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield places in the sorted order whose blocks are equal or one bit apart, each pair once."""
    places = np.arange(len(values))
    yield from _expand(places, places + 1, starts[values + 1])
    for bit in range(_BLOCK_BITS):
        lower = places[values & (1 << bit) == 0]
        partner = values[lower] | (1 << bit)
        yield from _expand(lower, starts[partner], starts[partner + 1])


def _expand(left: Pairs, begins: Pairs, ends: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield each of `left` with each place from its begin to its end, some at a time."""
    counts = np.maximum(ends - begins, 0)
    totals = np.cumsum(counts)
    first = 0
    while first < len(left):
        before = int(totals[first - 1]) if first else 0
        last = int(np.searchsorted(totals, before + _PAIRS_AT_A_TIME, side="right"))
        last = max(last, first + 1)
        part = counts[first:last]
        offsets = np.arange(int(part.sum())) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(left[first:last], part), np.repeat(begins[first:last], part) + offsets
        first = last
