"""Opens one image file with Pillow, upright and in 8 bits; the lower half of the one decoder.

Only `cnnclf.images.decode` imports this. It owns what is too large, which of Pillow's errors mean a
damaged file, which way is up, and which of several frames is read.
"""

import contextlib
import importlib
import io
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from cnnclf.errors import ImageError
from cnnclf.images.formats import FORMATS, HEAD_BYTES, describe_content
from cnnclf.images.modes import convert_to_8_bit, describe_mode

# Twice Pillow's own warning level, where Pillow too gives up: 179 million pixels, 0.7 GB as RGB.
MAX_PIXELS = 178_956_970

# From the value of the EXIF tag Orientation (JEITA CP-3451) to what makes the image upright.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})  # rows and columns change places
_COLUMNS_REVERSED = frozenset({2, 3, 6, 7})  # in the upright image
_ROWS_REVERSED = frozenset({3, 4, 7, 8})
_TURNS = {
    2: "mirrored by EXIF",
    3: "rotated by EXIF",
    4: "mirrored by EXIF",
    5: "mirrored and rotated by EXIF",
    6: "rotated by EXIF",
    7: "mirrored and rotated by EXIF",
    8: "rotated by EXIF",
}

_ALL_AT_ONCE_BYTES = 1 << 25  # files up to 32 MiB are read in one go, larger ones as Pillow asks

# What Pillow's plugins raise on damaged content (found by reading them and by mutating files).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


_Enough = Callable[[int, int], tuple[int, int]]
_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """One decoded image.

    Args:
        image: Mode L, RGB or RGBA; upright; the first frame.
        box: (left, upper, right, lower) of `image` that the file fills: all of it, unless a JPEG
            was decoded at a part of its size, which is rounded up to whole pixels.
        width: Columns of the upright image in full size.
        height: Rows of the upright image in full size.
        mode: Pillow's word for the colors in the file.
        format: A key of `FORMATS`.
        oddities: What is unusual about the file, in words; only if asked for.
    """

    image: Image.Image
    box: _Box
    width: int
    height: int
    mode: str
    format: str
    oddities: tuple[str, ...]


def load_image(
    source: Path | bytes,
    *,
    max_pixels: int,
    enough: _Enough | None = None,
    with_oddities: bool = False,
) -> LoadedImage:
    """Read and decode one image.

    Args:
        source: A file, or a file's content.
        max_pixels: Refuse larger images before decoding them.
        enough: From (width, height) of the upright image to the (width, height) that suffice: a
            JPEG is then decoded at a half, a quarter or an eighth if that leaves as many pixels.
            None: always at full size.
        with_oddities: Whether to fill in `oddities`.

    Returns:
        The image.

    Raises:
        ImageError: The content is no image, damaged, or larger than `max_pixels`.
    """
    _quiet_pillow()
    try:
        with _open_source(source) as stream:
            return _load(stream, max_pixels=max_pixels, enough=enough, with_oddities=with_oddities)
    except ImageError as error:
        if isinstance(source, bytes):
            raise
        raise ImageError(f"{_printable(str(source))}: {error.message}", error.hint) from error


def _load(
    stream: BinaryIO, *, max_pixels: int, enough: _Enough | None, with_oddities: bool
) -> LoadedImage:
    image, file_format = _open_image(stream)
    mode, (width, height) = image.mode, image.size
    if width * height > max_pixels:
        raise ImageError(
            f"expected at most {max_pixels:,} pixels, "
            f"received {width} x {height} = {width * height:,}",
            "make the image smaller, or leave it out",
        )
    try:
        oddities = [describe_mode(image)] if with_oddities else []
        orientation, turn = 1, 1
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            turn = image.tag_v2.get(ExifTags.Base.Orientation, 1)
            image.load()  # and turn upright, which Pillow does by itself with these
            box: _Box = (0, 0, *image.size)
        else:
            box = _draft(image, enough)
            image.load()
            orientation = turn = _find_orientation(image)
        upright, deep = convert_to_8_bit(image)
        upright, box = _turn(upright, box, orientation)
        if with_oddities:
            frames = _describe_frames(image, file_format, stream)
            oddities += [*deep, _TURNS.get(turn, ""), frames]
    except MemoryError as error:
        raise ImageError(
            f"expected an image that fits into memory, received {width} x {height}"
        ) from error
    except _DAMAGE as error:
        raise ImageError(_describe_damage(error, file_format, stream)) from error
    if orientation in _SIDEWAYS:
        width, height = height, width
    return LoadedImage(
        image=upright,
        box=box,
        width=width,
        height=height,
        mode=mode,
        format=file_format,
        oddities=tuple(filter(None, oddities)),
    )


def _load_plugins() -> None:
    """Register the plugins of `FORMATS`: Pillow's own lazy way would load all it has at a miss."""
    for plugin, _ in FORMATS.values():
        # Pillow learned AVIF in 11.3; an older one reads everything else.
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"PIL.{plugin}")


