"""What replaces pixels whose influence is tested: a blurred copy, gray, or the image's mean."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]


def fill_pixels(pixels: Pixels, kind: str) -> Pixels:
    """Return the image that shows through where pixels are removed.

    Args:
        pixels: uint8 [H, W, C].
        kind: blur (so strong that shapes are gone, colors remain), gray, or mean (of the image).

    Returns:
        uint8 [H, W, C].
    """
    if kind == "gray":
        return np.full_like(pixels, 128)
    if kind == "mean":
        mean = pixels.reshape(-1, pixels.shape[2]).mean(axis=0)
        return np.broadcast_to(np.round(mean), pixels.shape).astype(np.uint8)
    return blur_pixels(pixels, 1 / 8)


def blur_pixels(pixels: Pixels, fraction: float) -> Pixels:
    """Blur each channel, with a sigma that is a fraction of the longer side."""
    blur = ImageFilter.GaussianBlur(fraction * max(pixels.shape[:2]))
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return np.stack([np.asarray(Image.fromarray(each).filter(blur)) for each in planes], axis=-1)


def resize_map(
    values: npt.NDArray[np.floating], height: int, *, width: int
) -> npt.NDArray[np.float32]:
    """Resize a map smoothly to the size of an image.

    Args:
        values: Numbers [h, w].
        height: Rows.
        width: Columns.

    Returns:
        float32 [height, width].
    """
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)
