"""Two-dimensional signals as NumPy arrays, one sample per file: from numbers to pixels."""

import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.errors import DataError, ImageError
from cnnclf.images.modes import scale_values
from cnnclf.images.npy_header import MAGIC, read_npy_header

_CHANNELS: Final = (1, 2, 3, 4)


def load_array(
    content: bytes, *, max_pixels: int, value_range: tuple[float, float] | None
) -> tuple[Image.Image, str]:
    """Turn the content of an .npy file into an image.

    uint8 is taken as it is, and False and True become 0 and 255. Other numbers are scaled from
    `value_range`, or without one from the lowest and highest finite number of this array.

    Args:
        content: Of the file: an array [H, W], [1, H, W] or [H, W, C] with 1 to 4 channels.
        max_pixels: Refuse larger arrays.
        value_range: Numbers that become 0 and 255.

    Returns:
        The image (L, RGB or RGBA), and the type of its numbers.

    Raises:
        ImageError: It is not such an array, is damaged, or shows nothing.
    """
    array = _read(content, max_pixels)
    kind = array.dtype.name
    pixels = _scale(array, value_range)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return (image.convert("RGBA") if image.mode == "LA" else image), kind


def _read(content: bytes, max_pixels: int) -> npt.NDArray[Any]:
    if not content.startswith(MAGIC):
        raise ImageError("not an array in NumPy's format (.npy)")
    stream = io.BytesIO(content)
    try:
        header = read_npy_header(stream.read, "the file")
    except DataError as error:
        raise ImageError(error.message, error.hint) from error
    if header.dtype.kind not in "biuf":
        raise ImageError("expected numbers in the array, received text")
    shape = header.shape
    if len(shape) == 3 and shape[0] == 1 and shape[2] > _CHANNELS[-1]:
        shape = shape[1:]
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in _CHANNELS or min(shape) < 1:
        spoken = " x ".join(map(str, shape)) or "a single number"
        raise ImageError(
            f"expected height x width or height x width x channels with 1 to 4 channels, "
            f"received {spoken}"
        )
    if shape[0] * shape[1] > max_pixels:
        raise ImageError(f"too many pixels: {shape[0]} x {shape[1]}, the limit is {max_pixels:,}")
    if header.offset + header.size_bytes != len(content):
        raise ImageError(
            f"the array is damaged or truncated: it has {len(content):,} bytes, by its header "
            f"{header.offset + header.size_bytes:,}"
        )
    flat = np.frombuffer(content, header.dtype, offset=header.offset)
    return flat.reshape(shape, order="F" if header.in_columns else "C")


def _scale(
    array: npt.NDArray[Any], value_range: tuple[float, float] | None
) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if value_range is None:
        # Some bit patterns are signaling NaN, which raise warnings when used.
        with np.errstate(invalid="ignore"):
            numbers = array.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        if not finite.size:
            raise ImageError("the array has no finite value")
        value_range = float(finite.min()), float(finite.max())
        if value_range[0] == value_range[1]:
            raise ImageError(
                f"the array has only one value, {value_range[0]:g}, so it shows nothing"
            )
    return scale_values(array, value_range)