_load_plugins()


def _quiet_pillow() -> None:
    """Keep Pillow's warnings (odd EXIF, palettes) from the screen: what matters becomes a note.

    `warnings.catch_warnings` is not safe in threads before Python 3.14, so one entry is put into
    the process's filter list; again if somebody has cleared the list since.
    """
    if _PILLOW_FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW_FILTER[3].pattern)


_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def _open_source(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise ImageError(f"expected an image file, received {kind}")
        stream: BinaryIO = source.open("rb")
        if status.st_size <= _ALL_AT_ONCE_BYTES:
            with stream:
                stream = io.BytesIO(stream.read())
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"expected a file that can be read, received: {reason}") from error
    except ValueError as error:  # a NUL in the path
        raise ImageError(f"expected a file name, received: {error}") from error
    with stream:
        yield stream


def _open_image(stream: BinaryIO) -> tuple[ImageFile.ImageFile, str]:
    """Recognize the format by content and parse the header.

    Does what Image.open does, but looks at a short list of formats and leaves out Pillow's check of
    the size, whose limit and warnings are settings of the whole process.
    """
    head = stream.read(HEAD_BYTES)
    content, hint = describe_content(head)
    for file_format in FORMATS if not content else ():
        factory, accept = Image.OPEN.get(file_format, (None, None))
        accepted = accept is not None and accept(head[:16])
        if factory is None or accepted is not True:  # a str says that this Pillow lacks the library
            continue
        stream.seek(0)
        try:
            image = factory(stream, "")
        except _DAMAGE as error:
            raise ImageError(_describe_damage(error, file_format, stream)) from error
        if image.width < 1 or image.height < 1:
            raise ImageError("expected an image, received one without pixels")
        return image, file_format
    content = content or f"unknown content that begins {head[:8].hex(' ')}"
    raise ImageError(f"expected an image ({', '.join(FORMATS)}), received {content}", hint)


def _draft(image: ImageFile.ImageFile, enough: _Enough | None) -> _Box:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 if that leaves `enough` pixels; give what is filled."""
    if enough is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        width, height = image.size
        sideways = _find_orientation(image) in _SIDEWAYS  # a JPEG's EXIF stands before its pixels
        drafted = image.draft(
            None, enough(height, width)[::-1] if sideways else enough(*image.size)
        )
        if drafted is not None:
            return drafted[1]
    return 0, 0, image.width, image.height


def _find_orientation(image: ImageFile.ImageFile) -> int:
    """Read the orientation (known after loading: PNG may keep it behind the pixels), 1 if none."""
    sources = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
    if not any(name in image.info for name in sources):
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1  # the pixels are whole: a damaged label on them is no reason to lose the image
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def _turn(image: Image.Image, box: _Box, orientation: int) -> tuple[Image.Image, _Box]:
    """Turn an image upright, and what the file fills of it."""
    if orientation not in _TRANSPOSES:
        return image, box
    image = image.transpose(_TRANSPOSES[orientation])
    left, upper, right, lower = box
    if orientation in _SIDEWAYS:
        left, upper, right, lower = upper, left, lower, right
    if orientation in _COLUMNS_REVERSED:
        left, right = image.width - right, image.width - left
    if orientation in _ROWS_REVERSED:
        upper, lower = image.height - lower, image.height - upper
    return image, (left, upper, right, lower)


def _describe_frames(image: ImageFile.ImageFile, file_format: str, stream: BinaryIO) -> str:
    """Say if only the first of several images in a file is read; "" if there is one."""
    if image.format == "MPO":  # a photograph with its preview or depth map: one image to a user
        return ""
    word = "pages" if file_format == "TIFF" else "frames"
    count = getattr(image, "n_frames", 1) if file_format in {"PNG", "WEBP", "AVIF"} else 1
    if file_format in {"GIF", "TIFF"}:
        # Counting means walking through the file; a second reader leaves the first frame in peace.
        stream.seek(0)
        try:
            count = getattr(Image.OPEN[file_format][0](stream, ""), "n_frames", 1)
        except _DAMAGE:
            return f"first of several {word}, later ones damaged"
    if count < 2:
        return ""
    return f"first of {count} pages" if word == "pages" else f"animated, first of {count} frames"


def _describe_damage(error: BaseException, file_format: str, stream: BinaryIO) -> str:
    """Put what Pillow raised into words: how much is missing, or what is wrong."""
    reason = _printable(str(error)) or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return f"expected a {file_format} of moderate size, received: {reason}"
    if "truncated" in reason.lower():
        size = stream.seek(0, io.SEEK_END)
        return (
            f"expected a whole {file_format}, received one that is truncated after {size:,} bytes"
        )
    return f"expected a whole {file_format}, received a damaged one: {reason}"


def _printable(text: str) -> str:
    """Escape line breaks and bytes that are no UTF-8, so that a message stays one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
