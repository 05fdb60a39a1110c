"""Converts every color mode of Pillow, and raw values, to 8 bits: gray, RGB or RGB and opacity."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_FULL_16_BIT = 65_535
# Pillow's words for gray, without their depth, and those of other kinds of files.
_GRAY_MODES = frozenset({"1", "L", "LA", "I", "F", "array", "sound", "MONOCHROME1", "MONOCHROME2"})


Range = tuple[float, float]


def convert_to_8_bit(
    image: Image.Image, value_range: Range | None = None
) -> tuple[Image.Image, list[str]]:
    """Convert a loaded image of any mode to L, RGB or RGBA.

    16-bit gray is scaled from 0..65535 to 0..255 and rounded: the same for every image, so that
    brightness stays comparable. Of 16-bit colors Pillow gives the high bytes, which is at most one
    level less. 32-bit integers and floating point values have no agreed range: the smallest finite
    value of the image becomes 0 and the largest 255 (a constant image: 0). CMYK is converted
    without a color profile.

    Args:
        image: A loaded image, with its `info`.
        value_range: Values that become 0 and 255 instead, in images of more than 8 bits.

    Returns:
        The image, and what is unusual about its depth, in words.
    """
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scale_gray(image, value_range)
    if image.has_transparency_data:
        return _expose_transparency(image).convert("RGBA"), []
    if mode in {"L", "RGB"}:
        return image, []
    return image.convert("L" if mode == "1" else "RGB"), []


@dataclass(frozen=True, slots=True)
class RawValues:
    """Numbers of an image that Pillow does not open.

    Args:
        values: [H, W, 1] or [H, W, 3].
        value_range: Values that become black and white; None for those of the type.
        mode: Pillow's word for the colors, or that of the format.
        format: As in `LoadedImage`.
        oddities: What is unusual, in words.
        is_inverted: Whether low values are bright.
        orientation: As in EXIF.
    """

    values: npt.NDArray[Any]
    value_range: Range | None
    mode: str
    format: str
    oddities: tuple[str, ...]
    is_inverted: bool = False
    orientation: int = 1


def convert_values(
    found: RawValues, value_range: Range | None
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Convert raw values by the rules of `convert_to_8_bit`, so that high values are bright."""
    values, of_file = found.values, found.value_range
    pixels, oddities = values, list[str]()
    if of_file is not None or values.dtype != np.uint8:
        is_16_bit = of_file is None and values.dtype == np.uint16
        pixels, oddities = _scale(values, value_range or of_file, is_16_bit=is_16_bit)
    return (255 - pixels if found.is_inverted else pixels), oddities


def is_gray_mode(mode: str) -> bool:
    """Return whether a mode, as in `ImageInfo`, is one of gray values."""
    return mode.partition(";")[0] in _GRAY_MODES


def scale_values(values: npt.NDArray[np.generic], value_range: Range) -> npt.NDArray[np.uint8]:
    """Scale numbers from a range to 0..255, rounded; those outside are clipped, NaN becomes 0."""
    low, high = value_range
    with np.errstate(invalid="ignore"):  # signaling NaNs
        scaled = (values.astype(np.float64) - low) * 255 / (high - low)
    scaled = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def describe_peak(peak: int) -> list[str]:
    """Say that an image has 16 bits, and whether it fills them: a camera of 12 bits does not."""
    dark = f"dark: brightest value {peak} of {_FULL_16_BIT}"
    return ["16-bit", dark] if peak <= _FULL_16_BIT // 4 else ["16-bit"]


def _expose_transparency(image: Image.Image) -> Image.Image:
    """Fix the transparent color of a PNG with 16-bit colors: Pillow keeps all its 16 bits."""
    color = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(color, tuple) and max(color) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in color)
    return image


def _scale_gray(image: Image.Image, value_range: Range | None) -> tuple[Image.Image, list[str]]:
    values = np.asarray(image)
    is_16_bit = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in {"PNG", "PPM"}
    )
    scaled, oddities = _scale(values, value_range, is_16_bit=is_16_bit)
    gray = Image.fromarray(scaled)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        gray = gray.convert("RGBA")
        gray.putalpha(alpha)
    return gray, oddities


def _scale(
    values: npt.NDArray[Any], value_range: Range | None, *, is_16_bit: bool
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Scale numbers from a range, or from that of 16 bits or of these numbers."""
    oddities = describe_peak(int(values.max())) if is_16_bit else []
    if value_range is not None:
        return scale_values(values, value_range), oddities
    if is_16_bit:
        return _scale_16_bit(values), oddities
    scaled, oddity = _scale_to_extremes(values)
    return scaled, [oddity]


def _scale_16_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    scaled = values.astype(np.uint32)
    scaled *= 255
    scaled += _FULL_16_BIT // 2
    scaled //= _FULL_16_BIT
    return scaled.astype(np.uint8)


def _scale_to_extremes(values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.uint8], str]:
    """Scale numbers from their smallest and largest finite value to 0..255, and say so."""
    with np.errstate(invalid="ignore"):  # signaling NaNs
        scaled = values.astype(np.float64)
    finite = np.isfinite(scaled)
    low, high = 0.0, 0.0
    if finite.any():
        low = float(scaled.min(where=finite, initial=np.inf))
        high = float(scaled.max(where=finite, initial=-np.inf))
    scaled[~finite] = low
    scaled -= low
    scaled *= 255 / (high - low) if high > low else 0.0
    kind = "floating point" if values.dtype.kind == "f" else f"{8 * values.dtype.itemsize}-bit"
    return np.rint(scaled).astype(np.uint8), f"{kind}, scaled from {low:g}..{high:g}"
