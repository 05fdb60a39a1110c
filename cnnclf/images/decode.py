"""The one decoder: the only code that turns bytes into pixels.

Training, evaluation, prediction and export checks all call `decode_image`, so a model never sees
an image that was prepared differently from those it was trained on. The rules and the reasons for
them: docs/decisions/0001-one-decoder.md.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cnnclf.errors import ImageError
from cnnclf.images.fitting_size import fit, flatten, scaled_size
from cnnclf.images.formats import describe_name
from cnnclf.images.input_spec import DECODER_VERSION, FITS, INTERPOLATIONS, InputSpec
from cnnclf.images.kinds import load_signal
from cnnclf.images.pillow_files import (
    MAX_PIXELS,
    FileFacts,
    LoadedImage,
    is_transparent,
    load_16_bit_values,
    load_image,
)

__all__ = [
    "DECODER_VERSION",
    "FITS",
    "INTERPOLATIONS",
    "MAX_PIXELS",
    "ImageInfo",
    "InputSpec",
    "ReducedImage",
    "count_16_bit_values",
    "decode_image",
    "fit_pixels",
    "inspect_image",
    "reduce_image",
]

# A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if each side keeps this many times the pixels it
# needs. With 4 the result differs from a full decode by less than one level of 255 on average.
_SPARE_PIXELS = 4


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image file contains.

    Args:
        width: Columns, after the EXIF orientation is applied.
        height: Rows, after the EXIF orientation is applied.
        mode: Pillow's mode of the file, such as `RGB`, `L`, `P`, `CMYK`, `I;16`.
        format: The format of the content, such as `JPEG`, whatever the file name says.
        pixels_sha256: The same for files that decode to the same pixels, whatever their formats.
            SHA-256 over mode, size and pixels (upright, 8 bits), or over a sample of the pixels.
        exact: Whether `pixels_sha256` covers all pixels, so that different images differ in it.
        note: What is unusual, in words separated by "; ", or "".
        gray: side x side gray values of the whole image, row by row, if they were asked for.
    """

    width: int
    height: int
    mode: str
    format: str
    pixels_sha256: str
    exact: bool
    note: str
    gray: bytes = b""


@dataclass(frozen=True, slots=True)
class ReducedImage:
    """An image small enough to be examined quickly, and what its file contains.

    Args:
        image: Mode L or RGB, upright; transparent pixels over white.
        width: Columns of the image, after the EXIF orientation is applied.
        height: Rows, likewise.
        mode: Pillow's mode of the file.
        format: The format of the content.
        mismatch: That the name of the file belongs to another format; "" if it does not.
        is_transparent: Whether a pixel is not opaque.
        facts: How the file was made.
    """

    image: Image.Image
    width: int
    height: int
    mode: str
    format: str
    mismatch: str
    is_transparent: bool
    facts: FileFacts


def decode_image(
    source: Path | bytes, spec: InputSpec, *, max_pixels: int = MAX_PIXELS
) -> npt.NDArray[np.uint8]:
    """Decode one image into the pixels that a model sees. Thread-safe.

    Args:
        source: A file, or the content of a file.
        spec: Size, colors, fit, interpolation and background.
        max_pixels: Refuse larger images, 1 or more.

    Returns:
        Pixels, uint8 of shape [spec.height, spec.width, spec.channels]; a new array.

    Raises:
        ImageError: The file cannot be read, is not an image, damaged or larger than `max_pixels`.
    """

    def enough(width: int, height: int) -> tuple[int, int]:
        columns, rows = scaled_size(width, height, spec=spec)
        return columns * _SPARE_PIXELS, rows * _SPARE_PIXELS

    if spec.kind != "image":
        loaded = load_signal(
            source,
            spec.kind,
            sound=spec.sound,
            max_pixels=max_pixels,
            value_range=spec.value_range,
        )
    else:
        loaded = load_image(
            source,
            max_pixels=max_pixels,
            enough=None if spec.interpolation == "nearest" else enough,
            value_range=spec.value_range,
            bands=spec.bands,
        )
    return np.asarray(fit(loaded, spec)).reshape(spec.shape).copy()


