"""The one decoder: the only code that turns bytes into pixels.

Training, evaluation, prediction, export checks and explanations all call `decode_image`, so a model
never sees an image prepared in another way than the ones it learned from. The rules and why they
are so: docs/decisions/0001-one-decoder.md.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.images.formats import describe_name
from cnnclf.images.input_spec import DECODER_VERSION, FITS, INTERPOLATIONS, InputSpec
from cnnclf.images.pillow_files import MAX_PIXELS, LoadedImage, load_image

__all__ = [
    "DECODER_VERSION",
    "FITS",
    "INTERPOLATIONS",
    "MAX_PIXELS",
    "ImageInfo",
    "InputSpec",
    "decode_image",
    "inspect_image",
]

# A JPEG is decoded at 1/2, 1/4 or 1/8 if so many times the needed pixels remain on each side. With
# 4 the result differs from a full decode by less than one level of 255 on average.
_SPARE_PIXELS = 4


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file holds.

    Args:
        width: Columns, after the EXIF orientation is applied.
        height: Rows, after the EXIF orientation is applied.
        mode: Pillow's word for the colors in the file, such as `RGB`, `L`, `P`, `CMYK`, `I;16`.
        format: What the content is, such as `JPEG`, whatever the name says.
        pixels_sha256: The same for files that decode to the same pixels, whatever their formats.
            SHA-256 over mode, size and pixels (upright, 8 bits), or a sample of them.
        exact: Whether `pixels_sha256` is over all pixels and so tells different pixels apart.
        note: What is unusual, in words separated by "; ", or "".
    """

    width: int
    height: int
    mode: str
    format: str
    pixels_sha256: str
    exact: bool
    note: str


def decode_image(
    source: Path | bytes, spec: InputSpec, *, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Decode one image into the pixels that a model sees. Safe to call from many threads.

    Args:
        source: A file, or a file's content.
        spec: Size, colors, fit, interpolation and background.
        max_pixels: Refuse larger images, 1 or more.

    Returns:
        Pixels, uint8 of shape [spec.height, spec.width, spec.channels]; a fresh array.

    Raises:
        ImageError: The file cannot be read, is no image, damaged or larger than `max_pixels`.
    """

    def enough(width: int, height: int) -> tuple[int, int]:
        columns, rows = _scaled_size(width, height, spec)
        return columns * _SPARE_PIXELS, rows * _SPARE_PIXELS

    loaded = load_image(
        source,
        max_pixels=max_pixels,
        enough=None if spec.interpolation == "nearest" else enough,
    )
    return np.asarray(_fit(loaded, spec)).reshape(spec.shape).copy()


def inspect_image(
    source: Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS, exact: bool = True
) -> ImageInfo:
    """Decode one image in full and say what it is. Safe to call from many threads.

    Args:
        source: A file, or a file's content.
        name: Name of the file that a content came from, for the note; of a file its own name.
        max_pixels: Refuse larger images, 1 or more.
        exact: Whether the checksum must be over all pixels. If not, that of a large image is over
            a sample, which takes little of the time that decoding takes instead of a third.

    Returns:
        Size, mode, format, checksum of the pixels and a note.

    Raises:
        ImageError: The file cannot be read, is no image, damaged or larger than `max_pixels`.
    """
    loaded = load_image(source, max_pixels=max_pixels, with_oddities=True)
    name = name or (source.name if isinstance(source, Path) else "")
    notes = (describe_name(name, loaded.format), *loaded.oddities)
    image = loaded.image
    exact = exact or image.width * image.height * len(image.getbands()) <= _SMALL_BYTES
    return ImageInfo(
        width=loaded.width,
        height=loaded.height,
        mode=loaded.mode,
        format=loaded.format,
        pixels_sha256=_hash_pixels(image, exact=exact),
        exact=exact,
        note="; ".join(filter(None, notes)),
    )


@dataclass(frozen=True, slots=True)
class _Filter:
    """A way to resample: Pillow's number and how many pixels it looks at on each side."""

    resample: Image.Resampling
    support: float


_FILTERS = {
    "bilinear": _Filter(Image.Resampling.BILINEAR, 1.0),
    "bicubic": _Filter(Image.Resampling.BICUBIC, 2.0),
    "lanczos": _Filter(Image.Resampling.LANCZOS, 3.0),
    "nearest": _Filter(Image.Resampling.NEAREST, 0.5),
    "box": _Filter(Image.Resampling.BOX, 0.5),
}


def _scaled_size(width: int, height: int, spec: InputSpec) -> tuple[int, int]:
    """Size (width, height) to which `fit` scales a whole upright image before it cuts or pads."""
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


def _fit(loaded: LoadedImage, spec: InputSpec) -> Image.Image:
    """Flatten, scale and cut or pad."""
    scaled = _scaled_size(loaded.width, loaded.height, spec)
    window = (0, 0, *scaled)
    if spec.fit == "crop":
        left, upper = round((scaled[0] - spec.width) / 2), round((scaled[1] - spec.height) / 2)
        window = left, upper, left + spec.width, upper + spec.height
    image = _flatten(loaded.image, spec)
    image = _scale_and_cut(image, loaded.box, scaled, window, _FILTERS[spec.interpolation])
    if spec.channels == 3 and image.mode == "L":
        image = image.convert("RGB")
    return _pad(image, spec) if spec.fit == "pad" else image


def _flatten(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Put a transparent image on the background; make gray if the model wants gray."""
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
    """Give a window (left, upper, right, lower) of the `box` of an image scaled to `scaled`.

    Only the window and the few pixels around it that the filter looks at are computed: scaling the
    whole of a 20000x1 image to 64 rows would take 82 million pixels to keep 4096 of them.
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
    """Widen a window by what the filter looks at; give its edges after and before scaling."""
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


# Images up to this size are hashed in full, as fast as a sample of them would be.
_SMALL_BYTES = 1 << 16
_SAMPLE_SIZE = (64, 64)

# Larger pieces of memory are fetched from the system and given back each time, page by page, which
# takes longer than what is done with them.
_STRIP_BYTES = 100_000


def _hash_pixels(image: Image.Image, *, exact: bool) -> str:
    """SHA-256 over mode, size and all pixels, or a sample of them on a regular grid."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height} {exact} ".encode())
    if not exact:
        image = image.resize(_SAMPLE_SIZE, Image.Resampling.NEAREST)
    for strip in _cut_strips(image):
        digest.update(strip)
    return digest.hexdigest()


def _cut_strips(image: Image.Image) -> Iterator[bytes]:
    """Give the pixels as bytes, in strips of whole rows, so that no second image is in memory."""
    rows = max(1, _STRIP_BYTES // (image.width * len(image.getbands())))
    if rows >= image.height:
        yield image.tobytes()
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
