"""Whether two images show the same once one is moved, enlarged or mirrored: crops of one photo."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.quality.perceptual_hash import SIDE, Gray

SMALL_SIDE: Final = 64
"""Pixels of the shorter side below which copies of an image lose many of their edges."""

_MIN_EDGES: Final = (0.65, 0.8)  # of small images, and of others: correlations where both overlap
_MIN_PIXELS: Final = 0.85
_SIDES: Final = (26, 28, 30, 32, 34, 37, 40)  # of the second image: crops of up to a fifth
_SIDES_BETWEEN: Final = (27, 29, 31, 33, 35, 36, 38, 39)  # tried where one of the others fits
_FITS: Final = 0.5
_PLANE: Final = 72  # at least the largest two sides, and fast to transform
_MIN_OVERLAP: Final = 0.62 * SIDE**2
_WINDOW: Final = 5  # of the blur that is subtracted: what is left are edges

Values = npt.NDArray[np.float32]


def find_aligned(
    first: Gray, second: Gray, *, are_small: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Find the pairs of images that agree where they overlap, at the place and size that fit best.

    By normalized correlation of masked images with the Fourier transform (Padfield, "Masked object
    registration in the Fourier domain", 2012), of their edges, that is what a blur changes, and of
    their pixels.

    Args:
        first: uint8 [n, 32, 32]; about 400 kB of memory are needed for each.
        second: uint8 [n, 32, 32].
        are_small: bool [n], whether one of them was made of fewer than `SMALL_SIDE` pixels.

    Returns:
        bool [n].
    """
    rows = np.arange(len(first))
    for edges in (True, False):
        least = np.where(are_small[rows], *_MIN_EDGES) if edges else _MIN_PIXELS
        if len(rows):
            rows = rows[_align(first[rows], second[rows], edges=edges) >= least]
    aligned = np.zeros(len(first), np.bool_)
    aligned[rows] = True
    return aligned


def _align(first: Gray, second: Gray, *, edges: bool) -> Values:
    best = _fit(first, second, sides=_SIDES, edges=edges)
    near = np.flatnonzero(best >= _FITS)
    if len(near):
        better = _fit(first[near], second[near], sides=_SIDES_BETWEEN, edges=edges)
        best[near] = np.maximum(best[near], better)
    return best


def _fit(first: Gray, second: Gray, *, sides: Sequence[int], edges: bool) -> Values:
    best = np.full(len(first), -1, np.float32)
    fixed = _transform(_prepare(first, edges=edges))
    for side in sides:
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
