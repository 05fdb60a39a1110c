"""Changes the values of pixels: linear color changes and the tone curves of RandAugment.

All linear changes of an image (brightness, contrast, saturation, hue) are combined into one color
matrix before any pixel changes, so that any number of them costs one pass and rounds once.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

Pixels = NDArray[np.uint8]
Matrices = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the lightness of a color (ITU-R BT.601)."""

_TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_CHUNK_VALUES = 1 << 17
_NEARLY = 1e-9


def identity_colors(count: int) -> Matrices:
    """Return `count` identity color matrices, float64 [count, 4, 4]."""
    return np.tile(np.eye(4), (count, 1, 1))


def scale_colors(factor: NDArray[np.float64]) -> Matrices:
    """Return matrices that multiply every value by a factor: brightness."""
    matrices = identity_colors(len(factor))
    matrices[:, (0, 1, 2), (0, 1, 2)] = factor[:, None]
    return matrices


def spread_colors(factor: NDArray[np.float64], center: NDArray[np.float64]) -> Matrices:
    """Return matrices that multiply the distance of every value to `center`: contrast."""
    matrices = scale_colors(factor)
    matrices[:, :3, 3] = (center * (1 - factor))[:, None]
    return matrices


def saturate_colors(factor: NDArray[np.float64]) -> Matrices:
    """Return matrices that multiply the distance of every color to its gray: saturation."""
    matrices = scale_colors(factor)
    matrices[:, :3, :3] += (1 - factor)[:, None, None] * LUMA
    return matrices


def rotate_colors(turns: NDArray[np.float64]) -> Matrices:
    """Return matrices that rotate the color wheel (1.0 is a full turn) at equal lightness: hue."""
    angle = 2 * np.pi * turns
    rotation = np.tile(np.eye(3), (len(turns), 1, 1))
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 1, 2] = -np.sin(angle)
    rotation[:, 2, 1] = np.sin(angle)
    matrices = identity_colors(len(turns))
    matrices[:, :3, :3] = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return matrices


def mean_lightness(pixels: Pixels) -> NDArray[np.float64]:
    """Return the mean lightness of each image, 0..255, estimated from about 32 x 32 pixels."""
    height, width, channels = pixels.shape[1:]
    sample = pixels[:, :: max(1, height // 32), :: max(1, width // 32)]
    means = sample.mean(axis=(1, 2), dtype=np.float64)
    lightness: NDArray[np.float64] = means @ LUMA if channels == 3 else means[:, 0]
    return lightness


def recolor(pixels: Pixels, matrices: Matrices) -> Pixels:
    """Apply one color matrix per image; values are clipped to 0..255.

    Args:
        pixels: uint8 [n, H, W, C], C being 1 or 3; changed in place.
        matrices: float64 [n, 4, 4] on (red, green, blue, 1). To a gray image they apply as to equal
            red, green and blue, so that hue and saturation leave it unchanged.

    Returns:
        `pixels`.
    """
    weights, shift = matrices[:, :3, :3], matrices[:, :3, 3]
    if pixels.shape[3] == 1:
        return _stretch(pixels, weights.sum(axis=2) @ LUMA, shift @ LUMA)
    factor = weights[:, 0, 0]
    even = np.abs(weights - np.eye(3) * factor[:, None, None]).max(axis=(1, 2)) < _NEARLY
    even &= np.ptp(shift, axis=1) < _NEARLY
    changed = (np.abs(factor - 1) > _NEARLY) | (np.abs(shift[:, 0]) > _NEARLY)
    rows = np.flatnonzero(even & changed)
    if rows.size:
        pixels[rows] = _stretch(pixels[rows], factor[rows], shift[rows, 0])
    for index in np.flatnonzero(~even):
        matrix = tuple(matrices[index, :3].ravel().tolist())
        image = Image.fromarray(pixels[index]).convert("RGB", matrix)
        pixels[index] = np.asarray(image)
    return pixels


def _stretch(pixels: Pixels, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Pixels:
    """Compute value * factor + shift in place, in chunks that fit the cache."""
    step = max(1, _CHUNK_VALUES // max(1, pixels[0].size))
    for start in range(0, len(pixels), step):
        part = slice(start, start + step)
        values = pixels[part] * factor[part, None, None, None].astype(np.float32)
        values += (shift[part, None, None, None] + 0.5).astype(np.float32)
        np.clip(values, 0, 255, out=values)
        pixels[part] = values
    return pixels


def autocontrast(image: Image.Image, level: float) -> Image.Image:  # noqa: ARG001
    """Stretch each color to the full range."""
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, level: float) -> Image.Image:  # noqa: ARG001
    """Equalize the histogram of each color."""
    return ImageOps.equalize(image)


def solarize(image: Image.Image, level: float) -> Image.Image:
    """Invert values above a threshold: 256 at level 0, 0 at level 1."""
    return ImageOps.solarize(image, round(256 * (1 - level)))


def posterize(image: Image.Image, level: float) -> Image.Image:
    """Keep the upper bits of each value: 8 at level 0, 4 at level 1."""
    return ImageOps.posterize(image, 8 - round(4 * level))


def sharpen(image: Image.Image, level: float) -> Image.Image:
    """Blur (level below 0) or sharpen (above 0) by a factor of 1 + level."""
    return ImageEnhance.Sharpness(image).enhance(1 + level)


Tone = Callable[[Image.Image, float], Image.Image]
