"""The sizes of batches, the images of an epoch with balanced sampling, and class weights."""

from typing import Any

import numpy as np
import numpy.typing as npt


def cut_batches(count: int, batch_size: int, *, devices: int = 1) -> npt.NDArray[np.intp]:
    """Cut an epoch into as few batches as possible; sizes differ by at most one per device.

    Nothing is dropped, and no device gets a single image if that can be avoided: an odd count cut
    into pairs ends with a batch of three.

    Args:
        count: Images of an epoch, at least 1.
        batch_size: Maximum number of images of a batch, at least 1.
        devices: Number of devices that share a batch; sizes are multiples of it.

    Returns:
        The bounds of the batches, int [batches + 1]. The last one is `count`, rounded up to a
        multiple of `devices`.
    """
    shares, max_share = -(-count // devices), max(1, batch_size // devices)
    batches = -(-shares // max_share)
    if max_share > 1:
        batches = max(1, min(batches, shares // 2))
    size, larger = divmod(shares, batches)
    sizes = np.full(batches, size)
    sizes[:larger] += 1  # first, so that batches of the same size follow each other
    return devices * np.concatenate([[0], np.cumsum(sizes)])


def draw_balanced(classes: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Draw as many images as there are, with equally many (or one more) of each class.

    All images of a class are drawn before any of them is drawn again, so that an epoch covers as
    much as possible.

    Args:
        classes: The class of each image, int [n].
        rng: Source of randomness.

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


def balance_weights(class_indices: Any, num_classes: int) -> Any:
    """Weight classes by the effective number of their images (Cui et al., 2019, beta 0.999).

    Args:
        class_indices: int [N], of the training images.
        num_classes: K.

    Returns:
        float32 [K], with a mean of 1 over the images; 0 for a class without images.
    """
    counts = np.bincount(class_indices, minlength=num_classes).astype(np.float64)
    effective = (1 - np.power(0.999, counts)) / (1 - 0.999)
    weights = np.divide(1.0, effective, out=np.zeros_like(effective), where=counts > 0)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)
