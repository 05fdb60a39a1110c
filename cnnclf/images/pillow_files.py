"""Opens one image file with Pillow, upright and in 8 bits: the lower half of the one decoder.

Only `cnnclf.images.decode` imports this, and nothing else uses Pillow's openers or plugins. It
decides which images are too large, which of Pillow's errors mean a damaged file, which way is up
and which of several frames is read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from cnnclf.errors import ImageError
from cnnclf.images.deep_colors import arrange_low_bytes, join_bytes, take_other_byte
from cnnclf.images.exif import (
    SIDEWAYS,
    TURNS,
    Box,
    estimate_quality,
    find_orientation,
    read_exif,
    turn_upright,
)
from cnnclf.images.image_opening import open_image, open_source, quiet_pillow
from cnnclf.images.image_words import (
    DAMAGE,
    describe_damage,
    describe_frames,
    describe_mode,
    has_deep_colors,
    printable,
)
from cnnclf.images.modes import (
    RawValues,
    convert_to_8_bit,
    convert_values,
    describe_peak,
    scale_values,
)
from cnnclf.images.raw_values import read_values
from cnnclf.images.tiff_channels import check_bands

# Twice Pillow's own warning level, where Pillow too gives up: 179 million pixels, 0.7 GB as RGB.
MAX_PIXELS = 178_956_970


_FEW_HIGH_BITS = 64  # of 256: values below a quarter of the 16 bits


_Enough = Callable[[int, int], tuple[int, int]]


class FileFacts(NamedTuple):
    """What a file reports about how it was made.

    Args:
        turn: How EXIF turns the stored pixels, in words; "" if they are upright.
        camera: Maker and model in EXIF; "" for none.
        jpeg_quality: 1 to 100, as libjpeg counts, estimated from the first quantization table; None
            if there is none.
        taken: When the image was taken, as EXIF writes it; "" for unknown.
    """

    turn: str
    camera: str
    jpeg_quality: int | None
    taken: str = ""


NO_FACTS: Final = FileFacts("", "", None)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image.

    Args:
        image: Mode L, RGB or RGBA; upright; the first frame.
        box: (left, upper, right, lower) of `image` that the file fills: all of it, unless a JPEG
            was decoded at a fraction of its size, which is rounded up to whole pixels.
        width: Columns of the upright image in full size.
        height: Rows of the upright image in full size.
        mode: Pillow's word for the colors in the file.
        format: A key of `FORMATS`.
        oddities: What is unusual about the file, in words; only with `with_oddities`.
        facts: How the file was made; only with `with_oddities`.
    """

    image: Image.Image
    box: Box
    width: int
    height: int
    mode: str
    format: str
    oddities: tuple[str, ...]
    facts: FileFacts = NO_FACTS


def load_image(
    source: Path | bytes,
    *,
    max_pixels: int,
    enough: _Enough | None = None,
    with_oddities: bool = False,
    value_range: tuple[float, float] | None = None,
    bands: tuple[int, ...] | None = None,
) -> LoadedImage:
    """Read and decode one image.

    Args:
        source: A file, or a file's content.
        max_pixels: Refuse larger images before decoding them.
        enough: Maps (width, height) of the upright image to a (width, height) that is enough: a
            JPEG is then decoded at 1/2, 1/4 or 1/8 of its size if at least that many pixels remain.
            None: always at full size.
        with_oddities: Whether to fill in `oddities`.
        value_range: As in `InputSpec`.
        bands: As in `InputSpec`.

    Raises:
        ImageError: The content is not an image, damaged, or larger than `max_pixels`.
    """
    quiet_pillow()
    try:
        with open_source(source) as stream:
            values = read_values(stream, max_pixels=max_pixels, bands=bands)
            if values is not None:
                return _load_values(values, value_range)
            loaded = _load(
                stream,
                max_pixels=max_pixels,
                enough=enough,
                with_oddities=with_oddities,
                value_range=value_range,
            )
            return loaded if bands is None else _take_bands(loaded, bands)
    except ImageError as error:
        if isinstance(source, bytes):
            raise
        raise ImageError(f"{printable(str(source))}: {error.message}", error.hint) from error


def load_16_bit_values(
    source: Path | bytes, *, max_pixels: int, bands: tuple[int, ...] | None = None
) -> npt.NDArray[np.uint16] | None:
    """Read the values of an image of 16 bits as they are in the file, not turned upright.

    Args:
        source: A file, or a file's content.
        max_pixels: Refuse larger images before decoding them.
        bands: As in `InputSpec`.

    Returns:
        uint16 [H, W], or [H, W, 3] for colors; None if the image has another depth.

    Raises:
        ImageError: The content is not an image, damaged, or larger than `max_pixels`.
    """
    quiet_pillow()
    with open_source(source) as stream:
        found = read_values(stream, max_pixels=max_pixels, bands=bands)
        if found is not None:
            is_deep = found.values.dtype == np.uint16 and found.value_range is None
            return found.values.squeeze() if is_deep else None
        image, file_format = open_image(stream)
        is_gray = image.mode.startswith("I;16") or (
            image.mode == "I" and file_format in {"PNG", "PPM"}
        )
        has_colors = has_deep_colors(image)
        if image.width * image.height > max_pixels or not (is_gray or has_colors):
            return None
        try:
            image.load()
            if has_colors:
                colors = join_bytes(image, _read_low_bytes(stream, file_format))
                return colors if bands is None else colors[:, :, list(bands)]
        except (MemoryError, *DAMAGE) as error:
            raise ImageError(describe_damage(error, file_format, stream=stream)) from error
        return np.ascontiguousarray(image).astype(np.uint16)


