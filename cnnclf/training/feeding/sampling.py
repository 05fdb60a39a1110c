"""How many images a batch has, and which ones an epoch shows when classes are to be balanced."""

from typing import Any

import numpy as np
import numpy.typing as npt


def cut_batches(count: int, batch_size: int, *, devices: int = 1) -> npt.NDArray[np.intp]:
    """Cut an epoch into as few batches as can be, their sizes differing by at most one a device.

    Nothing is dropped, and no device gets a single image where that can be avoided: an odd count
    cut into pairs ends with one of three.

    Args:
        count: Images of an epoch, at least 1.
        batch_size: Most images of a batch, at least 1.
        devices: How many share a batch; sizes are multiples of it.

    Returns:
        Where batches begin and end, int [batches + 1]. The last number is `count`, rounded up to a
        multiple of `devices`.
    """
    shares, most = -(-count // devices), max(1, batch_size // devices)
    batches = -(-shares // most)
    if most > 1:
        batches = max(1, min(batches, shares // 2))
    size, larger = divmod(shares, batches)
    sizes = np.full(batches, size)
    sizes[:larger] += 1  # first, so that batches of the same size follow each other
    return devices * np.concatenate([[0], np.cumsum(sizes)])


def draw_balanced(classes: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw as many images as there are, each class that occurs equally often (or one more).

    A class is gone through completely before any of it comes again, so that an epoch leaves nothing
    out that there is room for.

    Args:
        classes: The class of each image, int [n].
        rng: Where chance comes from.

    Returns:
        Positions in `classes`, int [n], class by class.
    """
    members = [np.flatnonzero(classes == index) for index in np.unique(classes)]
    share, rest = divmod(len(classes), len(members))
    quotas = np.full(len(members), share)
    quotas[rng.permutation(len(members))[:rest]] += 1
    drawn = []
    for positions, quota in zip(members, quotas.tolist(), strict=True):
        rounds = -(-quota // len(positions))
        passes = [rng.permutation(positions) for _ in range(rounds)]
        drawn.append(np.concatenate([*passes, positions[:0]])[:quota])
    return np.concatenate(drawn)
