"""The images nearest to each one in the features of a network: outliers, and crops of an image."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

MIN_COSINE: Final = 0.85
"""Of the features of an image and a crop of it, which are then aligned; docs/benchmarks.md, B12."""

_NEAREST: Final = 10
_PARTNERS: Final = 4  # of an image, in pairs: they are aligned, which takes 3 ms each
_BLOCK_VALUES: Final = 1 << 26  # of a block of cosines: 256 MB
_GROUP: Final = 64  # columns; the nearest are sought in the groups with the largest cosines


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest images.

    Args:
        distances: float32 [N], mean cosine distance of the 10 nearest; NaN without features.
        pairs: int64 [m, 2], images whose features are almost equal and one of which is among the 4
            nearest of the other, the smaller row first.
        cosines: float32 [m], of each pair, descending.
    """

    distances: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.int64]
    cosines: npt.NDArray[np.float32]


def find_neighbors(
    features: npt.NDArray[np.float16], *, min_cosine: float = MIN_COSINE
) -> Neighbors:
    """Find the images nearest to each.

    Args:
        features: float16 [N, D]; 0 for images without any. N x N cosines are computed, in blocks.
        min_cosine: Of features that are almost equal, -1 to 1.
    """
    count = len(features)
    distances = np.full(count, np.nan, np.float32)
    known = np.flatnonzero(features.any(axis=1))
    # a last group that is not full is filled with images that are near to nothing
    x = np.zeros((-(-len(known) // _GROUP) * _GROUP, features.shape[1]), np.float32)
    x[: len(known)] = features[known]
    x[: len(known)] /= np.linalg.norm(x[: len(known)], axis=1, keepdims=True)
    nearest = min(_NEAREST, len(known) - 1)
    pairs, cosines = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    step = max(1, _BLOCK_VALUES // max(1, len(x)))
    for start in range(0, len(known) if nearest > 0 else 0, step):
        block = x[start : min(start + step, len(known))] @ x.T
        own = np.arange(len(block))
        block[own, start + own] = -1
        block[:, len(known) :] = -1
        best, columns = _find_largest(block, nearest)
        distances[known[start : start + step]] = 1 - best.mean(axis=1)
        partners = np.argsort(-best, axis=1)[:, :_PARTNERS]
        best = np.take_along_axis(best, partners, axis=1)
        columns = np.take_along_axis(columns, partners, axis=1)
        one, place = np.nonzero(best >= min_cosine)
        pairs.append(np.stack([known[start + one], known[columns[one, place]]], axis=1))
        cosines.append(best[one, place])
    both, first = np.unique(np.sort(np.concatenate(pairs)), axis=0, return_index=True)
    every = np.concatenate(cosines)[first]
    order = np.argsort(-every, kind="stable")
    return Neighbors(distances, both[order], every[order])


def _find_largest(
    block: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return the largest values of each row and their columns, without sorting whole rows.

    The largest of all lie in the groups whose own largest values are the largest.

    Args:
        block: float32 [n, G * 64].
        count: At least 1.

    Returns:
        float32 [n, count] and int [n, count], in no order.
    """
    groups = block.reshape(len(block), -1, _GROUP)
    largest = groups.max(axis=2)
    kept = min(count, largest.shape[1])
    chosen = np.argpartition(largest, -kept, axis=1)[:, -kept:]
    values = groups[np.arange(len(block))[:, None], chosen].reshape(len(block), -1)
    places = np.argpartition(values, -count, axis=1)[:, -count:]
    group = np.take_along_axis(chosen, places // _GROUP, axis=1)
    return np.take_along_axis(values, places, axis=1), _GROUP * group + places % _GROUP