def _load(
    stream: BinaryIO,
    *,
    max_pixels: int,
    enough: _Enough | None,
    with_oddities: bool,
    value_range: tuple[float, float] | None,
) -> LoadedImage:
    image, file_format = open_image(stream)
    mode, (width, height) = image.mode, image.size
    if width * height > max_pixels:
        raise ImageError(
            f"too many pixels: {width} x {height} = {width * height:,}, "
            f"the limit is {max_pixels:,}",
            "make the image smaller, or remove it",
        )
    try:
        oddities = [describe_mode(image)] if with_oddities else []
        facts = NO_FACTS
        has_16_bits = has_deep_colors(image)
        orientation, turn = 1, 1
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            turn = image.tag_v2.get(ExifTags.Base.Orientation, 1)
            image.load()  # and turn upright, which Pillow does by itself with these
            box: Box = (0, 0, *image.size)
        else:
            box = _draft(image, enough)
            image.load()
            orientation = turn = find_orientation(image)
        upright, deep = convert_to_8_bit(image, value_range)
        if has_16_bits:
            upright, dark = _deepen(upright, image, stream, file_format, value_range)
            deep = dark if with_oddities else []
        upright, box = turn_upright(upright, box, orientation=orientation)
        if with_oddities and is_transparent(upright):
            deep = [*deep, "transparent pixels, blended with the background"]
        if with_oddities:
            frames = describe_frames(image, file_format, stream=stream)
            oddities += [*deep, TURNS.get(turn, ""), frames]
            camera, taken = read_exif(image)
            facts = FileFacts(TURNS.get(turn, ""), camera, estimate_quality(image), taken)
    except MemoryError as error:
        raise ImageError(f"not enough memory to decode {width} x {height} pixels") from error
    except DAMAGE as error:
        raise ImageError(describe_damage(error, file_format, stream=stream)) from error
    if orientation in SIDEWAYS:
        width, height = height, width
    return LoadedImage(
        image=upright,
        box=box,
        width=width,
        height=height,
        mode=mode,
        format=file_format,
        oddities=tuple(filter(None, oddities)),
        facts=facts,
    )


def _load_values(found: RawValues, value_range: tuple[float, float] | None) -> LoadedImage:
    pixels, notes = convert_values(found, value_range)
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    image, box = turn_upright(
        Image.fromarray(np.ascontiguousarray(flat)),
        (0, 0, pixels.shape[1], pixels.shape[0]),
        orientation=found.orientation,
    )
    return LoadedImage(
        image=image,
        box=box,
        width=image.width,
        height=image.height,
        mode=found.mode,
        format=found.format,
        oddities=tuple(filter(None, [*found.oddities, *notes, TURNS.get(found.orientation, "")])),
    )


def _take_bands(loaded: LoadedImage, bands: tuple[int, ...]) -> LoadedImage:
    """Keep some channels of an image that Pillow opened."""
    values = np.asarray(loaded.image)
    values = values if values.ndim == 3 else values[:, :, None]
    chosen = values[:, :, check_bands(bands, values.shape[2])]
    image = Image.fromarray(np.ascontiguousarray(chosen[:, :, 0] if len(bands) == 1 else chosen))
    return replace(loaded, image=image, mode=image.mode)


def _read_low_bytes(stream: BinaryIO, file_format: str) -> Image.Image:
    """Decode a file again, with the low bytes of its colors as values."""
    stream.seek(0)
    image: ImageFile.ImageFile = Image.OPEN[file_format][0](stream, "")
    arguments = [tile.args for tile in image.tile]
    image.tile = [tile._replace(args=take_other_byte(tile.args)) for tile in image.tile]
    image.load()
    return arrange_low_bytes(image, arguments)


def _deepen(
    upright: Image.Image,
    image: ImageFile.ImageFile,
    stream: BinaryIO,
    file_format: str,
    value_range: tuple[float, float] | None,
) -> tuple[Image.Image, list[str]]:
    """Use all 16 bits of colors for a range, and say whether they use few of their 16 bits."""
    dark = int(np.asarray(image)[:, :, :3].max()) < _FEW_HIGH_BITS
    if value_range is None and not dark:
        return upright, []
    values = join_bytes(image, _read_low_bytes(stream, file_format))
    oddities = describe_peak(int(values.max()))[1:]
    if value_range is None:
        return upright, oddities
    colors = Image.fromarray(scale_values(values, value_range))
    if upright.mode == "RGBA":
        colors.putalpha(upright.getchannel("A"))
    return colors, oddities


def _draft(image: ImageFile.ImageFile, enough: _Enough | None) -> Box:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 if `enough` pixels remain; return the filled box."""
    if enough is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        width, height = image.size
        sideways = find_orientation(image) in SIDEWAYS  # a JPEG's EXIF comes before its pixels
        drafted = image.draft(
            None, enough(height, width)[::-1] if sideways else enough(*image.size)
        )
        if drafted is not None:
            return drafted[1]
    return 0, 0, image.width, image.height


def is_transparent(image: Image.Image) -> bool:
    """Return whether an image has pixels that are not opaque."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
