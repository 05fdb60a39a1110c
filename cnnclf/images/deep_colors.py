"""All 16 bits of color files, of which Pillow decodes only the high bytes."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

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
    for order, other in _OTHER_BYTE.items():
        if text.endswith(order):
            return text.removesuffix(order) + other
    return arguments


def join_bytes(high: Image.Image, low: Image.Image) -> npt.NDArray[np.uint16]:
    """Return the colors of a file, uint16 [H, W, 3], from its high and its low bytes."""
    values = np.asarray(high)[:, :, :3].astype(np.uint16)
    values *= 256
    values += np.asarray(low)[:, :, :3]
    return values
