"""From logits to probabilities, and to the most probable classes: the only definition of each."""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Floats = TypeVar("Floats", bound=np.floating[Any])

_MAX_ARGMAX_PASSES = 8


def softmax(logits: npt.NDArray[Floats]) -> npt.NDArray[Floats]:
    """Turn logits into probabilities.

    Args:
        logits: Any float dtype, [n, K], finite.

    Returns:
        The same dtype, [n, K]; each row adds up to 1.
    """
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def log_softmax(logits: npt.NDArray[Floats]) -> npt.NDArray[Floats]:
    """Turn logits into the logarithms of probabilities, without underflow.

    Args:
        logits: Any float dtype, [n, K], finite.

    Returns:
        The same dtype, [n, K].
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def find_top_classes(probabilities: npt.NDArray[Floats], top_k: int) -> npt.NDArray[np.intp]:
    """Find the most probable classes of each row.

    Args:
        probabilities: [n, K], each at least 0.
        top_k: How many classes, at least 1; more than K means all.

    Returns:
        Class indices, int [n, min(top_k, K)], most probable first. Of equal probabilities the lower
        index comes first, as with argmax.
    """
    count = min(top_k, probabilities.shape[1])
    if count > _MAX_ARGMAX_PASSES:
        return np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    # Sorting a thousand classes to name three of them takes longer than decoding a small image.
    remaining = probabilities.copy()
    order = np.empty((len(remaining), count), np.intp)
    rows = np.arange(len(remaining))
    for rank in range(count):
        order[:, rank] = remaining.argmax(axis=1)
        remaining[rows, order[:, rank]] = -1.0
    return order
