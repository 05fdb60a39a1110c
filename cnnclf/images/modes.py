"""Converts every color mode of Pillow to 8 bits: gray, RGB or RGB with transparency."""

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
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        scaled, oddities = _scale_16_bit(values)
        scaled = scaled if value_range is None else scale_values(values, value_range)
    elif value_range is not None:
        scaled, oddities = scale_values(values, value_range), []
    else:
        scaled, oddity = scale_to_extremes(values)
        oddities = [oddity]
    gray = Image.fromarray(scaled)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        gray = gray.convert("RGBA")
        gray.putalpha(alpha)
    return gray, oddities


def _scale_16_bit(values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    scaled = values.astype(np.uint32)
    oddities = describe_peak(int(scaled.max()))
    scaled *= 255
    scaled += _FULL_16_BIT // 2
    scaled //= _FULL_16_BIT
    return scaled.astype(np.uint8), oddities


def scale_to_extremes(values: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.uint8], str]:
    """Scale numbers from their smallest and largest finite value to 0..255, and say so."""
    scaled, low, high = _scale_to_extremes(values)
    kind = "floating point" if values.dtype.kind == "f" else f"{8 * values.dtype.itemsize}-bit"
    return scaled, f"{kind}, scaled from {low:g}..{high:g}"


def _scale_to_extremes(
    values: npt.NDArray[np.generic],
) -> tuple[npt.NDArray[np.uint8], float, float]:
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
    return np.rint(scaled).astype(np.uint8), low, high
