"""Close hashes are found without comparing all, and not all pairs of a crowd are."""

import numpy as np
import numpy.typing as npt

from cnnclf.quality.hash_join import count_bits, find_close_hashes
from cnnclf.quality.perceptual_hash import Hashes


def flip(hashes: Hashes, bits: int, rng: np.random.Generator) -> Hashes:
    for _ in range(bits):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, len(hashes)).astype(np.uint64))
    return hashes


def pair_all(hashes: Hashes) -> npt.NDArray[np.int64]:
    distances = count_bits((hashes[:, None] ^ hashes[None]).ravel()).reshape(len(hashes), -1)
    return np.argwhere(np.triu(distances <= 7, 1))


def test_all_close_pairs_of_ordinary_hashes_are_found() -> None:
    rng = np.random.default_rng(0)
    some = rng.integers(0, 2**64, 300, np.uint64)
    hashes = np.unique(np.concatenate([some, *(flip(some, bits, rng) for bits in (1, 4, 7, 9))]))
    assert find_close_hashes(hashes).tolist() == pair_all(hashes).tolist()


def test_a_crowd_of_close_hashes_gives_few_pairs_among_them_copies() -> None:
    """As of a camera that never moves: all pairs would take minutes and gigabytes."""
    rng = np.random.default_rng(0)
    crowd = flip(np.full(1000, 2**40 + 5, np.uint64), 3, rng)
    copies = flip(crowd[:100], 1, rng)
    hashes = np.unique(np.concatenate([crowd, copies]))
    pairs = find_close_hashes(hashes)
    every = pair_all(hashes).tolist()
    assert len(pairs) < 64 * len(hashes) < len(every)
    found = set(map(tuple, pairs.tolist()))
    ends = np.sort(np.searchsorted(hashes, np.stack([crowd[:100], copies], axis=1)), axis=1)
    planted = [pair for pair in map(tuple, ends.tolist()) if pair[0] != pair[1]]
    assert len(planted) > 50
    assert sum(pair in found for pair in planted) >= 0.9 * len(planted)