def fit_pixels(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Prepare an image that is already decoded as `decode_image` prepares a file.

    Args:
        pixels: uint8 [H, W] or [H, W, 1] (gray), [H, W, 3] (RGB) or [H, W, 4] (RGB and opacity),
            upright, of any size.
        spec: Size, colors, fit, interpolation and background.

    Returns:
        Pixels, uint8 of shape [spec.height, spec.width, spec.channels]; a new array.

    Raises:
        ImageError: The array has another shape or dtype, or no pixels.
    """
    pixels = np.asarray(pixels)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in {1, 3, 4})
    if not is_image or not pixels.size:
        raise ImageError(
            "expected uint8 pixels of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"received {pixels.dtype} of shape {pixels.shape}",
            "colors come last; several images are (n, H, W, C), or a list of arrays",
        )
    if pixels.dtype != np.uint8:
        raise _refuse_type(pixels)
    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat))
    width, height = image.size
    loaded = LoadedImage(image, (0, 0, width, height), width, height, image.mode, "", ())
    return np.asarray(fit(loaded, spec)).reshape(spec.shape).copy()


def _refuse_type(pixels: "npt.NDArray[Any]") -> ImageError:
    """Return the error for pixels of another type; the hint is how these become bytes."""
    values, low, high = "", -1.0, -1.0
    if pixels.dtype.kind in "biuf":
        low, high = float(pixels.min()), float(pixels.max())
        values = f" of {low:.4g} to {high:.4g}"
    hint = "scale them to 0 to 255, or give files, whose values are read as in training"
    if low >= 0 and high <= 255:
        scaled = "(255 * pixels)" if high <= 1 else "pixels"
        hint = f'as the values of an image file: {scaled}.round().astype("uint8")'
    return ImageError(f"expected uint8 pixels of 0 to 255, received {pixels.dtype}{values}", hint)


def count_16_bit_values(
    source: Path | bytes, *, bands: tuple[int, ...] | None = None
) -> npt.NDArray[np.int64] | None:
    """Count the values of an image of 16 bits, before they become 8 bits.

    Args:
        source: A file, or the content of a file.
        bands: As in `InputSpec`.

    Returns:
        int64 [65536], the number of pixels (of all colors) by value; None for any other image.

    Raises:
        ImageError: The file cannot be read, is not an image, or is damaged.
    """
    values = load_16_bit_values(source, max_pixels=MAX_PIXELS, bands=bands)
    return None if values is None else np.bincount(values.ravel(), minlength=2**16)


def inspect_image(
    source: Path | bytes,
    *,
    name: str = "",
    kind: str = "image",
    max_pixels: int = MAX_PIXELS,
    exact: bool = True,
    gray_side: int = 0,
    bands: tuple[int, ...] | None = None,
) -> ImageInfo:
    """Decode one image in full and describe it. Thread-safe.

    Args:
        source: A file, or the content of a file.
        name: Name of the file that the content came from, for the note; not needed with a file.
        kind: What the file must hold, as in `InputSpec`.
        max_pixels: Refuse larger images, 1 or more.
        exact: Whether the checksum must cover all pixels. If not, that of a large image covers a
            sample, which costs a small fraction of the decoding time instead of a third.
        gray_side: Height and width of the gray image in the result; 0 for none.
        bands: As in `InputSpec`.

    Returns:
        Size, mode, format, checksum of the pixels and a note.

    Raises:
        ImageError: The file cannot be read, is not an image, damaged or larger than `max_pixels`.
    """
    if kind != "image":
        loaded = load_signal(source, kind, sound=None, max_pixels=max_pixels)
    else:
        loaded = load_image(source, max_pixels=max_pixels, with_oddities=True, bands=bands)
    name = name or (source.name if isinstance(source, Path) else "")
    notes = (describe_name(name, loaded.format), *loaded.oddities)
    image = loaded.image
    if any(oddity.startswith("dark") for oddity in loaded.oddities):
        # Different dark images may be equal in 8 bits.
        values = load_16_bit_values(source, max_pixels=max_pixels, bands=bands)
        image = (
            image
            if values is None
            else Image.fromarray(values.view(np.uint8).reshape(len(values), -1))
        )
    exact = exact or image.width * image.height * len(image.getbands()) <= _SMALL_BYTES
    return ImageInfo(
        width=loaded.width,
        height=loaded.height,
        mode=loaded.mode,
        format=loaded.format,
        pixels_sha256=_hash_pixels(image, exact=exact),
        exact=exact,
        note="; ".join(filter(None, notes)),
        gray=_shrink(loaded.image, gray_side).tobytes() if gray_side else b"",
    )


def _shrink(image: Image.Image, side: int) -> Image.Image:
    way = Image.Resampling.BILINEAR if min(image.size) < side else Image.Resampling.BOX
    small = image.resize((side, side), way, reducing_gap=2.0)
    return flatten(small, _GRAY_SPEC)


def reduce_image(
    source: Path | bytes,
    side: int,
    *,
    name: str = "",
    kind: str = "image",
    bands: tuple[int, ...] | None = None,
    value_range: tuple[float, float] | None = None,
) -> ReducedImage:
    """Decode a whole file, so that damage is found, but keep only a small image. Thread-safe.

    Args:
        source: A file, or the content of a file.
        side: Pixels of the longer side of the small image; smaller images keep their size.
        name: Name of the file that the content came from; not needed with a file.
        kind: What the file must hold, as in `InputSpec`.
        bands: As in `InputSpec`.
        value_range: As in `InputSpec`.

    Raises:
        ImageError: The file cannot be read, is not an image, damaged or larger than `MAX_PIXELS`.
    """

    def enough(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    if kind != "image":
        loaded = load_signal(source, kind, sound=None, max_pixels=MAX_PIXELS)
    else:
        loaded = load_image(
            source,
            max_pixels=MAX_PIXELS,
            enough=enough,
            with_oddities=True,
            bands=bands,
            value_range=value_range,
        )
    name = name or (source.name if isinstance(source, Path) else "")
    image, size = loaded.image, enough(loaded.width, loaded.height)
    has_gaps = is_transparent(image)
    image = image if image.mode == "L" else flatten(image, _ANY_SPEC)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BOX, loaded.box, reducing_gap=2.0)
    return ReducedImage(
        image=image,
        width=loaded.width,
        height=loaded.height,
        mode=loaded.mode,
        format=loaded.format,
        mismatch=describe_name(name, loaded.format),
        is_transparent=has_gaps,
        facts=loaded.facts,
    )


_GRAY_SPEC = InputSpec(1, 1, channels=1)
_ANY_SPEC = InputSpec(1, 1)  # of which only the background is used


# Images up to this size are hashed in full, which is as fast as a sample.
_SMALL_BYTES = 1 << 16
_SAMPLE_SIZE = (64, 64)

# Larger blocks are allocated and freed by the system each time, page by page, which takes longer
# than hashing them.
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
    """Yield the pixels as bytes in strips of whole rows, so that memory holds no second image."""
    rows = max(1, _STRIP_BYTES // (image.width * len(image.getbands())))
    if rows >= image.height:
        yield image.tobytes()
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))).tobytes()
