"""Scales and cuts pixels to the size of an input spec."""

import math
from dataclasses import dataclass

from PIL import Image

from cnnclf.images.input_spec import InputSpec
from cnnclf.images.pillow_files import LoadedImage


@dataclass(frozen=True, slots=True)
class _Filter:
    """A filter of Pillow: its number and how many pixels it reads on each side."""

    resample: Image.Resampling
    support: float


_FILTERS = {
    "bilinear": _Filter(Image.Resampling.BILINEAR, 1.0),
    "bicubic": _Filter(Image.Resampling.BICUBIC, 2.0),
    "lanczos": _Filter(Image.Resampling.LANCZOS, 3.0),
    "nearest": _Filter(Image.Resampling.NEAREST, 0.5),
    "box": _Filter(Image.Resampling.BOX, 0.5),
}


def scaled_size(width: int, height: int, *, spec: InputSpec) -> tuple[int, int]:
    """Size (width, height) to which `fit` scales an upright image before it crops or pads."""
    if spec.fit == "squash":
        return spec.width, spec.height
    if spec.fit == "pad":
        if width * spec.height >= height * spec.width:
            return spec.width, max(1, round(height * spec.width / width))
        return max(1, round(width * spec.height / height)), spec.height
    columns = round(spec.width / spec.crop_fraction)
    rows = round(spec.height / spec.crop_fraction)
    if columns * height >= rows * width:
        return columns, height * columns // width
    return width * rows // height, rows


def fit(loaded: LoadedImage, spec: InputSpec) -> Image.Image:
    """Flatten, scale, and crop or pad."""
    scaled = scaled_size(loaded.width, loaded.height, spec=spec)
    window = (0, 0, *scaled)
    if spec.fit == "crop":
        left, upper = round((scaled[0] - spec.width) / 2), round((scaled[1] - spec.height) / 2)
        window = left, upper, left + spec.width, upper + spec.height
    image = flatten(loaded.image, spec)
    image = _scale_and_cut(image, loaded.box, scaled, window, _FILTERS[spec.interpolation])
    if spec.channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    return _pad(image, spec) if spec.fit == "pad" else image


def flatten(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Blend a transparent image over the background; convert to gray for a gray model."""
    if image.mode == "RGBA":
        canvas = Image.new("RGB", image.size, spec.background)
        canvas.paste(image, mask=image)
        image = canvas
    return image.convert("L") if spec.channels == 1 and image.mode != "L" else image


def _scale_and_cut(
    image: Image.Image,
    box: tuple[float, float, float, float],
    scaled: tuple[int, int],
    window: tuple[int, int, int, int],
    way: _Filter,
) -> Image.Image:
    """Return a window (left, upper, right, lower) of the `box` of an image scaled to `scaled`.

    Only the window and the few pixels around it that the filter reads are computed: scaling all of
    a 20000x1 image to 64 rows would compute 82 million pixels to keep 4096.
    """
    if scaled == image.size:
        return image if window == (0, 0, *scaled) else image.crop(window)
    left, right, box_left, box_right = _widen(
        (window[0], window[2]), scaled[0], (box[0], box[2]), way.support
    )
    upper, lower, box_upper, box_lower = _widen(
        (window[1], window[3]), scaled[1], (box[1], box[3]), way.support
    )
    image = image.resize(
        (right - left, lower - upper), way.resample, (box_left, box_upper, box_right, box_lower)
    )
    if (left, upper, right, lower) == window:
        return image
    return image.crop((window[0] - left, window[1] - upper, window[2] - left, window[3] - upper))


def _widen(
    window: tuple[int, int], scaled: int, filled: tuple[float, float], support: float
) -> tuple[int, int, float, float]:
    """Widen a window by what the filter reads; return its edges after and before scaling."""
    step = (filled[1] - filled[0]) / scaled
    margin = math.ceil(support * max(1.0, 1.0 / step)) + 1
    low, high = max(0, window[0] - margin), min(scaled, window[1] + margin)
    return low, high, filled[0] + low * step, min(filled[0] + high * step, filled[1])


def _pad(image: Image.Image, spec: InputSpec) -> Image.Image:
    if image.size == (spec.width, spec.height):
        return image
    canvas = Image.new("RGB", (spec.width, spec.height), spec.background)
    canvas = canvas if spec.channels == 3 else canvas.convert("L")
    canvas.paste(image, ((spec.width - image.width) // 2, (spec.height - image.height) // 2))
    return canvas
