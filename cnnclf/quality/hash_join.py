"""All pairs of hashes that differ in a few bits, without comparing all with all.

Two hashes of 64 bits that differ in at most 7 agree, in one of four blocks of 16 bits, in all but
one bit: with eight bits two in each block would be needed. So the hashes are sorted by each block,
and only those whose blocks are equal or one bit apart are compared (multi-index hashing: Norouzi,
Punjani and Fleet, 2012).

Images of one camera that never moves are all alike, and so would be all pairs of them: each hash is
paired with a limited number of others, the closest first.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from cnnclf.quality.perceptual_hash import Hashes

Pairs = npt.NDArray[np.int64]
_Places = npt.NDArray[np.int32]

MAX_BITS: Final = 7
_BLOCK_BITS: Final = 16
_BLOCKS: Final = 4
_PAIRS_AT_A_TIME: Final = 1 << 17  # 6 MB of temporary arrays
_PLACES_AT_A_TIME: Final = 1 << 16
_REACH: Final = 2048  # of many hashes with one block, each is compared with the next ones
_PARTNERS: Final = 16  # of a hash in one look, after which only equal blocks are looked at


def find_close_hashes(hashes: Hashes) -> Pairs:
    """Find pairs of hashes that differ in at most `MAX_BITS` bits.

    All of them, unless a hash has more than 16 such partners or more than 2,048 share a block.

    Args:
        hashes: uint64 [n], all different: equal ones would make the number of pairs explode.

    Returns:
        int64 [m, 2], indices of the hashes, the smaller first; sorted.
    """
    found = [np.empty((0, 2), np.int64)]
    partners = np.zeros(len(hashes), np.int32)
    for block in range(_BLOCKS):
        values = (hashes >> np.uint64(block * _BLOCK_BITS)).astype(np.uint16)
        order = np.argsort(values, kind="stable").astype(np.int32)
        sorted_hashes, sorted_values = hashes[order], values[order].astype(np.int32)
        starts = np.searchsorted(sorted_values, np.arange((1 << _BLOCK_BITS) + 1))
        for left, right in _candidates(sorted_values, starts, order=order, partners=partners):
            bits = count_bits(sorted_hashes[left] ^ sorted_hashes[right])
            close = np.flatnonzero(bits <= MAX_BITS)
            close = close[_find_closest(left[close], bits[close])]
            found.append(np.stack([order[left[close]], order[right[close]]], axis=1))
            np.add.at(partners, found[-1][:, 0], 1)
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


def _find_closest(left: Pairs, bits: npt.NDArray[np.uint8]) -> Pairs:
    """Return which pairs to keep, so that no hash on the left has too many: those of fewest bits.

    Args:
        left: int64 [n], the hash on the left of each pair, ascending.
        bits: uint8 [n], in which the two differ.
    """
    order = np.lexsort((bits, left))
    rank = np.arange(len(left)) - np.searchsorted(left, left)
    kept: Pairs = order[rank < _PARTNERS]
    return kept


def _candidates(
    values: _Places, starts: Pairs, *, order: _Places, partners: _Places
) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield places in the sorted order whose blocks are equal or one bit apart, each pair once.

    Args:
        values: int32 [n], the blocks, ascending.
        starts: Where each value starts.
        order: int32 [n], the hash at each place.
        partners: int32 [n], how many each hash has; grows while pairs are yielded.
    """
    # Those of equal blocks, in one of which close hashes usually are, are looked at in any case.
    for bit in (None, *range(_BLOCK_BITS)):
        for start in range(0, len(values), _PLACES_AT_A_TIME):
            places = np.arange(start, min(start + _PLACES_AT_A_TIME, len(values)))
            own = values[places]
            if bit is None:
                yield from _expand(places, places + 1, starts[own + 1])
            else:
                is_lower = (partners[order[places]] < _PARTNERS) & (own & (1 << bit) == 0)
                partner = own[is_lower] | (1 << bit)
                yield from _expand(places[is_lower], starts[partner], starts[partner + 1])


def _expand(left: Pairs, begins: Pairs, ends: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """Yield each of `left` with each place from its begin to its end, some at a time."""
    counts = np.clip(ends - begins, 0, _REACH)
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
