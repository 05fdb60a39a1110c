"""Changes that images suffer in use, at five strengths each, applied to decoded pixels.

After ImageNet-C (Hendrycks and Dietterich, 2019), with sizes relative to the image, so that they
mean the same at 28 and at 224 pixels.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from cnnclf.augmentation.warp import warp
from cnnclf.images.decode import decode_image
from cnnclf.images.input_spec import InputSpec

STRENGTHS = 5

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, float, np.random.Generator], npt.NDArray[Any]]


@dataclass(frozen=True)
class Corruption:
    """One row of the table.

    Args:
        name: In tables and metrics.json.
        values: Of the five strengths, weakest first.
        words: A value in words, such as "blurred by {:g} of the size".
        change: Takes one image uint8 [H, W, C], a value and a generator.
    """

    name: str
    values: tuple[float, float, float, float, float]
    words: str
    change: Change

    def apply(self, pixels: Pixels, *, strength: int, seed: int) -> Pixels:
        """Change images, uint8 [n, H, W, C], with a strength of 1 to 5; same seed, same result."""
        changed = np.empty_like(pixels)
        for at, image in enumerate(pixels):
            rng = np.random.default_rng((seed, at))
            found = self.change(image, self.values[strength - 1], rng)
            changed[at] = found if found.dtype == np.uint8 else np.clip(np.round(found), 0, 255)
        return changed


def _add_noise(image: Pixels, value: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.asarray(image + rng.normal(0, 255 * value, image.shape))


def _count_photons(
    image: Pixels, value: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    return np.asarray(rng.poisson(image / 255 * value) / value * 255)


def _defocus(image: Pixels, value: float, _: np.random.Generator) -> Pixels:
    radius = math.hypot(value * min(image.shape[:2]), 0.4)  # less would change no pixel
    return _to_pixels(_to_image(image).filter(ImageFilter.GaussianBlur(radius)), image)


def _move(image: Pixels, value: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Average the image along a line, horizontal or vertical, also by parts of a pixel."""
    axis = int(rng.integers(2))
    size = image.shape[axis]
    half = value * size / 2
    offsets = np.arange(-np.ceil(half), np.ceil(half) + 1).astype(int)
    way = half * np.linspace(-1, 1, 129)[1::2]
    weights = np.maximum(1 - np.abs(offsets[:, None] - way), 0).mean(axis=1)
    places = np.arange(size)[:, None] + offsets
    moved = np.take(image, np.clip(places, 0, size - 1), axis=axis)
    return np.asarray(np.moveaxis(moved, axis + 1, -1) @ weights)


def _brighten(image: Pixels, value: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.asarray(image + rng.choice([-255, 255]) * value)


def _flatten(image: Pixels, value: float, _: np.random.Generator) -> npt.NDArray[np.float64]:
    middle = image.mean()
    return np.asarray(middle + value * (image - middle))


def _fade(image: Pixels, value: float, _: np.random.Generator) -> npt.NDArray[np.float64]:
    gray = image @ np.full(image.shape[2], 1 / image.shape[2])
    return np.asarray(gray[..., None] + value * (image - gray[..., None]))


def _compress(image: Pixels, value: float, _: np.random.Generator) -> Pixels:
    buffer = io.BytesIO()
    _to_image(image).save(buffer, "JPEG", quality=int(value))
    return decode_image(buffer.getvalue(), InputSpec(*image.shape))


def _pixelate(image: Pixels, value: float, _: np.random.Generator) -> Pixels:
    whole = _to_image(image)
    width, height = (max(1, round(side * value)) for side in whole.size)
    small = whole.resize((width, height), Image.Resampling.BOX)
    return _to_pixels(small.resize(whole.size, Image.Resampling.NEAREST), image)


def _rotate(image: Pixels, value: float, rng: np.random.Generator) -> Pixels:
    angle = np.deg2rad(value) * rng.choice([-1, 1])
    matrix = np.eye(3)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(warp(image[None], matrix[None])[0])


def _cover(image: Pixels, value: float, rng: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    tall, wide = round(height * value**0.5), round(width * value**0.5)
    top, left = (int(rng.integers(0, free + 1)) for free in (height - tall, width - wide))
    covered = image.copy()
    covered[top : top + tall, left : left + wide] = 128
    return covered


def _to_image(image: Pixels) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _to_pixels(changed: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(changed, np.uint8).reshape(like.shape)


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("gaussian-noise", (0.04, 0.08, 0.12, 0.18, 0.26), "{:g} of white", _add_noise),
    Corruption("shot-noise", (100, 60, 25, 12, 5), "{:g} photons", _count_photons),
    Corruption("defocus", (0.006, 0.012, 0.02, 0.03, 0.045), "{:g} of the size", _defocus),
    Corruption("motion-blur", (0.03, 0.06, 0.1, 0.15, 0.2), "{:g} of the size", _move),
    Corruption("brightness", (0.1, 0.2, 0.3, 0.4, 0.5), "{:g} of white, up or down", _brighten),
    Corruption("contrast", (0.75, 0.6, 0.45, 0.3, 0.2), "{:g} of the contrast", _flatten),
    Corruption("saturation", (0.7, 0.5, 0.3, 0.15, 0.0), "{:g} of the saturation", _fade),
    Corruption("jpeg", (60, 40, 25, 15, 7), "quality {:g}", _compress),
    Corruption("pixelation", (0.75, 0.6, 0.45, 0.3, 0.2), "{:g} of the pixels a side", _pixelate),
    Corruption("rotation", (5, 10, 15, 20, 30), "{:g} degrees", _rotate),
    Corruption("occlusion", (0.05, 0.1, 0.2, 0.3, 0.4), "{:g} of the area", _cover),
)
