"""All 16 bits of color files, of which Pillow decodes only the high bytes."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

# Gray with opacity, of which Pillow unpacks the high bytes only: read as four colors, the bytes are
# those of gray (high, low) and opacity (high, low).
_GRAY_AND_OPACITY, _FOUR_COLORS = "LA;16B", "RGBA"
_LOW_GRAY = "G"

# Pillow's unpackers take one byte of two; that of the other byte order takes the other byte.
_OTHER_BYTE = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


def take_other_byte(arguments: Any) -> Any:
    """Return the arguments of Pillow's decoder for the other byte of each 16-bit value.

    Args:
        arguments: Of a tile: a raw mode such as `RGB;16B`, or a tuple that starts with one.
    """
    if isinstance(arguments, tuple):
        return (take_other_byte(arguments[0]), *arguments[1:])
    text = str(arguments)
    if text == _GRAY_AND_OPACITY:
        return _FOUR_COLORS
    for order, other in _OTHER_BYTE.items():
        if text.endswith(order):
            return text.removesuffix(order) + other
    return arguments


def arrange_low_bytes(image: Image.Image, arguments: list[Any]) -> Image.Image:
    """Return the low bytes of an image that was decoded with `take_other_byte`, in their places.

    Args:
        image: Low bytes of colors, or all bytes of gray with opacity.
        arguments: Of its tiles, as they are in the file.
    """
    if _GRAY_AND_OPACITY not in arguments:
        return image
    return Image.merge("RGB", [image.getchannel(_LOW_GRAY)] * 3)


def join_bytes(high: Image.Image, low: Image.Image) -> npt.NDArray[np.uint16]:
    """Return the colors of a file, uint16 [H, W, 3], from its high and its low bytes."""
    values = np.asarray(high)[:, :, :3].astype(np.uint16)
    values *= 256
    values += np.asarray(low)[:, :, :3]
    return values
