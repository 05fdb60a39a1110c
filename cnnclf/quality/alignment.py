"""Whether two images show the same once one is moved, enlarged or mirrored: crops of one photo."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.quality.perceptual_hash import SIDE, Gray

MIN_ALIGNED_EDGES: Final = 0.65
MIN_ALIGNED_PIXELS: Final = 0.85
"""Correlations where both images overlap; see docs/benchmarks.md, B12."""

_SIDES: Final = (26, 28, 30, 32, 34, 37, 40)  # of the second image: crops of up to a fifth
_PLANE: Final = 72  # at least the largest two sides, and fast to transform
_MIN_OVERLAP: Final = 0.62 * SIDE**2
_WINDOW: Final = 5  # of the blur that is subtracted: what is left are edges
_CHUNK: Final = 256

Values = npt.NDArray[np.float32]


def find_aligned(first: Gray, second: Gray) -> npt.NDArray[np.bool_]:
    """Find the pairs of images that agree where they overlap, at the place and size that fit best.

    By normalized correlation of masked images with the Fourier transform (Padfield, "Masked object
    registration in the Fourier domain", 2012), of their edges, that is what a blur changes, and of
    their pixels.

    Args:
        first: uint8 [n, 32, 32].
        second: uint8 [n, 32, 32].

    Returns:
        bool [n].
    """
    aligned = np.zeros(len(first), np.bool_)
    for start in range(0, len(first), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(first)))
        for edges, least in ((True, MIN_ALIGNED_EDGES), (False, MIN_ALIGNED_PIXELS)):
            if len(rows):
                rows = rows[_align(first[rows], second[rows], edges=edges) >= least]
        aligned[rows] = True
    return aligned


def _align(first: Gray, second: Gray, *, edges: bool) -> Values:
    best = np.full(len(first), -1, np.float32)
    fixed = _transform(_prepare(first, edges=edges))
    for side in _SIDES:
        moved = _resize(second, side)
        for each in (moved, moved[:, :, ::-1]):
            np.maximum(best, _correlate(fixed, _prepare(each, edges=edges)), out=best)
    return best


def _prepare(gray: Gray, *, edges: bool) -> Values:
    from scipy.ndimage import uniform_filter

    values = gray.astype(np.float32)
    if edges:
        values -= uniform_filter(values, (1, _WINDOW, _WINDOW), mode="nearest")
    centered: Values = values - values.mean(axis=(1, 2), keepdims=True)
    return centered


def _resize(gray: Gray, side: int) -> Gray:
    if side == SIDE:
        return gray
    size, way = (side, side), Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(each).resize(size, way)) for each in gray])


def _transform(values: Values) -> tuple[npt.NDArray[np.complex64], ...]:
    """Return the transforms of images, of their squares, and of their mask."""
    from scipy.fft import rfft2

    plane = (_PLANE, _PLANE)
    mask = np.ones((1, *values.shape[1:]), np.float32)
    return tuple(rfft2(each, plane, workers=-1) for each in (values, values**2, mask))


def _correlate(fixed: tuple[npt.NDArray[np.complex64], ...], moved: Values) -> Values:
    """Return the largest correlation over all shifts with enough overlap, [n]."""
    from scipy.fft import irfft2

    image, squares, mask = fixed
    other, other_squares, other_mask = (np.conj(each) for each in _transform(moved))
    products = (
        image * other,
        image * other_mask,
        mask * other,
        squares * other_mask,
        mask * other_squares,
    )
    plane = (_PLANE, _PLANE)
    both, one, two, one_squares, two_squares = (
        irfft2(each, plane, workers=-1) for each in products
    )
    pixels = irfft2(mask * other_mask, plane)
    count = np.maximum(pixels, 1)
    spread = np.maximum(one_squares - one**2 / count, 1)
    spread *= np.maximum(two_squares - two**2 / count, 1)
    found = (both - one * two / count) / np.sqrt(spread)
    found[np.broadcast_to(pixels < _MIN_OVERLAP, found.shape)] = -1
    best: Values = found.reshape(len(found), -1).max(axis=1).astype(np.float32)
    return best
