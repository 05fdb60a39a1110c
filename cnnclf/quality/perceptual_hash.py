"""A hash of 64 bits that hardly changes when an image is resized, recompressed or brightened.

The signs of the 64 lowest frequencies of the discrete cosine transform against their median (pHash,
Zauner, 2010). The mean brightness is not among them. The median, unlike the mean, sets half of the
bits in every image.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

SIDE: Final = 32
"""Height and width of the gray images that are hashed."""

Gray = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

FORMS: Final[dict[str, Callable[[Gray], Gray]]] = {
    "": lambda gray: gray,
    "mirrored": lambda gray: gray[:, :, ::-1],
    "upside down": lambda gray: gray[:, ::-1],
    "rotated by 180 degrees": lambda gray: gray[:, ::-1, ::-1],
    "transposed": lambda gray: gray.swapaxes(1, 2),
    "rotated by 90 degrees": lambda gray: gray.swapaxes(1, 2)[:, ::-1],
    "rotated by 270 degrees": lambda gray: gray.swapaxes(1, 2)[:, :, ::-1],
    "mirrored and rotated": lambda gray: gray.swapaxes(1, 2)[:, ::-1, ::-1],
}
"""The eight forms that turning and mirroring give, each as a function of [n, H, W]."""

_BITS: Final = 64
_HIGHEST: Final = 11  # frequencies 0 to 10 in each direction hold the 64 lowest
_CHUNK: Final = 1024


def hash_images(gray: Gray) -> Hashes:
    """Hash images.

    Args:
        gray: uint8 [n, 32, 32].

    Returns:
        uint64 [n].
    """
    steps = np.arange(_HIGHEST)[:, None] * (2 * np.arange(SIDE)[None] + 1)
    waves = np.cos(np.pi * steps / (2 * SIDE)).astype(np.float32)
    places = sorted(
        ((row, column) for row in range(_HIGHEST) for column in range(_HIGHEST)),
        key=lambda place: (sum(place), max(place), place),
    )[1 : _BITS + 1]
    rows, columns = np.array(places).T
    patterns = (waves[rows][:, :, None] * waves[columns][:, None]).reshape(_BITS, -1)
    hashes = np.empty(len(gray), np.uint64)
    for start in range(0, len(gray), _CHUNK):
        part = gray[start : start + _CHUNK].reshape(-1, SIDE * SIDE).astype(np.float32)
        values = part @ patterns.T
        ordered = np.sort(values, axis=1)  # faster than np.median
        bits = values > ordered[:, _BITS // 2 - 1 : _BITS // 2 + 1].mean(axis=1, keepdims=True)
        hashes[start : start + _CHUNK] = np.ascontiguousarray(np.packbits(bits, axis=1)).view(
            ">u8"
        )[:, 0]
    return hashes


def compare_images(first: Gray, second: Gray) -> npt.NDArray[np.float32]:
    """Compare images pixel by pixel and edge by edge, whatever their brightness and contrast.

    Equal backgrounds alone make the pixels of different images correlate; their edges do not.

    Args:
        first: uint8 [n, 32, 32].
        second: uint8 [n, 32, 32].

    Returns:
        float32 [n, 2], correlation of the pixels and of the differences of neighbors, -1 to 1.
    """
    one, two = first.astype(np.float32), second.astype(np.float32)
    return np.stack(
        [_correlate(_center(one), _center(two)), _correlate(_edges(one), _edges(two))], 1
    )


def _center(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat: npt.NDArray[np.float32] = gray.reshape(len(gray), -1)
    centered: npt.NDArray[np.float32] = flat - flat.mean(axis=1, keepdims=True)
    return centered


def _edges(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    down, right = np.diff(gray, axis=1), np.diff(gray, axis=2)
    return np.concatenate([down.reshape(len(gray), -1), right.reshape(len(gray), -1)], axis=1)


def _correlate(
    one: npt.NDArray[np.float32], two: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    products = np.einsum("ij,ij->i", one, two)
    correlations: npt.NDArray[np.float32] = products / np.maximum(lengths, np.float32(1e-6))
    return correlations
