"""The fixed first convolution that whitens patches: unit variance along each principal axis.

Its filters are the eigenvectors of the covariance of patches of training images, each divided by
the root of its eigenvalue, and their negatives, so that an activation loses nothing (Page, "How to
train your ResNet", 2019; Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

# Added to the eigenvalues, as a fraction of their mean: axes without variance are noise.
_DAMPING = 5e-4


def set_whitening(net: "keras.Model", images: Iterable[npt.NDArray[Any]]) -> None:
    """Set the weights of the layer `whiten` of a network built by `build_cnn`.

    Args:
        net: The network.
        images: Batches of training images, uint8 [n, H, W, C].
    """
    layer = net.get_layer("whiten")
    rescale = net.get_layer("rescale")
    scaled = (np.asarray(rescale(batch), np.float32) for batch in images)
    layer.set_weights(whiten_patches(scaled, layer.kernel_size[0]))


def whiten_patches(
    images: Iterable[npt.NDArray[np.float32]], window: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute the filters that whiten patches.

    Args:
        images: Batches of images, float32 [n, H, W, C], at least one.
        window: Side of a patch.

    Returns:
        Kernel float32 [window, window, C, 2 D] and bias [2 D], with D = window * window * C: the
        axes of the largest variance first, then all of them negated.
    """
    count, channels = 0, 1
    total: Any = 0.0
    products: Any = 0.0
    for batch in images:
        channels = batch.shape[3]
        views = np.lib.stride_tricks.sliding_window_view(batch, (window, window), axis=(1, 2))
        patches = np.moveaxis(views, 3, -1).reshape(-1, window * window * channels)
        count += len(patches)
        total = total + patches.sum(axis=0, dtype=np.float64)
        products = products + (patches.T @ patches).astype(np.float64)
    mean = total / count
    variances, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    variances, axes = variances[::-1].clip(0), axes[:, ::-1]
    damping = max(_DAMPING * float(variances.mean()), 1e-9)
    filters = axes / np.sqrt(variances + damping)
    kernel = np.concatenate([filters, -filters], axis=1)
    shape = (window, window, channels, kernel.shape[1])
    return kernel.reshape(shape).astype(np.float32), (-mean @ kernel).astype(np.float32)
